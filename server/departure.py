"""An answer on its way: sent as far as its client takes it at once; the rest is left to the thread that polls.

So a client that reads slowly, or not at all, keeps no thread. What is left of a file stays in the file; other answers
are kept in memory, of which there is so much for all together, and beyond that the thread waits. How slow is too slow,
`uptake` tells.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

# So much of one file at a time, that no client keeps the thread that polls.
_FILE_PART = 2**18
# As long as its client takes a file without such pauses, and for so long, its own thread sends it: to read it may take
# a disk its time.
_PAUSE, _SECONDS = 0.05, 1.0


class Memory:
    """Bytes that may be kept, for all connections together. For several threads.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Take some; more than there is may be taken, and is owed."""
        with self._lock:
            self._free -= count

    @property
    def short(self) -> bool:
        """Whether more has been taken than there is."""
        return self._free < 0


@dataclass(slots=True)
class _FilePart:
    descriptor: int
    offset: int
    count: int


class Departure(socket.socket):
    """A client's connection, sent on without waiting.

    Args:
        accepted: the connection, which this takes over.
        memory: where what is kept counts.
    """

    def __init__(self, accepted: socket.socket, memory: Memory) -> None:
        family, kind, proto = accepted.family, accepted.type, accepted.proto
        super().__init__(family, kind, proto, accepted.detach())
        self._memory = memory
        self._left: deque[memoryview | _FilePart] = deque()

    @property
    def left(self) -> bool:
        """Whether anything has not been taken yet."""
        return bool(self._left)

    def sendall(self, data: bytes | memoryview, flags: int = 0) -> None:  # type: ignore[override]  # what gunicorn sends
        """Send what is taken at once, and keep the rest.

        Raises:
            OSError: the client has gone.
        """
        sent = 0 if self._left else self._send(data, flags)
        if sent == len(data):
            return
        view = memoryview(data)[sent:]
        self._left.append(view)
        self._memory.take(len(view))
        while self._memory.short and self._left:
            self._writable(None)
            self.go_on()

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send of a file what is taken without pauses, and keep the rest of it open.

        Raises:
            OSError: the client has gone.
        """
        count = os.fstat(file.fileno()).st_size - offset if count is None else count
        self._left.append(_FilePart(os.dup(file.fileno()), offset, count))
        until = time.monotonic() + _SECONDS
        while self._left and self._writable(_PAUSE) and time.monotonic() < until:
            self.go_on()
        return count

    def go_on(self) -> None:
        """Send what is taken now of what is left.

        Raises:
            OSError: the client has gone, or a file has become shorter than the client was told.
        """
        for _ in range(len(self._left)):
            part = self._left[0]
            if isinstance(part, _FilePart):
                whole = self._send_file(part)
            else:
                sent = self._send(part)
                self._memory.take(-sent)
                self._left[0] = part[sent:]
                whole = sent == len(part)
            if not whole:
                return
            self._left.popleft()

    def close(self) -> None:
        """Close, and let go of what is left."""
        while self._left:
            part = self._left.popleft()
            if isinstance(part, _FilePart):
                os.close(part.descriptor)
            else:
                self._memory.take(-len(part))
        super().close()

    def _send(self, data: bytes | memoryview, flags: int = 0) -> int:
        try:
            return self.send(data, flags | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def _send_file(self, part: _FilePart) -> bool:
        os.set_blocking(self.fileno(), False)
        try:
            sent = os.sendfile(self.fileno(), part.descriptor, part.offset, min(part.count, _FILE_PART))
        except BlockingIOError:
            return False
        finally:
            os.set_blocking(self.fileno(), self.getblocking())
        if not sent and part.count:
            raise BrokenPipeError(errno.EPIPE, "the file has become shorter")
        part.offset += sent
        part.count -= sent
        if part.count:
            return False
        os.close(part.descriptor)
        return True

    def _writable(self, seconds: float | None) -> bool:
        """Wait until the client takes more, or is cut off; whether it was within that time."""
        poll = select.poll()
        poll.register(self, select.POLLOUT)
        return bool(poll.poll(None if seconds is None else seconds * 1e3))
