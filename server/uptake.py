"""Whether a client takes what it is sent: one that reads slower than a floor, or not at all, must not keep a thread.

The kernel knows: for how long data has been waiting to be taken, and how much was. It is asked only about requests that
last, so that it costs the others nothing.
"""

from __future__ import annotations

import contextlib
import socket
import struct

# How long a client may take nothing; and how fast it must take an answer beside that.
PATIENCE, FLOOR = 10.0, 16_384

# Of Linux' `struct tcp_info`: bytes acknowledged, and microseconds in which there was something to be taken.
_TAKEN, _BUSY, _SIZE = 120, 168, 176
_AT_ONCE = struct.pack("ii", 1, 0)


class Uptake:
    """One connection's answer on its way.

    Args:
        sock: the client's.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._first = self._last = _counts(sock)

    def too_slow(self) -> bool:
        """Whether it is not worth waiting for any longer."""
        taken, busy = now = _counts(self._sock)
        if taken > self._last[0]:
            self._last = now
        paused = busy - self._last[1]
        return paused > PATIENCE or busy - self._first[1] > PATIENCE + (taken - self._first[0]) / FLOOR


def cut_off(sock: socket.socket) -> None:
    """End a connection that another thread sends on: it meets a broken pipe, and the kernel drops what is unsent."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        sock.shutdown(socket.SHUT_RDWR)


def _counts(sock: socket.socket) -> tuple[int, float]:
    """Bytes taken and seconds busy, since the connection was made; 0 where the kernel does not tell."""
    try:
        facts = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except OSError:
        return 0, 0.0
    if len(facts) < _SIZE:
        return 0, 0.0
    return struct.unpack_from("Q", facts, _TAKEN)[0], struct.unpack_from("Q", facts, _BUSY)[0] / 1e6
