"""Connections that are being closed: told that nothing more comes, and read from until the client has closed too.

A connection that is closed while bytes of the client are unread is reset by the kernel, and the last answer may be
lost with it. Waiting for the client is done here, beside everything else, so that one who never closes delays nobody.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable

_SECONDS = 2.0
_MOST_BYTES = 2**20


class Lingering:
    """The connections on their way out. For the thread that polls.

    Args:
        poller: what the service waits at; its keys' data are called with the socket.
        gone: called once for each connection, when it is closed.
    """

    def __init__(self, poller: selectors.BaseSelector, gone: Callable[[], None]) -> None:
        self._poller, self._gone = poller, gone
        # In the order of their time, since each gets as much.
        self._until: dict[socket.socket, float] = {}
        self._read: dict[socket.socket, int] = {}

    def take(self, connection: socket.socket) -> None:
        """Begin to close a connection that the poller does not hold."""
        try:
            connection.setblocking(False)
            connection.shutdown(socket.SHUT_WR)
            self._poller.register(connection, selectors.EVENT_READ, self._readable)
        except (OSError, ValueError, KeyError):  # the client has closed already
            self._close(connection)
            return
        self._until[connection] = time.monotonic() + _SECONDS
        self._read[connection] = 0

    def hurry(self, seconds: float) -> None:
        """Give all that are left at most so long."""
        limit = time.monotonic() + seconds
        self._until = {connection: min(until, limit) for connection, until in self._until.items()}

    def sweep(self) -> None:
        """Close those whose time is over."""
        now = time.monotonic()
        for connection in [c for c, until in self._until.items() if until <= now]:
            self._end(connection)

    def _readable(self, connection: socket.socket) -> None:
        try:
            part = len(connection.recv(65_536))
        except BlockingIOError:
            return
        except OSError:
            part = 0
        self._read[connection] += part
        if not part or self._read[connection] > _MOST_BYTES:
            self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        del self._until[connection], self._read[connection]
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._poller.unregister(connection)
        self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.close()
        self._gone()
