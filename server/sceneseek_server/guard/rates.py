"""Rate limits: `limits`' sliding windows, over a memory that stays small whoever comes.

The library's own memory would not do: it keeps something of every address for ever, and starts a thread that walks
through all of them at nearly every request.
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

# Two for each of 25,000 senders: some 12 MB.
MAX_COUNTERS = 50_000


@functools.lru_cache(1_024)
def parsed_rate(text: str) -> RateLimitItem:
    """A rate as people write it: ``20/second``, ``100 per 5 minutes``.

    Raises:
        InvalidRequest: it is none.
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
    """So many times a rate, in the same time."""
    return type(rate)(rate.amount * factor, rate.multiples)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a sender stands after a request.

    Attributes:
        allowed: whether this request was within the rate.
        remaining: how many more are.
        retry_after: seconds until one more is, if this one was not; else until there are more.
    """

    allowed: bool
    remaining: int
    retry_after: float


class Rates:
    """Who asked how often. Thread-safe.

    Args:
        max_counters: the most that is remembered; what is oldest is forgotten first, in its sender's favour.
    """

    def __init__(self, max_counters: int = MAX_COUNTERS) -> None:
        self._counters = _Counters(max_counters)
        self._windows = SlidingWindowCounterRateLimiter(self._counters)
        # The library's counting is several steps.
        self._guard = threading.Lock()

    def __len__(self) -> int:
        """How many counters there are."""
        return len(self._counters.counts)

    def hit(self, rate: RateLimitItem, identity: str, weight: int = 1) -> Standing:
        """Count a request of a sender, or one that weighs as much as so many, at most as a whole window."""
        with self._guard:
            allowed = self._windows.hit(rate, identity, cost=min(weight, rate.amount))
            reset, remaining = self._windows.get_window_stats(rate, identity)
        # A window's end alone makes no room: the one before it weighs on, and less with each of these steps. The
        # millisecond is for what rounding takes away.
        step = rate.get_expiry() / rate.amount + 0.001
        return Standing(allowed, remaining, max(0.0, reset - time.time()) + step)


def in_seconds(wait: float) -> str:
    """A wait as Retry-After has it: whole seconds, never too few."""
    return str(max(1, math.ceil(wait)))


class _Counters(MemoryStorage):
    """The counters of the library's windows, at most so many, without its locks and its thread."""

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
