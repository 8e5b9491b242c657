"""Folds that do not leak: no training pair shares its image, or its image and its caption, with a test pair.

Grouping by image alone is not enough where one caption was rated beside several images: a head that reads the
text remembers how well the caption does. Grouped by both, images and captions are each dealt into k folds, and
the pairs of every cell (image fold, caption fold) are predicted by a head that has seen neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sceneseek.errors import DataError
from sceneseek_training.rated import Positions, RatedSpace
from sceneseek_training.study import Grouping


@dataclass(frozen=True)
class Lesson:
    """What a head may learn from.

    Attributes:
        space: images, captions and pairs.
        expert, votes: places in `space.expert` and `space.votes`.
        images, captions: bool (N,), (M,): which may be looked at, rated or not.
        seed: of everything random.
    """

    space: RatedSpace
    expert: Positions
    votes: Positions
    images: npt.NDArray[np.bool_]
    captions: npt.NDArray[np.bool_]
    seed: int

    @classmethod
    def whole(cls, space: RatedSpace, seed: int) -> Lesson:
        """Everything there is."""
        return cls(
            space,
            np.arange(len(space.expert)),
            np.arange(len(space.votes)),
            np.ones(len(space.image_joint), np.bool_),
            np.ones(len(space.text_joint), np.bool_),
            seed,
        )

    def without(self, images: npt.NDArray[np.bool_], captions: npt.NDArray[np.bool_]) -> Lesson:
        """Less the pairs of these images (N,) and captions (M,)."""
        allowed_images, allowed_captions = self.images & ~images, self.captions & ~captions
        expert, votes = self.space.expert, self.space.votes
        return Lesson(
            self.space,
            self.expert[(allowed_images[expert.image] & allowed_captions[expert.caption])[self.expert]],
            self.votes[(allowed_images[votes.image] & allowed_captions[votes.caption])[self.votes]],
            allowed_images,
            allowed_captions,
            self.seed,
        )

    def part(self, share: float) -> Lesson:
        """A part of the rated images, drawn by the seed, with all their expert ratings; votes likewise."""
        dice = np.random.default_rng((self.seed, round(1e6 * share)))
        rated = np.unique(self.space.expert.image[self.expert])
        kept = np.zeros(len(self.images), np.bool_)
        kept[dice.permutation(rated)[: max(1, round(share * len(rated)))]] = True
        return self.without(~kept, np.zeros(len(self.captions), np.bool_))


@dataclass(frozen=True)
class Fold:
    """Expert pairs to predict, by their places, and what may be learned from for it."""

    test: Positions
    lesson: Lesson


def grouped_folds(space: RatedSpace, by: Grouping, folds: int, seed: int) -> list[Fold]:
    """`folds` folds by image, or `folds` x `folds` cells by image and caption; every expert pair is tested once.

    Raises:
        DataError: there are fewer images or captions than folds, or a fold would leave too little to learn from.
    """
    pairs, dice = space.expert, np.random.default_rng(seed)
    groups = {"images": pairs.image, "captions": pairs.caption} if by != "image" else {"images": pairs.image}
    for what, group in groups.items():
        if (count := len(np.unique(group))) < folds:
            raise DataError(
                f"the ratings are of {count:,} {what}, fewer than the {folds} folds",
                "give ratings of more pairs, or fewer --folds",
            )
    image_fold = _deal(pairs.image, len(space.image_joint), folds, dice)
    caption_fold = _deal(pairs.caption, len(space.text_joint), folds, dice)
    nobody, whole = np.zeros(len(caption_fold), np.bool_), Lesson.whole(space, seed)
    found = []
    for i in range(folds):
        for j in range(folds) if by != "image" else (-1,):
            captions = caption_fold == j if j >= 0 else nobody
            inside = image_fold[pairs.image] == i
            test = np.flatnonzero(inside & captions[pairs.caption] if j >= 0 else inside)
            if len(test):
                found.append(Fold(test, _enough(whole.without(image_fold == i, captions), folds)))
    return found


def _deal(rated: Positions, count: int, folds: int, dice: np.random.Generator) -> Positions:
    """(count,) the fold of each group, dealt evenly over the rated ones and over the others."""
    fold = np.empty(count, np.int64)
    is_rated = np.isin(np.arange(count), rated)
    for some in (np.flatnonzero(is_rated), np.flatnonzero(~is_rated)):
        fold[some] = dice.permutation(len(some)) % folds
    return fold


def _enough(lesson: Lesson, folds: int) -> Lesson:
    targets = lesson.space.expert.target[lesson.expert]
    if len(np.unique(targets)) < 2:
        raise DataError(
            f"with {folds} folds a fold would learn from {len(targets):,} ratings that are all equal or none",
            "give ratings of more pairs, or fewer --folds",
        )
    return lesson
