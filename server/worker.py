"""gunicorn's threaded worker, with two manners of ours.

A stop loses nobody: connections that the kernel has accepted but gunicorn has not yet are answered too.
And a request that is no HTTP gets a problem document, not gunicorn's page.
"""

from __future__ import annotations

import contextlib
import socket
import time
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors as malformed
from gunicorn.workers.gthread import ThreadWorker

from server.headers import SECURITY_HEADERS
from server.problem import MEDIA_TYPE, Problem

_TOO_LONG = Problem(414, "the address is too long", "send a long query as JSON by POST /v1/search")
_TOO_MANY_HEADERS = Problem(431, "the headers are too large", "send fewer or shorter headers")
_NO_HTTP = Problem(400, "the request is not well-formed HTTP", "check the client")
_FAULT = Problem(500, "the service met a fault of its own", "its log says more")


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """The worker class that the service runs."""

    _last_notified = 0.0

    def notify(self) -> None:
        """Tell the master that we live, once a second: at every request it costs a few per cent of a search."""
        now = time.monotonic()
        if now - self._last_notified >= 1.0:
            self._last_notified = now
            super().notify()

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer one request in one packet: gunicorn sends head and body apart, which wakes the client twice."""
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            return super().handle_request(req, conn)
        finally:
            with contextlib.suppress(OSError):  # the client may have gone
                conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or cease to accept; for good only after those who wait in the kernel's queue."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                taken = -1
                while taken != self.nr_conns:
                    taken = self.nr_conns
                    self.accept(listener)
                # From here on the kernel refuses at once, which a client can act on.
                listener.close()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:  # noqa: ARG002
        """Answer a request that never reached the application."""
        if isinstance(exc, malformed.LimitRequestLine):
            problem = _TOO_LONG
        elif isinstance(exc, malformed.LimitRequestHeaders):
            problem = _TOO_MANY_HEADERS
        elif isinstance(exc, malformed.ParseException):
            problem = _NO_HTTP
        else:
            self.log.exception("a request failed outside the application")
            problem = _FAULT
        try:
            client.sendall(_http_answer(problem))
        except OSError:
            self.log.debug("the client has gone before it was told what was wrong")


def _http_answer(problem: Problem) -> bytes:
    body = problem.encode()
    headers = (
        ("Content-Type", MEDIA_TYPE),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
        *SECURITY_HEADERS,
    )
    lines = [
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        *(f"{n}: {v}" for n, v in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
