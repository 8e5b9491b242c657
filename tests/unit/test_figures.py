"""Intervals of the bootstrap hold, and bounds on figures fail on a regression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.errors import InvalidRequest
from sceneseek_evaluation.figures import Bootstrap, Figure, Positions, missed, read_bounds


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


FIGURES = {
    "recall@1": Figure(0.25, 0.2, 0.3),
    "rmse": Figure(0.17, 0.16, 0.18),
    "crowd.rmse": Figure(0.2, None, None),
    "spearman": Figure(None, None, None),
}


def say(below: list[str], above: list[str]) -> list[str]:
    return missed(read_bounds(below, above, FIGURES), FIGURES)


def test_a_figure_on_its_bound_passes() -> None:
    assert say(["recall@1=0.25"], ["rmse=0.17", "crowd.rmse=0.2"]) == []


def test_each_figure_beyond_its_bound_is_named_with_its_interval() -> None:
    assert say(["recall@1=0.26", "recall@1=0.1"], ["rmse=.169", "crowd.rmse=0"]) == [
        "recall@1 is 0.25, below 0.26 (95% interval 0.2 to 0.3)",
        "rmse is 0.17, above 0.169 (95% interval 0.16 to 0.18)",
        "crowd.rmse is 0.2, above 0",
    ]


def test_a_figure_that_is_not_defined_passes_no_bound() -> None:
    assert say(["spearman=-1"], []) == ["spearman is not defined, so it does not pass the bound -1"]


@pytest.mark.parametrize(
    ("below", "above", "what", "hint"),
    [
        ("recall@2=1", None, "names recall@2, which is not measured", "recall@1, rmse, crowd.rmse, spearman"),
        ("rmse=0.2", None, "smaller is better for rmse", "use --fail-above rmse=0.2"),
        ("crowd.rmse=0.2", None, "smaller is better for crowd.rmse", "use --fail-above crowd.rmse=0.2"),
        (None, "recall@1=0.2", "larger is better for recall@1", "use --fail-below recall@1=0.2"),
        ("recall@1", None, "not of the form metric=value", "recall@1, rmse"),
        ("=1", None, "not of the form metric=value", "recall@1, rmse"),
        ("recall@1=many", None, "not of the form metric=value", "recall@1, rmse"),
        ("recall@1=nan", None, "not of the form metric=value", "recall@1, rmse"),
        (None, "rmse=inf", "not of the form metric=value", "recall@1, rmse"),
    ],
)
def test_a_bound_that_cannot_be_meant_is_refused(below: str | None, above: str | None, what: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        say([below] if below else [], [above] if above else [])
    assert what in caught.value.what
    assert hint in caught.value.hint
