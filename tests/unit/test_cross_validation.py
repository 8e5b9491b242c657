"""Cross-validation: no training pair shares a group with a test pair, and every pair is predicted once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.errors import DataError
from sceneseek_evaluation.figures import Bootstrap
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.cross_validation import (
    GROUPINGS,
    SHARES,
    Fold,
    Grouping,
    cross_validate,
    grouped_folds,
    learning_curves,
)
from sceneseek_training.head_recipes import RECIPES
from sceneseek_training.rated import RatedSpace
from sceneseek_training.regressors import fit_head
from sceneseek_training.training_split import TrainingSplit
from tests.rated import captions_of, drawn_space, images_of, scores

# Number of extra images and captions that only have crowd labels; they come last.
UNRATED = 2


@st.composite
def spaces(draw: st.DrawFn) -> RatedSpace:
    """Six to ten rated images and captions, nearly all of their pairs, and crowd labels of arbitrary pairs."""
    images, captions = draw(st.integers(6, 10)), draw(st.integers(6, 10))
    grid = [(image, caption) for image in range(images) for caption in range(captions)]
    left_out = draw(st.sets(st.sampled_from(grid), max_size=3))
    anywhere = st.tuples(st.integers(0, images + UNRATED - 1), st.integers(0, captions + UNRATED - 1))
    crowd = draw(st.sets(anywhere, max_size=30))
    return drawn_space(images + UNRATED, captions + UNRATED, [p for p in grid if p not in left_out], sorted(crowd))


@given(space=spaces(), folds=st.integers(2, 3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("by", GROUPINGS)
def test_training_and_test_pairs_share_no_group(by: Grouping, space: RatedSpace, folds: int, seed: int) -> None:
    cells = grouped_folds(space, by, folds, seed)
    assert len(cells) <= (folds if by == "image" else folds**2)
    for cell in cells:
        tested_images = space.expert.image[cell.test]
        tested_captions = space.expert.caption[cell.test]
        assert not images_of(cell.split) & set(tested_images.tolist())
        assert not cell.split.images[tested_images].any()
        if by == "image":
            assert cell.split.captions.all()
        else:
            assert not captions_of(cell.split) & set(tested_captions.tolist())
            assert not cell.split.captions[tested_captions].any()


@given(space=spaces(), folds=st.integers(2, 3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("by", GROUPINGS)
def test_every_expert_pair_is_tested_once_and_all_allowed_pairs_are_trained_on(
    by: Grouping, space: RatedSpace, folds: int, seed: int
) -> None:
    cells = grouped_folds(space, by, folds, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([c.test for c in cells])), np.arange(len(space.expert)))
    for cell in cells:
        split = cell.split
        for pairs, places in ((space.expert, split.expert), (space.crowd, split.crowd)):
            allowed = split.images[pairs.image] & split.captions[pairs.caption]
            np.testing.assert_array_equal(places, np.flatnonzero(allowed))


@pytest.mark.parametrize("by", GROUPINGS)
def test_folds_are_balanced_for_rated_and_unrated_groups(by: Grouping) -> None:
    grid = [(image, caption) for image in range(9) for caption in range(8)]
    for cell in grouped_folds(drawn_space(15, 14, grid), by, 3, 0):
        assert [(~cell.split.images[:9]).sum(), (~cell.split.images[9:]).sum()] == [3, 2]
        if by != "image":
            assert (~cell.split.captions[:8]).sum() in (2, 3)
            assert (~cell.split.captions[8:]).sum() == 2


@pytest.mark.parametrize("by", GROUPINGS)
def test_folds_are_reproducible_by_seed(by: Grouping) -> None:
    space = drawn_space()

    def test_pairs(cells: list[Fold]) -> list[list[int]]:
        return [cell.test.tolist() for cell in cells]

    first = grouped_folds(space, by, 3, 5)
    assert test_pairs(first) == test_pairs(grouped_folds(space, by, 3, 5))
    assert test_pairs(first) != test_pairs(grouped_folds(space, by, 3, 6))
    assert {cell.split.seed for cell in first} == {5}


def test_fewer_images_or_captions_than_folds_are_rejected() -> None:
    few_images = drawn_space(expert=[(image, caption) for image in range(3) for caption in range(6)])
    few_captions = drawn_space(expert=[(image, caption) for image in range(6) for caption in range(3)])
    for by in GROUPINGS:
        with pytest.raises(DataError, match="of 3 images, fewer than the 4 folds"):
            grouped_folds(few_images, by, 4, 0)
    with pytest.raises(DataError, match="of 3 captions, fewer than the 4 folds"):
        grouped_folds(few_captions, "image and caption", 4, 0)
    assert len(grouped_folds(few_captions, "image", 4, 0)) == 4  # grouping by image ignores captions
    assert len(grouped_folds(few_images, "image", 3, 0)) == 3


@pytest.mark.parametrize("by", GROUPINGS)
def test_fold_with_equal_training_ratings_is_rejected(by: Grouping) -> None:
    space = drawn_space(expert=[(image, caption) for image in range(6) for caption in range(6)])
    # A single image has different ratings, so the fold that tests it trains on equal ratings.
    target = np.where(space.expert.image == 0, np.float32(1), np.float32(0))
    space = replace(space, expert=replace(space.expert, target=target))
    with pytest.raises(DataError, match=r"with 3 folds .* \d+ ratings, but needs two different ones"):
        grouped_folds(space, by, 3, 0)


def test_fold_with_single_training_rating_is_rejected() -> None:
    # With two images and two captions, a cell leaves one training pair with a different image and caption.
    space = drawn_space(expert=[(0, 0), (1, 1), (0, 1), (1, 0)])
    with pytest.raises(DataError, match="train on 1 ratings"):
        grouped_folds(space, "image and caption", 2, 0)


@given(space=spaces(), share=st.floats(0.01, 1), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_partial_training_split_keeps_whole_images(space: RatedSpace, share: float, seed: int) -> None:
    whole = TrainingSplit.whole(space, seed).without(
        np.arange(len(space.image_joint)) == 0, np.arange(len(space.text_joint)) == 1
    )
    part = whole.part(share)
    rated = np.unique(space.expert.image[whole.expert])
    kept = np.unique(space.expert.image[part.expert])
    assert len(kept) == max(1, round(share * len(rated)))
    np.testing.assert_array_equal(np.flatnonzero(part.images), kept)
    np.testing.assert_array_equal(part.captions, whole.captions)
    for pairs, before, after in (
        (space.expert, whole.expert, part.expert),
        (space.crowd, whole.crowd, part.crowd),
    ):
        np.testing.assert_array_equal(after, before[np.isin(pairs.image[before], kept)])
    again = whole.part(share)
    np.testing.assert_array_equal(again.expert, part.expert)


FOLDS, SEED, NO_INTERVALS = 3, 4, Bootstrap(replicates=0)
CHEAP = (RECIPES["constant"], RECIPES["cosine"])


@pytest.fixture(scope="module")
def space() -> RatedSpace:
    """Read only."""
    return drawn_space(16, 14, 150)


@pytest.fixture(scope="module")
def ratings(space: RatedSpace) -> Ratings:
    """Ratings of the expert pairs of `space`. Read only."""
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
def test_test_pairs_are_predicted_by_head_of_their_fold(
    grouping: Grouping, space: RatedSpace, ratings: Ratings
) -> None:
    results = cross_validate(CHEAP, space, ratings, FOLDS, SEED, bootstrap=NO_INTERVALS)
    cells = grouped_folds(space, grouping, FOLDS, SEED)
    for recipe in CHEAP:
        (result,) = (r for r in results if (r.recipe, r.grouping) == (recipe, grouping))
        assert result.trained_on == np.mean([len(cell.split.expert) for cell in cells])
        for cell in cells:
            expected = scores(fit_head(recipe, cell.split), space, space.expert.take(cell.test))
            np.testing.assert_array_equal(result.predicted[cell.test], expected)
        gap = result.predicted.astype(np.float64) - ratings.target
        assert result.agreement.figures["rmse"].value == pytest.approx(np.sqrt((gap**2).mean()))


def test_every_head_is_validated_with_every_grouping_and_reports_progress(space: RatedSpace, ratings: Ratings) -> None:
    fits: list[None] = []
    results = cross_validate(CHEAP, space, ratings, FOLDS, SEED, lambda: fits.append(None), NO_INTERVALS)
    assert {(r.recipe.name, r.grouping) for r in results} == {(r.name, g) for r in CHEAP for g in GROUPINGS}
    assert len(results) == len(CHEAP) * len(GROUPINGS)
    assert len(fits) == len(CHEAP) * (FOLDS + FOLDS**2)


def test_learning_curves_grow_and_end_with_full_metrics(space: RatedSpace, ratings: Ratings) -> None:
    whole = cross_validate(CHEAP, space, ratings, FOLDS, SEED, bootstrap=NO_INTERVALS)
    fits: list[None] = []
    points = learning_curves(CHEAP, space, ratings, whole, FOLDS, SEED, lambda: fits.append(None))
    assert len(fits) == len(CHEAP) * len(SHARES) * FOLDS**2  # the total of the progress bar
    for recipe in CHEAP:
        curve = [point for point in points if point.head == recipe.name]
        (full,) = (r for r in whole if (r.recipe, r.grouping) == (recipe, "image and caption"))
        assert [a.pairs < b.pairs for a, b in pairwise(curve)] == [True] * len(SHARES)
        assert (curve[-1].pairs, curve[-1].rmse) == (full.trained_on, full.agreement.figures["rmse"].value)
        assert curve[0].pairs < 0.25 * full.trained_on


def test_learning_curves_skip_too_small_parts_but_report_progress() -> None:
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
    # A tenth of seven images is one image with one rating, which is too few.
    assert len(points) < len(CHEAP) * (len(SHARES) + 1)
    assert all(point.pairs > 1 for point in points)
    assert {point.head for point in points} == {"constant", "cosine"}
