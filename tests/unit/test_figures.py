"""Bootstrap confidence intervals are correct, and bounds on figures detect regressions."""

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
def test_resample_draws_whole_groups_with_replacement(groups: list[int], seed: int) -> None:
    labels = np.array(groups)
    sizes = {group: groups.count(group) for group in set(groups)}
    for rows in Bootstrap(replicates=5, seed=seed).resamples(labels):
        times = np.bincount(rows, minlength=len(groups))
        draws = {group: set(times[labels == group]) for group in sizes}
        assert all(len(times_of_a_row) == 1 for times_of_a_row in draws.values())
        assert sum(times_of_a_row.pop() for times_of_a_row in draws.values()) == len(sizes)


def test_interval_of_mean_has_theoretical_width() -> None:
    x = np.random.default_rng(1).normal(size=400)
    figure = mean(x, np.arange(400), Bootstrap(2000))
    assert figure.value == x.mean()
    assert figure.low is not None
    assert figure.high is not None
    assert (figure.low + figure.high) / 2 == pytest.approx(x.mean(), abs=0.01)
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.1)


def test_repeated_rows_of_an_image_do_not_narrow_interval() -> None:
    x = np.random.default_rng(2).random(50)
    once, tenfold = mean(x, np.arange(50)), mean(np.repeat(x, 10), np.repeat(np.arange(50), 10))
    assert [tenfold.low, tenfold.high] == pytest.approx([once.low, once.high])


def test_interval_depends_only_on_seed() -> None:
    x = np.random.default_rng(3).random(30)
    first, again, other = (mean(x, np.arange(30), Bootstrap(100, seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_single_image_has_no_interval() -> None:
    assert mean(np.array([1.0, 2.0]), np.array([4, 4])).to_json() == {"value": 1.5, "ci95": None}


def test_undefined_replicates_are_skipped_and_infinite_bounds_are_null() -> None:
    def measure(rows: Positions) -> dict[str, float]:
        alone = len(set(rows)) == 1
        return {"sometimes": np.nan if alone else 3.0, "never": np.nan, "far": 1.0 if 0 in rows else np.inf}

    figures = Bootstrap(200).figures(measure(np.arange(2)), measure, np.arange(2))
    assert figures["sometimes"] == Figure(3.0, 3.0, 3.0)
    assert figures["never"].to_json() == {"value": None, "ci95": None}
    assert figures["far"].to_json() == {"value": 1.0, "ci95": [1.0, None]}


FIGURES = {
    "recall@1": Figure(0.25, 0.2, 0.3),
    "rmse": Figure(0.17, 0.16, 0.18),
    "crowd.rmse": Figure(0.2, None, None),
    "spearman": Figure(None, None, None),
}


def missed_bounds(below: list[str], above: list[str]) -> list[str]:
    return missed(read_bounds(below, above, FIGURES), FIGURES)


def test_figure_equal_to_bound_passes() -> None:
    assert missed_bounds(["recall@1=0.25"], ["rmse=0.17", "crowd.rmse=0.2"]) == []


def test_missed_bounds_are_reported_with_interval() -> None:
    assert missed_bounds(["recall@1=0.26", "recall@1=0.1"], ["rmse=.169", "crowd.rmse=0"]) == [
        "recall@1 is 0.25, below 0.26 (95% interval 0.2 to 0.3)",
        "rmse is 0.17, above 0.169 (95% interval 0.16 to 0.18)",
        "crowd.rmse is 0.2, above 0",
    ]


def test_undefined_figure_fails_every_bound() -> None:
    assert missed_bounds(["spearman=-1"], []) == ["spearman is not defined, so it does not pass the bound -1"]


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
def test_invalid_bound_is_rejected(below: str | None, above: str | None, what: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        missed_bounds([below] if below else [], [above] if above else [])
    assert what in caught.value.what
    assert hint in caught.value.hint
