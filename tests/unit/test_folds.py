"""Folds of a cross-validation do not leak, and predict every rated pair once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.errors import DataError
from sceneseek_training.folds import Fold, Lesson, grouped_folds
from sceneseek_training.rated import RatedSpace
from sceneseek_training.study import GROUPINGS, Grouping
from tests.rated import captions_of, drawn_space, images_of

# Beside the rated ones, at the end: images and captions that only have votes.
UNRATED = 2


@st.composite
def spaces(draw: st.DrawFn) -> RatedSpace:
    """Six to ten rated images and captions, nearly all of their pairs, and votes on any pair at all."""
    images, captions = draw(st.integers(6, 10)), draw(st.integers(6, 10))
    grid = [(image, caption) for image in range(images) for caption in range(captions)]
    left_out = draw(st.sets(st.sampled_from(grid), max_size=3))
    anywhere = st.tuples(st.integers(0, images + UNRATED - 1), st.integers(0, captions + UNRATED - 1))
    votes = draw(st.sets(anywhere, max_size=30))
    return drawn_space(images + UNRATED, captions + UNRATED, [p for p in grid if p not in left_out], sorted(votes))


@given(space=spaces(), folds=st.integers(2, 3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("by", GROUPINGS)
def test_nothing_learned_from_shares_a_group_with_a_pair_that_is_tested(
    by: Grouping, space: RatedSpace, folds: int, seed: int
) -> None:
    cells = grouped_folds(space, by, folds, seed)
    assert len(cells) <= (folds if by == "image" else folds**2)
    for cell in cells:
        tested_images = space.expert.image[cell.test]
        tested_captions = space.expert.caption[cell.test]
        assert not images_of(cell.lesson) & set(tested_images.tolist())
        assert not cell.lesson.images[tested_images].any()
        if by == "image":
            assert cell.lesson.captions.all()
        else:
            assert not captions_of(cell.lesson) & set(tested_captions.tolist())
            assert not cell.lesson.captions[tested_captions].any()


@given(space=spaces(), folds=st.integers(2, 3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("by", GROUPINGS)
def test_every_expert_pair_is_tested_once_and_no_other_pair_is_kept_from_a_lesson(
    by: Grouping, space: RatedSpace, folds: int, seed: int
) -> None:
    cells = grouped_folds(space, by, folds, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([c.test for c in cells])), np.arange(len(space.expert)))
    for cell in cells:
        lesson = cell.lesson
        for pairs, places in ((space.expert, lesson.expert), (space.votes, lesson.votes)):
            allowed = lesson.images[pairs.image] & lesson.captions[pairs.caption]
            np.testing.assert_array_equal(places, np.flatnonzero(allowed))


@pytest.mark.parametrize("by", GROUPINGS)
def test_groups_are_dealt_evenly_and_those_without_expert_ratings_too(by: Grouping) -> None:
    grid = [(image, caption) for image in range(9) for caption in range(8)]
    for cell in grouped_folds(drawn_space(15, 14, grid), by, 3, 0):
        assert [(~cell.lesson.images[:9]).sum(), (~cell.lesson.images[9:]).sum()] == [3, 2]
        if by != "image":
            assert (~cell.lesson.captions[:8]).sum() in (2, 3)
            assert (~cell.lesson.captions[8:]).sum() == 2


@pytest.mark.parametrize("by", GROUPINGS)
def test_the_same_seed_deals_the_same_folds_and_another_seed_others(by: Grouping) -> None:
    space = drawn_space()

    def dealt(cells: list[Fold]) -> list[list[int]]:
        return [cell.test.tolist() for cell in cells]

    first = grouped_folds(space, by, 3, 5)
    assert dealt(first) == dealt(grouped_folds(space, by, 3, 5))
    assert dealt(first) != dealt(grouped_folds(space, by, 3, 6))
    assert {cell.lesson.seed for cell in first} == {5}


def test_fewer_images_or_captions_than_folds_are_refused_with_their_counts() -> None:
    few_images = drawn_space(expert=[(image, caption) for image in range(3) for caption in range(6)])
    few_captions = drawn_space(expert=[(image, caption) for image in range(6) for caption in range(3)])
    for by in GROUPINGS:
        with pytest.raises(DataError, match="of 3 images, fewer than the 4 folds"):
            grouped_folds(few_images, by, 4, 0)
    with pytest.raises(DataError, match="of 3 captions, fewer than the 4 folds"):
        grouped_folds(few_captions, "image and caption", 4, 0)
    assert len(grouped_folds(few_captions, "image", 4, 0)) == 4  # captions do not matter there
    assert len(grouped_folds(few_images, "image", 3, 0)) == 3


@pytest.mark.parametrize("by", GROUPINGS)
def test_a_fold_that_would_learn_from_equal_ratings_is_refused(by: Grouping) -> None:
    space = drawn_space(expert=[(image, caption) for image in range(6) for caption in range(6)])
    # One image alone was rated otherwise, so the fold that tests it sees equal ratings.
    target = np.where(space.expert.image == 0, np.float32(1), np.float32(0))
    space = replace(space, expert=replace(space.expert, target=target))
    with pytest.raises(DataError, match=r"with 3 folds .* \d+ ratings that are all equal"):
        grouped_folds(space, by, 3, 0)


def test_a_fold_with_one_rating_to_learn_from_is_refused() -> None:
    # Of two images and two captions, a cell leaves one pair that has neither its image nor its caption.
    space = drawn_space(expert=[(0, 0), (1, 1), (0, 1), (1, 0)])
    with pytest.raises(DataError, match="learn from 1 ratings"):
        grouped_folds(space, "image and caption", 2, 0)


@given(space=spaces(), share=st.floats(0.01, 1), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_part_of_a_lesson_keeps_whole_images(space: RatedSpace, share: float, seed: int) -> None:
    whole = Lesson.whole(space, seed).without(
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
        (space.votes, whole.votes, part.votes),
    ):
        np.testing.assert_array_equal(after, before[np.isin(pairs.image[before], kept)])
    again = whole.part(share)
    np.testing.assert_array_equal(again.expert, part.expert)
