"""Cross-validation of heads: every expert pair is predicted by a head that has not seen its groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from sceneseek.vectors import Floats
from sceneseek_evaluation.agreement import Agreement, Rated, measure_agreement
from sceneseek_evaluation.bootstrap import Bootstrap
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.folds import Fold, Lesson, grouped_folds
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.rated import RatedSpace
from sceneseek_training.regressors import learn_head
from sceneseek_training.study import GROUPINGS, LearningPoint, Validated

# Of the images of a fold; the whole is the cross-validation itself.
SHARES = (0.1, 0.25, 0.5)


def cross_validate(
    recipes: Sequence[HeadRecipe],
    space: RatedSpace,
    ratings: Ratings,
    folds: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
    bootstrap: Bootstrap | None = None,
) -> tuple[Validated, ...]:
    """Every head under every grouping.

    Args:
        recipes: the heads.
        space: the rated pairs.
        ratings: the same pairs, with each rater's scores.
        folds: by image; by image and caption their square.
        seed: of the folds and of the heads.
        advance: called after each fold of each head.
        bootstrap: how intervals are found.

    Raises:
        DataError: see `grouped_folds` and `learn_head`.
    """
    found = []
    for grouping in GROUPINGS:
        cells = grouped_folds(space, grouping, folds, seed)
        for recipe in recipes:
            start = time.perf_counter()
            predicted = _predict(recipe, space, cells, advance)
            found.append(
                Validated(
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
    whole: Sequence[Validated],
    folds: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[LearningPoint, ...]:
    """Heads that learned from a part of the images, grouped by image and caption; `whole` is the last point.

    Args:
        recipes: the heads.
        space: see `cross_validate`, as the rest.
        ratings: the same pairs.
        whole: the results of the same heads with all images.
        folds: by image, and by caption.
        seed: of the folds, the parts and the heads.
        advance: called after each fold of each point.
    """
    points = []
    cells = grouped_folds(space, "image and caption", folds, seed)
    for recipe in recipes:
        for share in SHARES:
            part = [Fold(cell.test, cell.lesson.part(share)) for cell in cells]
            if min(len(_distinct(cell.lesson)) for cell in part) < 2:
                for _ in cells:
                    advance()
                continue  # too few ratings to learn from so small a part of them
            agreement = measure(_predict(recipe, space, part, advance), ratings, Bootstrap(replicates=0))
            points.append(_point(recipe.name, _learned_from(part), agreement))
        complete = next(r for r in whole if (r.recipe.name, r.grouping) == (recipe.name, "image and caption"))
        points.append(_point(recipe.name, complete.trained_on, complete.agreement))
    return tuple(points)


def measure(predicted: Floats, ratings: Ratings, bootstrap: Bootstrap | None = None) -> Agreement:
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
        head = learn_head(recipe, cell.lesson)
        predicted[cell.test] = head.score(space.inputs(head.reads, space.expert.take(cell.test)))
        advance()
    return predicted


def _learned_from(cells: Sequence[Fold]) -> float:
    return float(np.mean([len(cell.lesson.expert) for cell in cells]))


def _distinct(lesson: Lesson) -> Floats:
    distinct: Floats = np.unique(lesson.space.expert.target[lesson.expert])
    return distinct


def _point(head: str, pairs: float, agreement: Agreement) -> LearningPoint:
    def value(name: str) -> float:
        found = agreement.figures[name].value
        return float("nan") if found is None else found

    return LearningPoint(head, pairs, value("rmse"), value("spearman"), value("kendall_tau_c"))
