"""Admission control: a WSGI middleware that limits how many requests are processed, how many wait, and how long.

A request gets a slot at once, or waits for one, first come first served, in its own thread: threads are the queue. When
the queue is full a request gets 429 at once, since waiting beyond the deadline would be useless; one whose deadline
passes while it waits gets 503.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from sceneseek.errors import DeadlinePassed, Overloaded, TryAgain
from sceneseek_server.responses import DEADLINE, PROBLEM_MEDIA_TYPE, SECURITY_HEADERS, encoded, problem_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# For operators, who need them most during an overload.
ALWAYS_ANSWERED = frozenset({"/healthz", "/readyz", "/metrics"})

# The weight of the last request in the average time between two that leave.
_WEIGHT = 0.05


class Admission:
    """The middleware. Thread-safe.

    Args:
        application: the application behind it.
        slots: how many requests it processes at a time.
        queue: how many more may wait.
        seconds: from a request's arrival until its answer is of no use.
        on_rejected: called with the method and the error of each rejected request.

    Attributes:
        waiting: for each waiting request, in order, a lock that is released when it gets a slot.
    """

    def __init__(
        self,
        application: WSGIApplication,
        slots: int,
        queue: int,
        seconds: float,
        on_rejected: Callable[[str, TryAgain], object] = lambda _method, _error: None,
    ) -> None:
        self._application, self.on_rejected = application, on_rejected
        self._free, self._queue, self._seconds = slots, queue, seconds
        self.waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()
        self._left, self._interval = time.monotonic(), 0.0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or reject it."""
        if environ["PATH_INFO"] in ALWAYS_ANSWERED:
            return self._application(environ, start_response)
        environ[DEADLINE] = time.monotonic() + self._seconds
        try:
            self._enter(environ[DEADLINE])
        except TryAgain as error:
            self.on_rejected(environ["REQUEST_METHOD"], error)
            return _rejection(error, environ["REQUEST_METHOD"], start_response)
        try:
            return self._application(environ, start_response)
        finally:
            self._leave()

    def _enter(self, deadline: float) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            after = len(self.waiting) * self._interval
            if len(self.waiting) >= self._queue:
                raise Overloaded("too many requests are being answered or waiting", "ask again a little later", after)
            turn = threading.Lock()
            turn.acquire()
            self.waiting.append(turn)
        if turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return
        with self._lock:
            if turn not in self.waiting:  # it got a slot at the last moment
                return
            self.waiting.remove(turn)
        raise DeadlinePassed(f"the request waited longer than {self._seconds:g} s", "ask again a little later", after)

    def _leave(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self.waiting:
                self._interval += _WEIGHT * (now - self._left - self._interval)
                self.waiting.popleft().release()
            else:
                self._free += 1
            self._left = now


def _rejection(error: TryAgain, method: str, start_response: StartResponse) -> Iterable[bytes]:
    """The answer to a rejected request; it is cheap, since it is sent under load."""
    body = encoded(problem_of(error))
    headers = [
        ("Content-Type", PROBLEM_MEDIA_TYPE),
        ("Content-Length", str(len(body))),
        ("Retry-After", str(math.ceil(error.retry_after))),
        ("Cache-Control", "no-store"),
        *SECURITY_HEADERS,
    ]
    start_response(f"{error.status} {HTTPStatus(error.status).phrase}", headers)
    return [b""] if method == "HEAD" else [body]
