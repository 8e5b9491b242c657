"""Linear heads: ordinary least squares as the prototype had it, and a standardised ridge."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LinearRegression, RidgeCV

from sceneseek_export.heads import LinearHead
from sceneseek_training.folds import Lesson
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.regressors.columns import Columns, joined, read_inputs, towers_read

PENALTIES = tuple(float(10**power) for power in range(1, 7))


def learn_least_squares(recipe: HeadRecipe, lesson: Lesson) -> LinearHead:
    """Ordinary least squares on columns as they are.

    With more columns than pairs it is the solution of least length; it fits the pairs and predicts badly,
    which is what the prototype found. Its head is cut to [0, 1], so its errors stay below those of the raw sum.
    """
    inputs, target = read_inputs(recipe, lesson)
    columns = Columns.of(inputs, lesson.space.alignment.parts, standardise=False)
    fitted = LinearRegression().fit(joined(inputs).astype(np.float64), target.astype(np.float64))
    return _head(recipe, lesson, columns, fitted.coef_, fitted.intercept_)


def learn_ridge(recipe: HeadRecipe, lesson: Lesson) -> LinearHead:
    """Ridge on standardised columns, its penalty by leave-one-out (Golub, Heath and Wahba 1979)."""
    inputs, target = read_inputs(recipe, lesson)
    columns = Columns.of(inputs, lesson.space.alignment.parts)
    fitted = RidgeCV(alphas=PENALTIES).fit(columns.scale(inputs).astype(np.float64), target.astype(np.float64))
    return _head(recipe, lesson, columns, fitted.coef_, fitted.intercept_)


def _head(
    recipe: HeadRecipe, lesson: Lesson, columns: Columns, weight: np.ndarray, intercept: np.floating
) -> LinearHead:
    first = columns.first_layer(weight[None, :], np.array([intercept]))
    return LinearHead(first, towers_read(recipe, lesson), lesson.space.alignment.fingerprint)
