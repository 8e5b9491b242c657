"""Admission control: how many requests are processed, how many wait and how long, and how many pictures are decoded.

`Admission` is a WSGI middleware. A request gets a slot at once, or waits for one, first come first served, in its own
thread: threads are the queue. When the queue is full a request gets 429 at once, since waiting beyond the deadline
would be useless; one whose deadline passes while it waits gets 503. Requests that may have a picture decoded (uploads
and thumbnails) have slots and a queue of their own, so a text search never waits for them.

`Decoders` lets few pictures be decoded at a time, within the deadlines of their requests.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sceneseek.errors import DeadlinePassed, Overloaded, TryAgain
from sceneseek_server.responses import DEADLINE, PROBLEM_MEDIA_TYPE, SECURITY_HEADERS, encoded, problem_of
from sceneseek_server.service import picture_slots

# For operators, who need them most during an overload.
ALWAYS_ANSWERED = frozenset({"/healthz", "/readyz", "/metrics"})

# The weight of the last request in the average time between two that leave.
_WEIGHT = 0.05
_LATER = "ask again a little later"


class Admission:
    """The middleware. Thread-safe.

    Args:
        application: the application behind it.
        slots: how many requests it processes at a time; beside them a quarter as many with pictures.
        queue: how many more may wait; and as many with pictures.
        seconds: from a request's arrival until its answer is of no use.
        on_rejected: called with the method and the error of each rejected request.

    Attributes:
        others, pictures: the requests without and with pictures.
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
        """Answer a request, or reject it."""
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
        waiting: for each waiting request, in order, a lock that is released when it gets a slot.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self._free, self._queue = slots, queue
        self.waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()
        self._left, self._interval = time.monotonic(), 0.0

    def enter(self, deadline: float) -> None:
        """Get a slot.

        Raises:
            Overloaded: the queue is full.
            DeadlinePassed: no slot was free in time.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return
            after = len(self.waiting) * self._interval
            if len(self.waiting) >= self._queue:
                raise Overloaded("too many requests are being answered or waiting", _LATER, after)
            turn = threading.Lock()
            turn.acquire()
            self.waiting.append(turn)
        if turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return
        with self._lock:
            if turn not in self.waiting:  # it got a slot at the last moment
                return
            self.waiting.remove(turn)
        raise DeadlinePassed("the request waited longer than it may take", _LATER, after)

    def leave(self) -> None:
        """Give the slot to the request that has waited for longest."""
        with self._lock:
            now = time.monotonic()
            if self.waiting:
                self._interval += _WEIGHT * (now - self._left - self._interval)
                self.waiting.popleft().release()
            else:
                self._free += 1
            self._left = now


class Decoders:
    """Bounds how many pictures are decoded at a time. Thread-safe.

    Args:
        at_once: how many; by default as many as half of the processors, so that searches have the others. A picture of
            many pixels takes hundreds of megabytes.
    """

    def __init__(self, at_once: int | None = None) -> None:
        self._free = threading.Semaphore(at_once or max(1, len(os.sched_getaffinity(0)) // 2))

    @contextlib.contextmanager
    def one(self, deadline: float | None) -> Iterator[None]:
        """Within the block one picture may be decoded.

        Args:
            deadline: until when to wait, on the clock of `time.monotonic`; None for as long as it takes.

        Raises:
            DeadlinePassed: it is over, or other pictures are decoded until then.
        """
        left = None if deadline is None else deadline - time.monotonic()
        if (left is not None and left <= 0) or not self._free.acquire(timeout=left):
            raise DeadlinePassed("other pictures were decoded until the request's time was over", _LATER, 1.0)
        try:
            yield
        finally:
            self._free.release()


def _decodes(environ: WSGIEnvironment) -> bool:
    """Whether a request may have pictures decoded, each of which takes some hundred times as long as a search."""
    content_type: str = environ.get("CONTENT_TYPE", "")
    path: str = environ["PATH_INFO"]
    return (
        environ["REQUEST_METHOD"] == "PUT"
        or content_type.lstrip().lower().startswith("multipart/")
        or path.rstrip("/").endswith("/thumbnail")
    )


def _rejection(error: TryAgain, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The answer to a rejected request; it is cheap, since it is sent under load."""
    body = encoded(problem_of(error), environ["PATH_INFO"])
    headers = [
        ("Content-Type", PROBLEM_MEDIA_TYPE),
        ("Content-Length", str(len(body))),
        ("Retry-After", str(math.ceil(error.retry_after))),
        ("Cache-Control", "no-store"),
        *SECURITY_HEADERS,
    ]
    start_response(f"{error.status} {HTTPStatus(error.status).phrase}", headers)
    return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [body]
