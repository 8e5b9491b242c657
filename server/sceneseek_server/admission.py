"""Admission control: limits the requests processed at a time, and their waiting time.

`Admission` is a WSGI middleware. A request gets a slot immediately, or waits for one in its own thread, first come,
first served. If the queue is full, the request gets 429 immediately; if its deadline passes while it waits, 503.
Requests that may decode a picture (uploads and thumbnails) have separate slots and a separate queue, so text searches
never wait for them.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sceneseek.errors import DeadlinePassed, Overloaded, TryAgain
from sceneseek_server.responses import DEADLINE, PROBLEM_MEDIA_TYPE, SECURITY_HEADERS, encode_problem, problem_of
from sceneseek_server.service import picture_slots

# Operators need these paths most during an overload.
ALWAYS_ANSWERED = frozenset({"/healthz", "/readyz", "/metrics"})

# The weight of the last request in the moving average of the time between two completed requests.
_WEIGHT = 0.05
_LATER = "ask again a little later"


class Admission:
    """The middleware. Thread-safe.

    Args:
        application: the wrapped application.
        slots: requests processed at a time; in addition, a quarter as many with pictures.
        queue: requests that may wait; in addition, as many with pictures.
        seconds: deadline of a request, from its arrival.
        on_rejected: called with the method and the error of each rejected request.

    Attributes:
        others, pictures: the slots for requests without and with pictures.
    """

    def __init__(
        self,
        application: WSGIApplication,
        slots: int,
        queue: int,
        seconds: float,
        on_rejected: Callable[[str, TryAgain], object] = lambda _method, _error: None,
    ) -> None:
        self._application, self.on_rejected, self._seconds = application, on_rejected, seconds
        self.others, self.pictures = Slots(slots, queue), Slots(picture_slots(slots), queue)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Process a request, or reject it."""
        if environ["PATH_INFO"] in ALWAYS_ANSWERED:
            return self._application(environ, start_response)
        environ[DEADLINE] = time.monotonic() + self._seconds
        slots = self.pictures if _decodes(environ) else self.others
        try:
            slots.enter(environ[DEADLINE])
        except TryAgain as error:
            self.on_rejected(environ["REQUEST_METHOD"], error)
            return _rejection(error, environ, start_response)
        try:
            return self._application(environ, start_response)
        finally:
            slots.leave()


class Slots:
    """A number of slots, and the queue for them. Thread-safe.

    Attributes:
        waiting: a lock per waiting request, in order, which is released when the request gets a slot.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self._free, self._queue = slots, queue
        self.waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()
        self._left, self._interval = time.monotonic(), 0.0

    def enter(self, deadline: float) -> None:
        """Take a slot, or wait for one.

        Raises:
            Overloaded: the queue is full.
            DeadlinePassed: no slot became free before the deadline.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return
            after = len(self.waiting) * self._interval
            if len(self.waiting) >= self._queue:
                raise Overloaded("too many requests are in progress or waiting", _LATER, after)
            turn = threading.Lock()
            turn.acquire()
            self.waiting.append(turn)
        if turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return
        with self._lock:
            if turn not in self.waiting:  # a slot became free at the last moment
                return
            self.waiting.remove(turn)
        raise DeadlinePassed("the deadline passed while the request waited", _LATER, after)

    def leave(self) -> None:
        """Free the slot, or pass it to the request that has waited longest."""
        with self._lock:
            now = time.monotonic()
            if self.waiting:
                self._interval += _WEIGHT * (now - self._left - self._interval)
                self.waiting.popleft().release()
            else:
                self._free += 1
            self._left = now


def _decodes(environ: WSGIEnvironment) -> bool:
    """Whether a request may decode pictures, each of which takes about a hundred times as long as a search."""
    content_type: str = environ.get("CONTENT_TYPE", "")
    path: str = environ["PATH_INFO"]
    return (
        environ["REQUEST_METHOD"] == "PUT"
        or content_type.lstrip().lower().startswith("multipart/")
        or path.rstrip("/").endswith("/thumbnail")
    )


def _rejection(error: TryAgain, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The response to a rejected request; cheap, since it is sent under load."""
    body = encode_problem(problem_of(error), environ["PATH_INFO"])
    headers = [
        ("Content-Type", PROBLEM_MEDIA_TYPE),
        ("Content-Length", str(len(body))),
        ("Retry-After", str(math.ceil(error.retry_after))),
        ("Cache-Control", "no-store"),
        *SECURITY_HEADERS,
    ]
    start_response(f"{error.status} {HTTPStatus(error.status).phrase}", headers)
    return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [body]
