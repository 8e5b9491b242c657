"""Cross-validation of heads: every expert pair is predicted by a head that was not trained on its group.

Grouped by image, no training pair shares its image with a test pair. This still leaks if a caption was rated with
several images: a head that reads the text learns how its pairs are usually rated. Grouped by image and caption, no
training pair shares its image or its caption with a test pair: images and captions are each divided into k folds, and
the pairs of each cell (image fold, caption fold) are predicted by a head trained on neither.
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
    """The result of one head under one grouping.

    Attributes:
        recipe: the head's recipe.
        grouping: what no training pair shares with a test pair.
        predicted: (P,) in [0, 1], each by a head that was not trained on the pair's group.
        agreement: agreement with the ratings of all P pairs.
        trained_on: mean number of expert pairs that a fold was trained on.
        seconds: time for all folds.
    """

    recipe: HeadRecipe
    grouping: Grouping
    predicted: Floats
    agreement: Agreement
    trained_on: float
    seconds: float


@dataclass(frozen=True)
class LearningPoint:
    """The result of a head trained on a part of the ratings, grouped by image and caption.

    Attributes:
        head: the recipe's name.
        pairs: mean number of expert pairs that a fold was trained on.
        rmse, spearman, tau_c: over all pairs; tau_c in the published protocol.
    """

    head: str
    pairs: float
    rmse: float
    spearman: float
    tau_c: float


@dataclass(frozen=True)
class Fold:
    """The positions of the expert pairs to predict, and the training split for them."""

    test: Positions
    split: TrainingSplit


def grouped_folds(space: RatedSpace, by: Grouping, folds: int, seed: int) -> list[Fold]:
    """Return `folds` folds by image, or `folds` x `folds` by image and caption; every expert pair is tested once.

    Raises:
        DataError: there are fewer images or captions than folds, or too little training data is left for a fold.
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
    no_captions, whole = np.zeros(len(caption_fold), np.bool_), TrainingSplit.whole(space, seed)
    found = []
    for i in range(folds):
        for j in range(folds) if by != "image" else (-1,):
            captions = caption_fold == j if j >= 0 else no_captions
            inside = image_fold[pairs.image] == i
            test = np.flatnonzero(inside & captions[pairs.caption] if j >= 0 else inside)
            if len(test):
                found.append(Fold(test, _enough(whole.without(image_fold == i, captions), folds)))
    return found


def _deal(rated: Positions, count: int, folds: int, rng: np.random.Generator) -> Positions:
    """Return the fold of each group (count,), with rated and unrated groups each spread evenly."""
    fold = np.empty(count, np.int64)
    is_rated = np.isin(np.arange(count), rated)
    for some in (np.flatnonzero(is_rated), np.flatnonzero(~is_rated)):
        fold[some] = rng.permutation(len(some)) % folds
    return fold


def _enough(split: TrainingSplit, folds: int) -> TrainingSplit:
    if len(np.unique(split.targets)) < 2:
        raise DataError(
            f"with {folds} folds a fold would train on {len(split.targets):,} ratings, but needs two different ones",
            "give ratings of more pairs, or fewer --folds",
        )
    return split


# Shares of a fold's images; the cross-validation itself provides the point of all images.
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
    """Cross-validate every head under every grouping.

    Args:
        recipes: the heads.
        space: the rated pairs in the joint space.
        ratings: the same expert pairs, with each rater's scores.
        folds: number of folds by image; by image and caption its square.
        seed: seed of the folds and of the training.
        advance: called after each fold.
        bootstrap: the bootstrap of the intervals.

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
                    trained_on=_mean_trained_on(cells),
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
    """Cross-validate heads trained on a part of the images, grouped by image and caption.

    The last point of each curve is the head's result in `whole`; for the other arguments see `cross_validate`.
    """
    points = []
    cells = grouped_folds(space, "image and caption", folds, seed)
    for recipe in recipes:
        for share in SHARES:
            part = [Fold(cell.test, cell.split.part(share)) for cell in cells]
            if min(len(np.unique(cell.split.targets)) for cell in part) < 2:
                for _ in cells:
                    advance()
                continue  # this part has too few ratings to train on
            agreement = measure(_predict(recipe, space, part, advance), ratings, Bootstrap(replicates=0))
            points.append(_point(recipe.name, _mean_trained_on(part), agreement))
        complete = next(r for r in whole if (r.recipe.name, r.grouping) == (recipe.name, "image and caption"))
        points.append(_point(recipe.name, complete.trained_on, complete.agreement))
    return tuple(points)


def measure(predicted: Floats, ratings: Ratings, bootstrap: Bootstrap = BOOTSTRAP) -> Agreement:
    """Measure the agreement of predictions (P,) with the ratings of these pairs."""
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


def _mean_trained_on(cells: Sequence[Fold]) -> float:
    return float(np.mean([len(cell.split.expert) for cell in cells]))


def _point(head: str, pairs: float, agreement: Agreement) -> LearningPoint:
    def value(name: str) -> float:
        found = agreement.figures[name].value
        return float("nan") if found is None else found

    return LearningPoint(head, pairs, value("rmse"), value("spearman"), value("kendall_tau_c"))
