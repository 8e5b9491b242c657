"""Cross-validation predicts each pair by a head of its own fold's lesson, and measures all of them together."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sceneseek_evaluation.bootstrap import Bootstrap
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.folds import grouped_folds
from sceneseek_training.head_recipes import RECIPES
from sceneseek_training.rated import RatedSpace
from sceneseek_training.regressors import learn_head
from sceneseek_training.study import GROUPINGS, Grouping
from sceneseek_training.validation import SHARES, cross_validate, learning_curves
from tests.rated import drawn_space, scores

FOLDS, SEED, NO_INTERVALS = 3, 4, Bootstrap(replicates=0)
CHEAP = (RECIPES["constant"], RECIPES["cosine"])


@pytest.fixture(scope="module")
def space() -> RatedSpace:
    """Read only."""
    return drawn_space(16, 14, 150)


@pytest.fixture(scope="module")
def ratings(space: RatedSpace) -> Ratings:
    """What the space's expert pairs are made of. Read only."""
    pairs = space.expert
    return Ratings(
        label="drawn",
        names=tuple(f"{i}.png" for i in range(16)),
        paths=tuple(Path(f"{i}.png") for i in range(16)),
        captions=tuple(f"caption {i}" for i in range(14)),
        image=pairs.image,
        caption=pairs.caption,
        target=pairs.target,
        weight=pairs.weight,
        scores=pairs.target[:, None],
        own=np.zeros(len(pairs), np.bool_),
        left_out={},
        merged={},
    )


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_a_pair_is_predicted_by_a_head_that_learned_from_the_rest_of_its_fold(
    grouping: Grouping, space: RatedSpace, ratings: Ratings
) -> None:
    results = cross_validate(CHEAP, space, ratings, FOLDS, SEED, bootstrap=NO_INTERVALS)
    cells = grouped_folds(space, grouping, FOLDS, SEED)
    for recipe in CHEAP:
        (found,) = (r for r in results if (r.recipe, r.grouping) == (recipe, grouping))
        assert found.trained_on == np.mean([len(cell.lesson.expert) for cell in cells])
        for cell in cells:
            expected = scores(learn_head(recipe, cell.lesson), space, space.expert.take(cell.test))
            np.testing.assert_array_equal(found.predicted[cell.test], expected)
        gap = found.predicted.astype(np.float64) - ratings.target
        assert found.agreement.figures["rmse"].value == pytest.approx(np.sqrt((gap**2).mean()))


def test_every_head_is_validated_under_every_grouping_and_each_fit_is_counted(
    space: RatedSpace, ratings: Ratings
) -> None:
    fits: list[None] = []
    results = cross_validate(CHEAP, space, ratings, FOLDS, SEED, lambda: fits.append(None), NO_INTERVALS)
    assert {(r.recipe.name, r.grouping) for r in results} == {(r.name, g) for r in CHEAP for g in GROUPINGS}
    assert len(results) == len(CHEAP) * len(GROUPINGS)
    assert len(fits) == len(CHEAP) * (FOLDS + FOLDS**2)


def test_learning_curves_rise_to_the_whole_and_end_with_its_figures(space: RatedSpace, ratings: Ratings) -> None:
    whole = cross_validate(CHEAP, space, ratings, FOLDS, SEED, bootstrap=NO_INTERVALS)
    fits: list[None] = []
    points = learning_curves(CHEAP, space, ratings, whole, FOLDS, SEED, lambda: fits.append(None))
    assert len(fits) == len(CHEAP) * len(SHARES) * FOLDS**2  # as many as the progress bar counts on
    for recipe in CHEAP:
        mine = [point for point in points if point.head == recipe.name]
        (complete,) = (r for r in whole if (r.recipe, r.grouping) == (recipe, "image and caption"))
        assert [a.pairs < b.pairs for a, b in pairwise(mine)] == [True] * len(SHARES)
        assert (mine[-1].pairs, mine[-1].rmse) == (complete.trained_on, complete.agreement.figures["rmse"].value)
        assert mine[0].pairs < 0.25 * complete.trained_on


def test_parts_too_small_to_learn_from_are_left_out_of_the_curve_and_counted_all_the_same() -> None:
    space = drawn_space(expert=[(image, image % 7) for image in range(14)])
    pairs = space.expert
    ratings = Ratings(
        "drawn", tuple(map(str, range(16))), tuple(map(Path, map(str, range(16)))), tuple(map(str, range(14))),
        pairs.image, pairs.caption, pairs.target, pairs.weight, pairs.target[:, None], np.zeros(14, np.bool_), {}, {},
    )  # fmt: skip
    whole = cross_validate(CHEAP, space, ratings, 2, SEED, bootstrap=NO_INTERVALS)
    fits: list[None] = []
    points = learning_curves(CHEAP, space, ratings, whole, 2, SEED, lambda: fits.append(None))
    assert len(fits) == len(CHEAP) * len(SHARES) * 4
    # A tenth of at most seven images is one, with one rating.
    assert len(points) < len(CHEAP) * (len(SHARES) + 1)
    assert all(point.pairs > 1 for point in points)
    assert {point.head for point in points} == {"constant", "cosine"}
