"""How many requests may be in the service, and how long each may take.

A request enters when all of it is here (see `arrival`), before a thread is free for it, and its time counts from then.
Beyond the bound it is refused at once: waiting longer than the deadline would be for nothing, and what waits takes
memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sceneseek.errors import DeadlinePassed, Overloaded, TryAgain
from server.headers import SECURITY_HEADERS
from server.problem import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# In the environment of a request: when its asker has no use for an answer any more, by `time.monotonic`.
DEADLINE = "sceneseek.deadline"
# What is asked by who looks after the service, and must be told most of all while it is overloaded.
ALWAYS_ANSWERED = frozenset({"/healthz", "/readyz", "/metrics"})

# The weight of the last interval between two requests that left.
_LAST = 0.05


class Admission:
    """The count of requests in the service. For one thread, but for reading.

    Args:
        bound: how many may be in the service, waiting or being answered.
        seconds: how long one may take, once all of it is here.

    Attributes:
        inside: how many are.
        refused: how many were turned away so far.
    """

    def __init__(self, bound: int, seconds: float) -> None:
        self.bound, self.seconds = bound, seconds
        self.inside = self.refused = 0
        self._left_at = 0.0
        self._interval = 0.0

    @property
    def full(self) -> bool:
        """Whether the next one will be refused."""
        return self.inside >= self.bound

    def enter(self) -> bool:
        """Let one in; False if the service is full."""
        if self.full:
            self.refused += 1
            return False
        self.inside += 1
        return True

    def leave(self) -> None:
        """One has been answered."""
        self.inside -= 1
        now = time.monotonic()
        if self.inside:  # else nobody waited, and the next one will leave when it pleases
            self._interval += _LAST * (now - self._left_at - self._interval)
        self._left_at = now

    def retry_after(self) -> float:
        """Seconds in which those who are inside now will have left."""
        return self.inside * self._interval

    def overloaded(self) -> Overloaded:
        """The error of one that was turned away."""
        return Overloaded(
            f"{self.inside} requests are being answered or waiting already",
            "ask again a little later",
            self.retry_after(),
        )

    def out_of_memory(self) -> Overloaded:
        """The error of one whose body there is no memory for."""
        return Overloaded(
            "too many large requests are on their way or waiting", "ask again a little later", self.retry_after()
        )

    def too_late(self) -> DeadlinePassed:
        """The error of one whose time was over before it was its turn."""
        return DeadlinePassed(
            f"the request waited longer than {self.seconds:g} s", "ask again a little later", self.retry_after()
        )


def turned_away(error: TryAgain, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The answer to a request that the application is not asked: cheap, since it comes when there is much to do."""
    body = Problem.of(error).encode()
    headers = [
        ("Content-Type", MEDIA_TYPE),
        ("Content-Length", str(len(body))),
        ("Retry-After", str(math.ceil(error.retry_after))),
        ("Cache-Control", "no-store"),
        *SECURITY_HEADERS,
    ]
    start_response(f"{error.status} {_PHRASES[error.status]}", headers)
    return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [body]


_PHRASES = {429: "Too Many Requests", 503: "Service Unavailable"}
