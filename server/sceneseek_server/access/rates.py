"""Rate limits: the sliding windows of `limits`, over a storage of bounded size.

The library's own memory storage grows with every address, and starts a thread that walks through all of them at nearly
every request.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from sceneseek.errors import InvalidRequest

# Two for each of 25,000 clients: some 12 MB.
MAX_COUNTERS = 50_000


@functools.lru_cache(1_024)
def parsed_rate(text: str) -> RateLimitItem:
    """A rate as people write it: ``20/second``, ``100 per 5 minutes``.

    Raises:
        InvalidRequest: it is malformed.
    """
    try:
        rates = parse_many(text)
    except ValueError:
        rates = []
    if len(rates) != 1 or rates[0].amount < 1:
        raise InvalidRequest(f"{text!r} is no rate", "write it as 20/second, 600/minute or 100 per 5 minutes")
    return rates[0]


@functools.lru_cache(1_024)
def times(rate: RateLimitItem, factor: int) -> RateLimitItem:
    """A multiple of a rate, over the same time."""
    return type(rate)(rate.amount * factor, rate.multiples)


@dataclass(frozen=True, slots=True)
class Usage:
    """A client's use of its rate limit after a request.

    Attributes:
        allowed: whether this request was within the rate.
        remaining: how many more would be.
        retry_after: seconds until one more request is within the rate.
    """

    allowed: bool
    remaining: int
    retry_after: float


class RateLimiter:
    """Counts requests by client. Thread-safe.

    Args:
        max_counters: how many counters it holds; the oldest is dropped first, in its client's favour.
    """

    def __init__(self, max_counters: int = MAX_COUNTERS) -> None:
        self._counters = _BoundedStorage(max_counters)
        self._windows = SlidingWindowCounterRateLimiter(self._counters)
        # The library counts in several steps.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many counters there are."""
        return len(self._counters.counts)

    def hit(self, rate: RateLimitItem, identity: str, cost: int = 1) -> Usage:
        """Count a request of a client as `cost` requests, at most as a whole window."""
        with self._lock:
            allowed = self._windows.hit(rate, identity, cost=min(cost, rate.amount))
            reset, remaining = self._windows.get_window_stats(rate, identity)
        # A window's end alone frees nothing: the window before still weighs in, less with each of these steps. The
        # millisecond makes up for rounding.
        step = rate.get_expiry() / rate.amount + 0.001
        return Usage(allowed, remaining, max(0.0, reset - time.time()) + step)


def in_seconds(wait: float) -> str:
    """A wait as in Retry-After: whole seconds, rounded up, at least one."""
    return str(max(1, math.ceil(wait)))


class _BoundedStorage(MemoryStorage):
    """A bounded number of counters, without the library's locks and its thread."""

    def __init__(self, max_counters: int) -> None:
        super().__init__()
        self.counts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._max = max_counters

    def get(self, key: str) -> int:
        count, expires = self.counts.get(key, (0, 0.0))
        return count if expires > time.time() else 0

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        count, expires = self.counts.get(key, (0, 0.0))
        now = time.time()
        if expires <= now:
            count, expires = 0, now + expiry
        self.counts[key] = count + amount, expires
        if len(self.counts) > self._max:
            self.counts.popitem(last=False)
        return count + amount
