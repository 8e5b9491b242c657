"""Rounds and statistics: parts measured in turns, and what a handful of numbers says together."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

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
    """The items in their order, beginning at another one: nobody is always first, or always after whom."""
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
        tell: told before each call what comes next.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in parts}
    for number, name, part in interleaved(parts, rounds):
        tell(f"round {number} of {rounds}: {name}")
        outcomes[name].append(part())
    return outcomes
