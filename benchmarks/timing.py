"""Interleaved rounds, their statistics, and the load that other processes put on the machine meanwhile."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

_STAT = Path("/proc/stat")

Outcome = TypeVar("Outcome")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Spread:
    """The smallest, the middle and the largest of `count` numbers."""

    minimum: float
    median: float
    maximum: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one number."""
        return cls(min(values), statistics.median(values), max(values), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many per cent of the values do not exceed, interpolated between neighbours."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), percent))


def ratios(measured: Sequence[float], floor: Sequence[float]) -> list[float]:
    """Measured over floor, round by round: what slowed a whole round cancels."""
    return [a / b for a, b in zip(measured, floor, strict=True)]


def rotated(items: Sequence[Item], by: int) -> list[Item]:
    """The items in their order, from another start: none is always the first, or always after the same one."""
    start = by % len(items)
    return [*items[start:], *items[:start]]


def interleaved(
    parts: Mapping[str, Callable[[], Outcome]], rounds: int
) -> Iterator[tuple[int, str, Callable[[], Outcome]]]:
    """Every part once a round, each round beginning with another: (round from 1, name, part to call)."""
    for number in range(rounds):
        for name in rotated(list(parts), number):
            yield number + 1, name, parts[name]


def measure(
    parts: Mapping[str, Callable[[], Outcome]], rounds: int, tell: Callable[[str], None] = lambda _: None
) -> dict[str, list[Outcome]]:
    """Call every part once a round, in turns; the outcomes by part, in the rounds' order.

    Args:
        parts: what to call, by name.
        rounds: how often.
        tell: called before each call with what comes next.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in parts}
    for number, name, part in interleaved(parts, rounds):
        tell(f"round {number} of {rounds}: {name}")
        outcomes[name].append(part())
    return outcomes


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def others(tell: Callable[[str], None]) -> Iterator[None]:
    """Report at the end how many cores other processes used meanwhile.

    Children count as others unless they have ended and been waited for by then.
    """
    start, busy, own = time.monotonic(), _busy_seconds(), _own_seconds()
    yield
    if busy is None:
        return
    elapsed = max(time.monotonic() - start, 1e-9)
    theirs = max(0.0, ((_busy_seconds() or 0.0) - busy - (_own_seconds() - own)) / elapsed)
    tell(f"meanwhile other processes took {theirs:.1f} of {cores()} cores, load average {os.getloadavg()[0]:.1f}")


def _own_seconds() -> float:
    return sum(os.times()[:4])


def _busy_seconds() -> float | None:
    """Seconds that all cores together have worked for somebody, stolen ones included; None without /proc."""
    try:
        fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
