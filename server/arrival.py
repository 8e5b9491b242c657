"""A request as it comes in: gathered by the thread that polls, until another one can read all of it without waiting.

So a client that sends slowly, or stops, occupies memory, which is bounded, and no thread. Nothing is decided here:
gunicorn's parser reads every byte afterwards, in its order, and how long a body is, is what that parser says of the
head. Only when a thread is given to the request is found out here; what that parser will refuse is handed over at
once, for it to say why.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable
from typing import Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

# The longest head; gunicorn would gather 800 KB of one.
MAX_HEAD = 65_536
# Bodies up to here are gathered for everyone; larger ones share what memory there is for them.
SMALL_BODY = 65_536
# How long a client may take for a head, and pause within a body; and how fast a body must come beside that. A phone
# on a slow line has eleven minutes for 10 MB.
PATIENCE, FLOOR = 10.0, 16_384

# At a time: of a head, which most often is all there is, and of a body.
_READ_HEAD, _READ = 8192, 262_144
_END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LONGEST_REQUEST_LINE = 8190
# As gunicorn reads it, or more: what it refuses of these it refuses later.
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]+)(?:[ \t]*;[^\r\n]*)?\r\n")
_LONGEST_CHUNK_LINE = 8190


class BodyTooLong(Exception):
    """More of a body without a length has come than any request may have."""


class Arrival:
    """What has come of the next request of one connection.

    It is what gunicorn's parser reads from, in place of the socket. For the thread that polls, and after that for
    the one that reads.

    Args:
        sock: the client's, not blocking while it is received from.
        cfg: gunicorn's settings.
        client: its address.
        most: the longest body that is of any use, by its type; a longer one is refused for its length, unread.

    Attributes:
        whole: whether all of the request is here.
        asked: whether the client waited to be asked for the body, and has been.
        until: when, by `time.monotonic`, the next part must have come.
    """

    def __init__(self, sock: socket.socket, cfg: Any, client: Any, most: Callable[[str], int]) -> None:
        self._sock, self._cfg, self._client, self._most = sock, cfg, client, most
        self._latest = float("inf")
        self._begin(bytearray())

    def _begin(self, data: bytearray) -> None:
        self._data = data
        self._read = 0  # how far the parser has read
        self._searched = 0
        self._head = 0  # its length, once it is here
        self._needed = 0  # bytes of the whole request, once they are known
        self._chunks: _Chunks | None = None
        self._longest = 0
        self._began = 0.0
        self.whole = self.asked = False
        self.until = float("inf")

    # While it comes.

    def receive(self) -> bool:
        """Take what is there.

        Returns:
            Whether the request can be read without waiting: it is whole, or will be refused.

        Raises:
            OSError: the client has gone, or has closed before its request was whole.
            LimitRequestHeaders: the head is too long.
            BodyTooLong: the body is, and has told no length.
        """
        try:
            part = self._sock.recv(self._room())
        except BlockingIOError:  # woken for nothing
            return self.ready()
        if not part:
            raise ConnectionResetError("closed within a request")
        self._data += part
        return self.ready()

    def restart(self, ahead: bytes) -> bool:
        """Go on to the next request.

        Args:
            ahead: what the parser has read of it already.

        Returns:
            Whether anything of it has come; `ready` tells the rest.
        """
        self._begin(bytearray(ahead) + self._data[self._read :])
        return bool(self._data)

    def forget(self) -> None:
        """Let go of all that has come: the connection is being closed."""
        self._begin(bytearray())

    def ready(self) -> bool:
        """Whether the request can be read without waiting; see `receive`."""
        ready = self._known() and self._come()
        if not ready:
            now = time.monotonic()
            self._began = self._began or now
            self.until = self._began + PATIENCE
            if self._head:
                self.until = min(now + PATIENCE, self.until + len(self._data) / FLOOR)
            self.until = min(self.until, self._latest)
        return ready

    def hurry(self, head: float, body: float) -> None:
        """Give what is coming now and later at most so many seconds, by how far it is."""
        self._latest = time.monotonic() + (body if self._head else head)
        self.until = min(self.until, self._latest)

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return len(self._data)

    @property
    def large(self) -> bool:
        """Whether it has a body that counts against the memory for those."""
        return bool(self._head) and max(self._needed, len(self._data)) - self._head > SMALL_BODY

    def rate(self) -> float:
        """Bytes a second, so far."""
        return len(self._data) / (time.monotonic() - self._began + 1.0)

    def _room(self) -> int:
        if not self._head:
            return min(_READ_HEAD, MAX_HEAD - len(self._data))
        return min(_READ, self._needed - len(self._data)) if self._needed else _READ

    def _known(self) -> bool:
        """Whether the head is here, or will be refused."""
        if self._head:
            return True
        data = self._data
        end = data.find(_END, max(0, self._searched - 3))
        if end >= 0:
            self._head = end + len(_END)
            self._frame(bytes(data[: self._head]))
            return True
        if _BARE_LF.search(data, self._searched):
            return True
        self._searched = len(data)
        if len(data) < MAX_HEAD:
            return False
        # After an empty line too, which is allowed.
        if data.find(b"\r\n", 2, 2 + _LONGEST_REQUEST_LINE + 2) < 0:
            return True
        raise LimitRequestHeaders(f"over {MAX_HEAD} bytes")

    def _frame(self, head: bytes) -> None:
        """Find out how long the body is."""
        named = head.lower()
        if b"\r\ncontent-length:" not in named and b"\r\ntransfer-encoding:" not in named:
            self._needed = self._head
            return
        try:
            request = Request(self._cfg, IterUnreader([head]), self._client)
        except Exception:  # noqa: BLE001 - whatever it is, the thread meets the same, and answers it
            return
        self._longest = self._most(next((value for name, value in request.headers if name == "CONTENT-TYPE"), ""))
        if isinstance(request.body.reader, ChunkedReader):
            self._chunks = _Chunks(self._head)
        elif request.body.reader.length <= self._longest:
            self._needed = self._head + request.body.reader.length
        else:
            return
        if request._expected_100_continue and len(self._data) < max(self._needed, self._head + 1):
            self.asked = True
            with contextlib.suppress(OSError):  # it will send unasked, or has gone
                self._sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _come(self) -> bool:
        """Whether the body is here, or will be refused."""
        if self._chunks is not None:
            try:
                self.whole = self._chunks.ended(self._data)
            except ValueError:
                return True
            if not self.whole and len(self._data) - self._head > self._longest:
                raise BodyTooLong
            return self.whole
        self.whole = 0 < self._needed <= len(self._data)
        return self.whole or not self._needed

    # When it is read: what gunicorn calls of a socket.

    def recv(self, size: int) -> bytes:
        """The next bytes; the connection's own after those that were gathered."""
        if self._read == len(self._data):
            return self._sock.recv(size)
        part = bytes(memoryview(self._data)[self._read : self._read + size])
        self._read += len(part)
        if self._read == len(self._data):
            self._data, self._read = bytearray(), 0
        return part

    def gettimeout(self) -> float | None:
        """The socket's."""
        return self._sock.gettimeout()

    def settimeout(self, seconds: float | None) -> None:
        """The socket's."""
        self._sock.settimeout(seconds)


class _Chunks:
    """Finds the end of a chunked body while it grows."""

    def __init__(self, start: int) -> None:
        self._at = self._searched = start
        self._trailers = False

    def ended(self, data: bytearray) -> bool:
        """Whether the end has come.

        Raises:
            ValueError: it is malformed, so that gunicorn will refuse it as far as it has come.
        """
        while not self._trailers:
            line = _CHUNK_LINE.match(data, self._at)
            if line is None:
                if data.find(b"\r\n", self._at) >= 0 or len(data) - self._at > _LONGEST_CHUNK_LINE:
                    raise ValueError("not the size of a chunk")
                return False
            size, start = int(line[1], 16), line.end()
            if not size:
                self._at = self._searched = start
                self._trailers = True
                break
            end = start + size
            if len(data) < end + 2:
                return False
            if not data.startswith(b"\r\n", end):
                raise ValueError("no end of a chunk")
            self._at = end + 2
        if data.startswith(b"\r\n", self._at) or data.find(_END, max(self._at, self._searched - 3)) >= 0:
            return True
        if _BARE_LF.search(data, self._searched):
            raise ValueError("a line that ends otherwise")
        self._searched = len(data)
        return False
