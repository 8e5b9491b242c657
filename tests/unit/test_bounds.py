"""Bounds make an evaluation fail on a regression, and on nothing else."""

from __future__ import annotations

import pytest

from sceneseek.errors import InvalidRequest
from sceneseek_evaluation.bootstrap import Figure
from sceneseek_evaluation.bounds import missed, read_bounds

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
