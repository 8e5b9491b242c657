"""Rate limits per client, with the generic cell rate algorithm (ITU-T I.371).

A client may use the amount of a whole window at once, which then refills evenly over the window. The only state of a
client is the time when its amount will be full again. A request of any cost is allowed or rejected as a whole, and a
rejected client learns exactly how long to wait.
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

# One or two per client: about 12 MB.
MAX_COUNTERS = 50_000

_RATE = re.compile(r"(\d{1,9})\s*(?:/|per)\s*(\d{0,6})\s*(second|minute|hour|day)s?", re.ASCII | re.IGNORECASE)
_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests per number of seconds."""

    amount: int
    seconds: int


@functools.lru_cache(1_024)
def parsed_rate(text: str) -> Rate:
    """Parse a rate such as ``20/second`` or ``100 per 5 minutes``.

    Raises:
        InvalidRequest: it is malformed.
    """
    match = _RATE.fullmatch(text.strip())
    rate = Rate(int(match[1]), int(match[2] or 1) * _SECONDS[match[3].lower()]) if match else Rate(0, 0)
    if not rate.amount or not rate.seconds:
        raise InvalidRequest(f"{text!r} is not a rate", "write it as 20/second, 600/minute or 100 per 5 minutes")
    return rate


def times(rate: Rate, factor: int) -> Rate:
    """A multiple of a rate, for the same period."""
    return replace(rate, amount=rate.amount * factor)


@dataclass(frozen=True, slots=True)
class Usage:
    """A client's use of its rate limit after a request.

    Attributes:
        allowed: whether the request is within the limit.
        remaining: number of further requests within the limit.
        retry_after: seconds until a rejected request, or otherwise the next one, is within the limit.
    """

    allowed: bool
    remaining: int
    retry_after: float


class RateLimiter:
    """Counts requests per client. Thread-safe.

    Args:
        max_counters: maximum number of stored clients; beyond it, the least recently seen client is forgotten.
    """

    def __init__(self, max_counters: int = MAX_COUNTERS) -> None:
        self._full_again: OrderedDict[str, float] = OrderedDict()
        self._max = max_counters
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The number of stored clients."""
        return len(self._full_again)

    def hit(self, rate: Rate, identity: str, cost: int = 1, paid: int = 0) -> Usage:
        """Count a request of a client as `cost` requests, at most a whole window; a rejected request costs nothing.

        Args:
            rate: the rate limit of the client.
            identity: the client.
            cost: the total cost of the request.
            paid: the part of the cost that was counted before; refunded if the request is rejected.
        """
        interval = rate.seconds / rate.amount
        cost = min(cost, rate.amount)
        with self._lock:
            now = monotonic()
            used_until = max(self._full_again.get(identity, now), now)
            after = used_until + max(0, cost - paid) * interval
            # A thousandth of a request for rounding, so that a client that waited `retry_after` is allowed.
            allowed = after - now <= rate.seconds + interval / 1_000
            used_until = after if allowed else used_until - paid * interval
            self._full_again[identity] = used_until
            self._full_again.move_to_end(identity)
            if len(self._full_again) > self._max:
                self._full_again.popitem(last=False)
        free = rate.seconds - (used_until - now)
        wanted = interval * (1 if allowed else cost)
        return Usage(allowed, max(0, math.floor(free / interval + 0.001)), max(0.0, wanted - free))
