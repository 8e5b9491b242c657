"""Interleaved rounds, their statistics, and the CPU load of other processes."""

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
    """The minimum, median and maximum of `count` numbers."""

    minimum: float
    median: float
    maximum: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one number."""
        return cls(min(values), statistics.median(values), max(values), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile of the values, interpolated linearly."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), percent))


def ratios(measured: Sequence[float], floor: Sequence[float]) -> list[float]:
    """Measured over floor within each round, so that whatever slows a whole round cancels out."""
    return [a / b for a, b in zip(measured, floor, strict=True)]


def rotated(items: Sequence[Item], by: int) -> list[Item]:
    """The items rotated by `by`, so that over the rounds none is always the first."""
    start = by % len(items)
    return [*items[start:], *items[:start]]


def interleaved(
    parts: Mapping[str, Callable[[], Outcome]], rounds: int
) -> Iterator[tuple[int, str, Callable[[], Outcome]]]:
    """Yield (round from 1, name, part) for every part in every round, each round starting with another part."""
    for number in range(rounds):
        for name in rotated(list(parts), number):
            yield number + 1, name, parts[name]


def measure(
    parts: Mapping[str, Callable[[], Outcome]], rounds: int, log: Callable[[str], None] = lambda _: None
) -> dict[str, list[Outcome]]:
    """Call every part once per round, interleaved; return the outcomes by part, in the order of the rounds.

    Args:
        parts: the callables, by name.
        rounds: the number of rounds.
        log: called with a description before each part.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in parts}
    for number, name, part in interleaved(parts, rounds):
        log(f"round {number} of {rounds}: {name}")
        outcomes[name].append(part())
    return outcomes


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def other_load(log: Callable[[str], None]) -> Iterator[None]:
    """Report at exit how many cores other processes used during the block.

    Child processes count as others unless they have exited and been waited for.
    """
    start, busy, own = time.monotonic(), _busy_seconds(), _own_seconds()
    yield
    if busy is None:
        return
    elapsed = max(time.monotonic() - start, 1e-9)
    others = max(0.0, ((_busy_seconds() or 0.0) - busy - (_own_seconds() - own)) / elapsed)
    log(f"other processes used {others:.1f} of {cores()} cores, load average {os.getloadavg()[0]:.1f}")


def _own_seconds() -> float:
    return sum(os.times()[:4])


def _busy_seconds() -> float | None:
    """CPU seconds of all cores together, including stolen time; None without /proc."""
    try:
        fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
