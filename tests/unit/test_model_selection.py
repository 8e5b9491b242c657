"""The default head needs a significantly lower error than the cosine and no lower rank correlation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sceneseek.vectors import Floats
from sceneseek_evaluation.figures import Bootstrap, Figure
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.cross_validation import Grouping, HeadResult, measure
from sceneseek_training.head_recipes import RECIPES
from sceneseek_training.model_selection import select_head, selection_rule

IMAGES, EACH = 12, 6
BOOTSTRAP = Bootstrap(replicates=200)
STRICT: Grouping = "image and caption"


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    """Twelve images, each with six captions, rated by one rater with all four scores. Read only."""
    count = IMAGES * EACH
    target = (np.random.default_rng(0).integers(0, 4, count) / 3).astype(np.float32)
    return Ratings(
        label="drawn",
        names=tuple(f"{i}.png" for i in range(IMAGES)),
        paths=tuple(Path(f"{i}.png") for i in range(IMAGES)),
        captions=tuple(f"caption {i}" for i in range(EACH)),
        image=np.repeat(np.arange(IMAGES), EACH),
        caption=np.tile(np.arange(EACH), IMAGES),
        target=target,
        weight=np.ones(count, np.float32),
        scores=target[:, None],
        own=np.zeros(count, np.bool_),
        left_out={},
        merged={},
    )


def make_result(name: str, predicted: Floats, ratings: Ratings, grouping: Grouping = STRICT) -> HeadResult:
    agreement = measure(predicted, ratings, Bootstrap(replicates=0))
    return HeadResult(RECIPES[name], grouping, predicted, agreement, 10.0, 0.0)


def missed_targets(ratings: Ratings, by: float | Floats, seed: int = 1) -> Floats:
    """Return the targets with an error of this size and a random sign."""
    signs = np.random.default_rng(seed).choice([-1, 1], len(ratings))
    return (ratings.target + by * signs).astype(np.float32)


def with_figure(result: HeadResult, name: str, value: float) -> HeadResult:
    figures = {**result.agreement.figures, name: Figure(value, None, None)}
    return replace(result, agreement=replace(result.agreement, figures=figures))


def value(result: HeadResult, name: str) -> float:
    figure = result.agreement.figures[name].value
    assert figure is not None
    return figure


def test_head_that_is_better_in_all_metrics_is_selected(ratings: Ratings) -> None:
    results = [
        make_result("cosine", missed_targets(ratings, 0.3), ratings),
        make_result("mlp", missed_targets(ratings, 0.1), ratings),
    ]
    choice = select_head(results, ratings, BOOTSTRAP)
    assert choice.name == "mlp"
    assert choice.rule == selection_rule()
    assert choice.reasons[0] == "RMSE: -0.2000 from 'cosine' to 'mlp', 95% interval -0.2000 to -0.2000."
    assert [reason.split(":")[0] for reason in choice.reasons] == ["RMSE", "Spearman", "tau-c"]


def test_head_with_a_higher_error_is_not_selected(ratings: Ratings) -> None:
    results = [
        make_result("cosine", missed_targets(ratings, 0.1), ratings),
        make_result("mlp", missed_targets(ratings, 0.3), ratings),
    ]
    assert select_head(results, ratings, BOOTSTRAP).name == "cosine"


@pytest.mark.parametrize("figure", ["spearman", "kendall_tau_c"])
def test_lower_rank_correlation_selects_the_cosine_and_an_equal_one_does_not(ratings: Ratings, figure: str) -> None:
    cosine, mlp = (
        make_result("cosine", missed_targets(ratings, 0.3), ratings),
        make_result("mlp", missed_targets(ratings, 0.1), ratings),
    )
    baseline = value(cosine, figure)
    equal = select_head([cosine, with_figure(mlp, figure, baseline)], ratings, BOOTSTRAP)
    lower = select_head([cosine, with_figure(mlp, figure, baseline - 1e-6)], ratings, BOOTSTRAP)
    assert (equal.name, lower.name) == ("mlp", "cosine")


@pytest.mark.parametrize("figure", ["pearson", "mae", "ece", "kendall_tau_c_all", "kendall_tau_b"])
def test_other_metrics_are_ignored(ratings: Ratings, figure: str) -> None:
    cosine, mlp = (
        make_result("cosine", missed_targets(ratings, 0.3), ratings),
        make_result("mlp", missed_targets(ratings, 0.1), ratings),
    )
    worse = with_figure(with_figure(mlp, figure, 0.5), "ece", 0.5)
    assert select_head([cosine, worse], ratings, BOOTSTRAP).name == "mlp"


def test_insignificant_difference_selects_the_cosine(ratings: Ratings) -> None:
    """Each head is better on half of the images, so that the bootstrap sample decides which one is better."""
    first_half = ratings.image < IMAGES // 2
    cosine = make_result("cosine", missed_targets(ratings, np.where(first_half, 0.11, 0.3).astype(np.float32)), ratings)
    mlp = make_result("mlp", missed_targets(ratings, np.where(first_half, 0.3, 0.1).astype(np.float32)), ratings)
    for figure in ("spearman", "kendall_tau_c"):
        mlp = with_figure(mlp, figure, 1.0)
    assert value(mlp, "rmse") < value(cosine, "rmse")
    choice = select_head([cosine, mlp], ratings, BOOTSTRAP)
    assert choice.name == "cosine"
    low, high = (float(word.rstrip(".")) for word in choice.reasons[0].split("interval ")[1].split(" to "))
    assert low < 0 < high


def test_cosine_is_selected_without_a_confidence_interval(ratings: Ratings) -> None:
    results = [
        make_result("cosine", missed_targets(ratings, 0.3), ratings),
        make_result("mlp", missed_targets(ratings, 0.1), ratings),
    ]
    choice = select_head(results, ratings, Bootstrap(replicates=0))
    assert choice.name == "cosine"
    assert "no interval" in choice.reasons[0]


def test_only_the_strict_grouping_is_compared(ratings: Ratings) -> None:
    good, bad = missed_targets(ratings, 0.1), missed_targets(ratings, 0.3)
    results = [
        make_result("cosine", good, ratings, "image"),
        make_result("mlp", bad, ratings, "image"),
        make_result("cosine", bad, ratings),
        make_result("mlp", good, ratings),
    ]
    assert select_head(results, ratings, BOOTSTRAP).name == "mlp"


@pytest.mark.parametrize(
    ("trained", "selected"),
    [
        (("constant", "mlp"), "mlp"),
        (("constant", "cosine"), "cosine"),
        (("linear", "constant"), "linear"),
    ],
)
def test_selection_without_two_comparable_heads_gives_the_reason(
    ratings: Ratings, trained: tuple[str, str], selected: str
) -> None:
    choice = select_head(
        [make_result(name, missed_targets(ratings, 0.1), ratings) for name in trained], ratings, BOOTSTRAP
    )
    assert choice.name == selected
    assert "compares two heads" in choice.reasons[0]
