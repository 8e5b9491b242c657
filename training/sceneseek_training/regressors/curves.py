"""Heads of one number: the mean rating, and rising curves over the joint-space cosine."""

from __future__ import annotations

import numpy as np
from sklearn.isotonic import IsotonicRegression

from sceneseek.vectors import Floats
from sceneseek_export.heads import Calibration, ConstantHead, CosineHead, IsotonicCurve
from sceneseek_training import calibration
from sceneseek_training.folds import Lesson
from sceneseek_training.head_recipes import HeadRecipe

# Knots nearer to each other are one: their difference would drown in float32.
_LEAST_STEP = 1e-5


def learn_constant(_: HeadRecipe, lesson: Lesson) -> ConstantHead:
    """The mean of the targets."""
    return ConstantHead(float(lesson.space.expert.target[lesson.expert].mean()))


def learn_logistic(_: HeadRecipe, lesson: Lesson) -> CosineHead:
    """See `sceneseek_training.calibration.fit`."""
    similarity, target = similarities(lesson)
    slope, intercept = calibration.fit(similarity, target)
    return CosineHead(Calibration(slope, intercept, "human ratings"), lesson.space.alignment.fingerprint)


def learn_isotonic(_: HeadRecipe, lesson: Lesson) -> CosineHead:
    """Pool adjacent violators, and straight lines between the steps (Zadrozny and Elkan, KDD 2002)."""
    similarity, target = similarities(lesson)
    fitted = IsotonicRegression(y_min=0, y_max=1, increasing=True, out_of_bounds="clip").fit(similarity, target)
    at, scores = fitted.X_thresholds_, fitted.y_thresholds_.copy()
    kept = [0]
    for i in range(1, len(at)):
        if at[i] - at[kept[-1]] >= _LEAST_STEP:
            kept.append(i)
        else:
            scores[kept[-1]] = scores[i]  # the later is the higher
    if len(kept) == 1:
        kept, at, scores = [0, 1], np.array([at[0], at[0] + 1]), np.array([scores[0], scores[0]])
    curve = IsotonicCurve(at[kept].astype(np.float32), scores[kept].astype(np.float32))
    return CosineHead(curve, lesson.space.alignment.fingerprint)


def similarities(lesson: Lesson) -> tuple[Floats, Floats]:
    """(P,) cosines and (P,) targets of the lesson's expert pairs."""
    pairs = lesson.space.expert.take(lesson.expert)
    return lesson.space.input("similarity", pairs.image, pairs.caption)[:, 0], pairs.target
