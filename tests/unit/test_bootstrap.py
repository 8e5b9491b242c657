"""Intervals come from drawing whole images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek_evaluation.bootstrap import Bootstrap, Figure, Positions


def mean(x: np.ndarray, groups: Positions, bootstrap: Bootstrap | None = None) -> Figure:
    def measure(rows: Positions) -> dict[str, float]:
        return {"mean": float(x[rows].mean())}

    return (bootstrap or Bootstrap()).figures({"mean": float(x.mean())}, measure, groups)["mean"]


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.integers(0, 1000))
def test_a_draw_takes_as_many_groups_as_there_are_each_with_all_of_its_rows(groups: list[int], seed: int) -> None:
    labels = np.array(groups)
    sizes = {group: groups.count(group) for group in set(groups)}
    for rows in Bootstrap(replicates=5, seed=seed).resamples(labels):
        times = np.bincount(rows, minlength=len(groups))
        draws = {group: set(times[labels == group]) for group in sizes}
        assert all(len(times_of_a_row) == 1 for times_of_a_row in draws.values())
        assert sum(times_of_a_row.pop() for times_of_a_row in draws.values()) == len(sizes)


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    x = np.random.default_rng(1).normal(size=400)
    figure = mean(x, np.arange(400), Bootstrap(2000))
    assert figure.value == x.mean()
    assert figure.low is not None
    assert figure.high is not None
    assert (figure.low + figure.high) / 2 == pytest.approx(x.mean(), abs=0.01)
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.1)


def test_more_rows_of_the_same_images_bring_no_certainty() -> None:
    x = np.random.default_rng(2).random(50)
    once, tenfold = mean(x, np.arange(50)), mean(np.repeat(x, 10), np.repeat(np.arange(50), 10))
    assert [tenfold.low, tenfold.high] == pytest.approx([once.low, once.high])


def test_the_seed_decides_the_interval() -> None:
    x = np.random.default_rng(3).random(30)
    first, again, other = (mean(x, np.arange(30), Bootstrap(100, seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_one_image_alone_gives_no_interval() -> None:
    assert mean(np.array([1.0, 2.0]), np.array([4, 4])).to_json() == {"value": 1.5, "ci95": None}


def test_a_replicate_where_a_figure_is_not_defined_is_left_out_and_an_infinite_end_is_null() -> None:
    def measure(rows: Positions) -> dict[str, float]:
        alone = len(set(rows)) == 1
        return {"sometimes": np.nan if alone else 3.0, "never": np.nan, "far": 1.0 if 0 in rows else np.inf}

    found = Bootstrap(200).figures(measure(np.arange(2)), measure, np.arange(2))
    assert found["sometimes"] == Figure(3.0, 3.0, 3.0)
    assert found["never"].to_json() == {"value": None, "ci95": None}
    assert found["far"].to_json() == {"value": 1.0, "ci95": [1.0, None]}
