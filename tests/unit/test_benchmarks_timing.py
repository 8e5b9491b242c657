"""Rounds and statistics of the benchmarks."""

from __future__ import annotations

import pytest

from benchmarks.timing import Spread, measure, percentile, ratios, rotated


def test_a_spread_is_the_extremes_and_the_middle() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(1.0, 2.5, 10.0, 4)


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Spread.of([])


def test_a_percentile_lies_between_its_neighbours() -> None:
    values = [float(n) for n in range(101)]
    assert percentile(values, 50) == 50.0
    assert percentile(values, 99) == 99.0
    assert percentile([1.0, 2.0], 50) == 1.5
    assert percentile([7.0], 99) == 7.0


def test_a_ratio_cancels_what_slowed_its_whole_round() -> None:
    assert ratios([10.0, 30.0], [8.0, 24.0]) == [1.25, 1.25]


def test_ratios_of_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_each_round_begins_with_another_part() -> None:
    assert [rotated("abc", by)[0] for by in range(4)] == ["a", "b", "c", "a"]
    assert rotated("abc", 1) == ["b", "c", "a"]


def test_every_part_runs_once_a_round_and_keeps_its_outcomes_in_order() -> None:
    calls: list[str] = []

    def part(name: str) -> str:
        calls.append(name)
        return f"{name}{len(calls)}"

    told: list[str] = []
    outcomes = measure({"a": lambda: part("a"), "b": lambda: part("b")}, 2, told.append)
    assert calls == ["a", "b", "b", "a"]
    assert outcomes == {"a": ["a1", "a4"], "b": ["b2", "b3"]}
    assert told[0] == "round 1 of 2: a"
