"""What is worth asking again, how often, and how long to wait before: urllib3's `Retry` with an end."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from urllib3 import BaseHTTPResponse, Retry
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import InvalidHeader, MaxRetryError, SSLError


class Patience(Retry):
    """The tries that a request has left.

    Asked again is what was lost on the way, what came too early (429), and what the service says will be answered
    later (503 with Retry-After). Before the second try there is no wait but one that the service asks for; further
    ones are ever longer.

    Args:
        retries: how many tries there may be after the first.
        until: when the call shall have ended, on the clock of `time.monotonic`. What would have to wait for longer is
            given up at once.
    """

    RETRY_AFTER_STATUS_CODES = frozenset({429, 503})

    def __init__(self, *, until: float, retries: int = 0, **given: Any) -> None:
        ours = {
            "total": retries,
            "allowed_methods": None,  # any: nothing that is sent here does harm if it comes twice
            "status_forcelist": {429},
            "backoff_factor": 0.2,
            "backoff_jitter": 0.2,
        }
        super().__init__(**{**ours, **given})
        self.until = until

    def new(self, **changes: Any) -> Self:
        """The same with changes, as `Retry` makes it."""
        return super().new(until=self.until, **changes)

    @property
    def left(self) -> float:
        """Seconds until the call shall have ended; hardly any where it should have ended already."""
        return max(self.until - time.monotonic(), 1e-3)

    @property
    def over(self) -> bool:
        """Whether the call should have ended."""
        return time.monotonic() >= self.until

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """One try less.

        Raises:
            MaxRetryError: it was the last one; or there is no time for another; or another would end like it.
        """
        following = super().increment(method, url, response, error, _pool, _stacktrace)
        wait = (response and following.get_retry_after(response)) or following.get_backoff_time()
        if isinstance(error, SSLError) or wait >= self.left:
            raise MaxRetryError(_pool, url or "", error)  # type: ignore[arg-type]  # the pool may be unknown to `Retry` too
        return following

    def parse_retry_after(self, retry_after: str) -> float:
        """Seconds; 0, as if it had not been said, of what is neither a number nor a date."""
        try:
            return super().parse_retry_after(retry_after)
        except InvalidHeader:
            return 0.0
