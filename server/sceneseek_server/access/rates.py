"""Rate limits: what one client may ask for in a time, as the generic cell rate algorithm counts it (ITU-T I.371).

A client may ask for a whole window's amount at once, and then for as much as flows back evenly over the window. One
number is stored for each client: when all of its amount will be back. So a request of any cost is answered or refused
as a whole, and a refused one is told exactly how long to wait.
"""

from __future__ import annotations

import functools
import math
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from time import monotonic

from sceneseek.errors import InvalidRequest

# Of each client one or two: some 12 MB.
MAX_COUNTERS = 50_000

_RATE = re.compile(r"(\d{1,9})\s*(?:/|per)\s*(\d{0,6})\s*(second|minute|hour|day)s?", re.ASCII | re.IGNORECASE)
_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds."""

    amount: int
    seconds: int


@functools.lru_cache(1_024)
def parsed_rate(text: str) -> Rate:
    """A rate as people write it: ``20/second``, ``100 per 5 minutes``.

    Raises:
        InvalidRequest: it is malformed.
    """
    found = _RATE.fullmatch(text.strip())
    rate = Rate(int(found[1]), int(found[2] or 1) * _SECONDS[found[3].lower()]) if found else Rate(0, 0)
    if not rate.amount or not rate.seconds:
        raise InvalidRequest(f"{text!r} is no rate", "write it as 20/second, 600/minute or 100 per 5 minutes")
    return rate


def times(rate: Rate, factor: int) -> Rate:
    """A multiple of a rate, over the same time."""
    return replace(rate, amount=rate.amount * factor)


@dataclass(frozen=True, slots=True)
class Usage:
    """A client's use of its rate limit after a request.

    Attributes:
        allowed: whether this request was within the rate.
        remaining: how many more would be.
        retry_after: seconds until the request, if it was refused, or else one more, is within the rate.
    """

    allowed: bool
    remaining: int
    retry_after: float


class RateLimiter:
    """Counts requests by client. Thread-safe.

    Args:
        max_counters: how many clients it remembers; the one not seen for longest is dropped first, in its favour.
    """

    def __init__(self, max_counters: int = MAX_COUNTERS) -> None:
        self._full_again: OrderedDict[str, float] = OrderedDict()
        self._max = max_counters
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many counters there are."""
        return len(self._full_again)

    def hit(self, rate: Rate, identity: str, cost: int = 1, paid: int = 0) -> Usage:
        """Count a request of a client as `cost` requests, at most as a whole window; refused, it costs nothing.

        Args:
            rate: the client's.
            identity: the client.
            cost: what the request costs in all.
            paid: how much of that was counted before; given back if the request is refused.
        """
        interval = rate.seconds / rate.amount
        cost = min(cost, rate.amount)
        with self._lock:
            now = monotonic()
            used_until = max(self._full_again.get(identity, now), now)
            after = used_until + max(0, cost - paid) * interval
            # A thousandth of a request for rounding: a client that waits as long as it was told is answered.
            allowed = after - now <= rate.seconds + interval / 1_000
            used_until = after if allowed else used_until - paid * interval
            self._full_again[identity] = used_until
            self._full_again.move_to_end(identity)
            if len(self._full_again) > self._max:
                self._full_again.popitem(last=False)
        free = rate.seconds - (used_until - now)
        wanted = interval * (1 if allowed else cost)
        return Usage(allowed, max(0, math.floor(free / interval + 0.001)), max(0.0, wanted - free))
