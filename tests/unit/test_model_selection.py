"""The rule by which the default head is chosen: the corrected cosine must be better, surely, and worse nowhere."""

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


def validated(name: str, predicted: Floats, ratings: Ratings, grouping: Grouping = STRICT) -> HeadResult:
    agreement = measure(predicted, ratings, Bootstrap(replicates=0))
    return HeadResult(RECIPES[name], grouping, predicted, agreement, 10.0, 0.0)


def off(ratings: Ratings, by: float | Floats, seed: int = 1) -> Floats:
    """The targets, each missed by this much, up or down by chance."""
    signs = np.random.default_rng(seed).choice([-1, 1], len(ratings))
    return (ratings.target + by * signs).astype(np.float32)


def with_figure(result: HeadResult, name: str, value: float) -> HeadResult:
    figures = {**result.agreement.figures, name: Figure(value, None, None)}
    return replace(result, agreement=replace(result.agreement, figures=figures))


def value(result: HeadResult, name: str) -> float:
    found = result.agreement.figures[name].value
    assert found is not None
    return found


def test_a_candidate_that_is_better_everywhere_becomes_the_default(ratings: Ratings) -> None:
    results = [validated("cosine", off(ratings, 0.3), ratings), validated("mlp", off(ratings, 0.1), ratings)]
    choice = select_head(results, ratings, BOOTSTRAP)
    assert choice.name == "mlp"
    assert choice.rule == selection_rule()
    assert choice.reasons[0] == "RMSE: -0.2000 from 'cosine' to 'mlp', 95% interval -0.2000 to -0.2000."
    assert [reason.split(":")[0] for reason in choice.reasons] == ["RMSE", "Spearman", "tau-c"]


def test_a_candidate_with_a_higher_error_does_not(ratings: Ratings) -> None:
    results = [validated("cosine", off(ratings, 0.1), ratings), validated("mlp", off(ratings, 0.3), ratings)]
    assert select_head(results, ratings, BOOTSTRAP).name == "cosine"


@pytest.mark.parametrize("figure", ["spearman", "kendall_tau_c"])
def test_a_lower_rank_correlation_selects_the_cosine_and_an_equal_one_does_not(ratings: Ratings, figure: str) -> None:
    cosine, mlp = validated("cosine", off(ratings, 0.3), ratings), validated("mlp", off(ratings, 0.1), ratings)
    level = value(cosine, figure)
    equal = select_head([cosine, with_figure(mlp, figure, level)], ratings, BOOTSTRAP)
    lower = select_head([cosine, with_figure(mlp, figure, level - 1e-6)], ratings, BOOTSTRAP)
    assert (equal.name, lower.name) == ("mlp", "cosine")


@pytest.mark.parametrize("figure", ["pearson", "mae", "ece", "kendall_tau_c_all", "kendall_tau_b"])
def test_other_figures_do_not_count(ratings: Ratings, figure: str) -> None:
    cosine, mlp = validated("cosine", off(ratings, 0.3), ratings), validated("mlp", off(ratings, 0.1), ratings)
    worse = with_figure(with_figure(mlp, figure, 0.5), "ece", 0.5)
    assert select_head([cosine, worse], ratings, BOOTSTRAP).name == "mlp"


def test_an_insignificant_difference_selects_the_cosine(ratings: Ratings) -> None:
    """On half of the images the one is better, on half of them the other, so drawn images decide who wins."""
    first_half = ratings.image < IMAGES // 2
    cosine = validated("cosine", off(ratings, np.where(first_half, 0.11, 0.3).astype(np.float32)), ratings)
    mlp = validated("mlp", off(ratings, np.where(first_half, 0.3, 0.1).astype(np.float32)), ratings)
    for figure in ("spearman", "kendall_tau_c"):
        mlp = with_figure(mlp, figure, 1.0)
    assert value(mlp, "rmse") < value(cosine, "rmse")
    choice = select_head([cosine, mlp], ratings, BOOTSTRAP)
    assert choice.name == "cosine"
    low, high = (float(word.rstrip(".")) for word in choice.reasons[0].split("interval ")[1].split(" to "))
    assert low < 0 < high


def test_without_an_interval_nothing_is_sure(ratings: Ratings) -> None:
    results = [validated("cosine", off(ratings, 0.3), ratings), validated("mlp", off(ratings, 0.1), ratings)]
    choice = select_head(results, ratings, Bootstrap(replicates=0))
    assert choice.name == "cosine"
    assert "no interval" in choice.reasons[0]


def test_only_the_strict_grouping_counts(ratings: Ratings) -> None:
    good, bad = off(ratings, 0.1), off(ratings, 0.3)
    results = [
        validated("cosine", good, ratings, "image"),
        validated("mlp", bad, ratings, "image"),
        validated("cosine", bad, ratings),
        validated("mlp", good, ratings),
    ]
    assert select_head(results, ratings, BOOTSTRAP).name == "mlp"


@pytest.mark.parametrize(
    ("trained", "chosen"),
    [
        (("constant", "mlp"), "mlp"),
        (("constant", "cosine"), "cosine"),
        (("linear", "constant"), "linear"),
    ],
)
def test_where_there_is_nothing_to_compare_one_is_taken_and_that_is_said(
    ratings: Ratings, trained: tuple[str, str], chosen: str
) -> None:
    choice = select_head([validated(name, off(ratings, 0.1), ratings) for name in trained], ratings, BOOTSTRAP)
    assert choice.name == chosen
    assert "compares two heads" in choice.reasons[0]
