"""Cross-validation of heads: every expert pair is predicted by a head that has not seen its group.

Folds do not leak: no training pair shares its image, or its image and its caption, with a test pair. Grouping by image
alone is not enough where one caption was rated beside several images: a head that reads the text remembers how well
the caption does. Grouped by both, images and captions are each dealt into k folds, and the pairs of every cell (image
fold, caption fold) are predicted by a head that has seen neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sceneseek.errors import DataError
from sceneseek.vectors import Floats
from sceneseek_evaluation.agreement import Agreement, Rated, measure_agreement
from sceneseek_evaluation.figures import BOOTSTRAP, Bootstrap
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.rated import Positions, RatedSpace
from sceneseek_training.regressors import fit_head
from sceneseek_training.training_split import TrainingSplit

Grouping = Literal["image", "image and caption"]
GROUPINGS: tuple[Grouping, ...] = ("image", "image and caption")


@dataclass(frozen=True)
class HeadResult:
    """One head under one grouping.

    Attributes:
        recipe: which.
        grouping: what no training pair shares with a test pair.
        predicted: (P,) in [0, 1], each by a head that had not seen the pair's group.
        agreement: with the ratings, all P pairs.
        trained_on: how many expert pairs a fold had to learn from, on average.
        seconds: of all its folds.
    """

    recipe: HeadRecipe
    grouping: Grouping
    predicted: Floats
    agreement: Agreement
    trained_on: float
    seconds: float


@dataclass(frozen=True)
class LearningPoint:
    """A head that learned from a part of the ratings, grouped by image and caption.

    Attributes:
        head: the recipe's name.
        pairs: how many expert pairs a fold had to learn from, on average.
        rmse, spearman, tau_c: of all pairs; tau_c in the published protocol.
    """

    head: str
    pairs: float
    rmse: float
    spearman: float
    tau_c: float


@dataclass(frozen=True)
class Fold:
    """Expert pairs to predict, by their places, and what may be learned from for it."""

    test: Positions
    split: TrainingSplit


def grouped_folds(space: RatedSpace, by: Grouping, folds: int, seed: int) -> list[Fold]:
    """`folds` folds by image, or `folds` x `folds` cells by image and caption; every expert pair is tested once.

    Raises:
        DataError: there are fewer images or captions than folds, or a fold would leave too little to learn from.
    """
    pairs, rng = space.expert, np.random.default_rng(seed)
    groups = {"images": pairs.image, "captions": pairs.caption} if by != "image" else {"images": pairs.image}
    for what, group in groups.items():
        if (count := len(np.unique(group))) < folds:
            raise DataError(
                f"the ratings are of {count:,} {what}, fewer than the {folds} folds",
                "give ratings of more pairs, or fewer --folds",
            )
    image_fold = _deal(pairs.image, len(space.image_joint), folds, rng)
    caption_fold = _deal(pairs.caption, len(space.text_joint), folds, rng)
    nobody, whole = np.zeros(len(caption_fold), np.bool_), TrainingSplit.whole(space, seed)
    found = []
    for i in range(folds):
        for j in range(folds) if by != "image" else (-1,):
            captions = caption_fold == j if j >= 0 else nobody
            inside = image_fold[pairs.image] == i
            test = np.flatnonzero(inside & captions[pairs.caption] if j >= 0 else inside)
            if len(test):
                found.append(Fold(test, _enough(whole.without(image_fold == i, captions), folds)))
    return found


def _deal(rated: Positions, count: int, folds: int, rng: np.random.Generator) -> Positions:
    """(count,) the fold of each group, dealt evenly over the rated ones and over the others."""
    fold = np.empty(count, np.int64)
    is_rated = np.isin(np.arange(count), rated)
    for some in (np.flatnonzero(is_rated), np.flatnonzero(~is_rated)):
        fold[some] = rng.permutation(len(some)) % folds
    return fold


def _enough(split: TrainingSplit, folds: int) -> TrainingSplit:
    if len(np.unique(split.targets)) < 2:
        raise DataError(
            f"with {folds} folds a fold would learn from {len(split.targets):,} ratings that are all equal or none",
            "give ratings of more pairs, or fewer --folds",
        )
    return split


# Of the images of a fold; the whole is the cross-validation itself.
SHARES = (0.1, 0.25, 0.5)


def cross_validate(
    recipes: Sequence[HeadRecipe],
    space: RatedSpace,
    ratings: Ratings,
    folds: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> tuple[HeadResult, ...]:
    """Every head under every grouping; `ratings` are the pairs of `space`, with each rater's scores.

    There are so many `folds` by image, and by image and caption their square; `advance` is called after each of them.

    Raises:
        DataError: see `grouped_folds` and `fit_head`.
    """
    found = []
    for grouping in GROUPINGS:
        cells = grouped_folds(space, grouping, folds, seed)
        for recipe in recipes:
            start = time.perf_counter()
            predicted = _predict(recipe, space, cells, advance)
            found.append(
                HeadResult(
                    recipe=recipe,
                    grouping=grouping,
                    predicted=predicted,
                    agreement=measure(predicted, ratings, bootstrap),
                    trained_on=_learned_from(cells),
                    seconds=time.perf_counter() - start,
                )
            )
    return tuple(found)


def learning_curves(
    recipes: Sequence[HeadRecipe],
    space: RatedSpace,
    ratings: Ratings,
    whole: Sequence[HeadResult],
    folds: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[LearningPoint, ...]:
    """Heads that learned from a part of the images, grouped by image and caption.

    The last point are the results of the same heads with the `whole`; other arguments are as of `cross_validate`.
    """
    points = []
    cells = grouped_folds(space, "image and caption", folds, seed)
    for recipe in recipes:
        for share in SHARES:
            part = [Fold(cell.test, cell.split.part(share)) for cell in cells]
            if min(len(np.unique(cell.split.targets)) for cell in part) < 2:
                for _ in cells:
                    advance()
                continue  # too few ratings to learn from so small a part of them
            agreement = measure(_predict(recipe, space, part, advance), ratings, Bootstrap(replicates=0))
            points.append(_point(recipe.name, _learned_from(part), agreement))
        complete = next(r for r in whole if (r.recipe.name, r.grouping) == (recipe.name, "image and caption"))
        points.append(_point(recipe.name, complete.trained_on, complete.agreement))
    return tuple(points)


def measure(predicted: Floats, ratings: Ratings, bootstrap: Bootstrap = BOOTSTRAP) -> Agreement:
    """How well predictions (P,) agree with the ratings of these pairs."""
    return measure_agreement(
        Rated(
            predicted.astype(np.float64),
            ratings.target.astype(np.float64),
            ratings.scores.astype(np.float64),
            ratings.own,
            ratings.image,
        ),
        bootstrap,
    )


def _predict(recipe: HeadRecipe, space: RatedSpace, cells: Sequence[Fold], advance: Callable[[], None]) -> Floats:
    predicted = np.full(len(space.expert), np.nan, np.float32)
    for cell in cells:
        head = fit_head(recipe, cell.split)
        predicted[cell.test] = head.score(space.inputs(head.reads, space.expert.take(cell.test)))
        advance()
    return predicted


def _learned_from(cells: Sequence[Fold]) -> float:
    return float(np.mean([len(cell.split.expert) for cell in cells]))


def _point(head: str, pairs: float, agreement: Agreement) -> LearningPoint:
    def value(name: str) -> float:
        found = agreement.figures[name].value
        return float("nan") if found is None else found

    return LearningPoint(head, pairs, value("rmse"), value("spearman"), value("kendall_tau_c"))
