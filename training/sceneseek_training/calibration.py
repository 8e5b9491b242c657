"""Calibration from joint-space cosine to score: a logistic curve, and its cross-validated accuracy.

Fitted to human ratings, the score is the expected rating, scaled to [0, 1]. Fitted to captions, it is the probability
that a text was written for this image rather than for one drawn at random, when both are equally likely: a weaker
claim, recorded in the calibration's `source`.

The curve minimises the cross-entropy to the targets, which need not be 0 or 1 (Platt, Probabilistic Outputs for Support
Vector Machines, 1999, with his softened targets for captions). Fitting fails unless the curve rises: a score that falls
with similarity would reverse the order of results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sceneseek.errors import DataError
from sceneseek.vectors import Floats
from sceneseek_evaluation.agreement import pair_figures
from sceneseek_evaluation.figures import Doubles, Positions
from sceneseek_export.curves import Calibration

FOLDS = 5
_STEPS = 100
_RIDGE = 1e-6


@dataclass(frozen=True)
class Pairs:
    """P pairs of an image and a text: their groups, int64 (P,), cosines (P,) and targets (P,) in [0, 1]."""

    image: Positions
    text: Positions
    similarity: Floats
    target: Floats

    def __len__(self) -> int:
        return len(self.target)


def from_ratings(pairs: Pairs, seed: int) -> Calibration:
    """Fit the curve to human ratings, with cross-validated figures.

    Raises:
        DataError: there are fewer images or captions than folds, or ratings do not rise with similarity.
    """
    for what, groups in (("images", pairs.image), ("captions", pairs.text)):
        if len(np.unique(groups)) < FOLDS:
            raise DataError(
                f"the ratings are of {len(np.unique(groups))} {what}, fewer than the {FOLDS} folds",
                "give ratings of more pairs, or leave out --expert",
            )
    predicted = cross_validated(pairs, seed)
    return _calibration(pairs, "human ratings", {**figures(predicted, pairs.target), **_how(pairs, seed)})


def from_captions(images: Floats, texts: Floats, owner: Positions, seed: int) -> Calibration:
    """Fit the curve to held-out captions, each paired with its own image and with another one drawn at random.

    Args:
        images: joint vectors (N, D) of images that were not trained on.
        texts: joint vectors (M, D) of their captions.
        owner: (M,) each text's own image.
        seed: seed of the random images.

    Raises:
        DataError: there is only one image, or captions do not match their own images better than others.
    """
    if len(images) < 2:
        raise DataError("one image is too few to calibrate on", "hold out more, or give ratings with --expert")
    count = len(owner)
    other = (owner + np.random.default_rng(seed).integers(1, len(images), count)) % len(images)
    image = np.concatenate([owner, other])
    text = np.tile(np.arange(count), 2)
    # Platt's targets: as if there were one more pair of each kind, which keeps the slope finite.
    target = np.repeat([(count + 1) / (count + 2), 1 / (count + 2)], count).astype(np.float32)
    similarity = (images[image] * texts[text]).sum(axis=1)
    # A caption shares its group with its own image, so that both fall into the same fold.
    pairs = Pairs(image, owner[text], similarity, target)
    found: dict[str, Any] = {"pairs": len(pairs)}
    if len(images) >= FOLDS:
        found = {**figures(cross_validated(pairs, seed), pairs.target), **_how(pairs, seed)}
    return _calibration(pairs, "captions", found)


def fit(similarity: Floats, target: Floats) -> tuple[float, float]:
    """Return slope and intercept of the curve fitted to P points, by Newton's method.

    Raises:
        DataError: all similarities are equal.
    """
    x, y = similarity.astype(np.float64), target.astype(np.float64)
    centre, spread = x.mean(), x.std()
    if not spread > 0:
        raise DataError("all pairs to calibrate on are equally similar", "give more varied ones")
    design = np.stack([(x - centre) / spread, np.ones_like(x)], axis=1)
    weights = np.zeros(2)
    loss = _loss(design, y, weights)
    for _ in range(_STEPS):
        p = _sigmoid(design @ weights)
        gradient = design.T @ (p - y) / len(y) + _RIDGE * weights
        curvature = (design * (p * (1 - p))[:, None]).T @ design / len(y) + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # Far from the minimum a full step may overshoot; the loss is convex, so a short enough one does not.
        while (tried := _loss(design, y, weights - step)) > loss and np.abs(step).max() > 1e-12:
            step = step / 2
        weights, gained, loss = weights - step, loss - tried, tried
        if gained < 1e-14:
            break
    slope = weights[0] / spread
    return float(slope), float(weights[1] - slope * centre)


def cross_validated(pairs: Pairs, seed: int) -> Doubles:
    """Return predictions (P,), each by a curve fitted without the pair's image and text.

    Images and texts are each divided into `FOLDS` folds; the pairs of a cell (image fold, text fold) are predicted by a
    curve fitted to the pairs outside both folds. An image group and a text group with the same number are in the same
    fold.
    """
    rng = np.random.default_rng(seed)
    fold = rng.permutation(int(max(pairs.image.max(), pairs.text.max())) + 1) % FOLDS
    image, text = fold[pairs.image], fold[pairs.text]
    predicted = np.full(len(pairs), pairs.target.mean(), np.float64)
    for i in range(FOLDS):
        for j in range(FOLDS):
            cell, apart = (image == i) & (text == j), (image != i) & (text != j)
            if cell.any() and len(np.unique(pairs.similarity[apart])) > 1:
                slope, intercept = fit(pairs.similarity[apart], pairs.target[apart])
                predicted[cell] = _sigmoid(slope * pairs.similarity[cell] + intercept)
    return predicted


def figures(predicted: Doubles, target: Floats) -> dict[str, float]:
    """Return RMSE, MAE and Spearman's rank correlation (ties share their mean rank)."""
    found = pair_figures(predicted, target.astype(np.float64))
    return {name: round(found[name], 4) for name in ("rmse", "mae", "spearman")}


def _how(pairs: Pairs, seed: int) -> dict[str, Any]:
    return {
        "pairs": len(pairs),
        "validation": f"cross-validated in {FOLDS} x {FOLDS} folds grouped by image and by caption, seed {seed}: "
        "no pair was predicted by a curve that had seen its image or its caption",
    }


def _calibration(pairs: Pairs, source: str, found: Mapping[str, Any]) -> Calibration:
    slope, intercept = fit(pairs.similarity, pairs.target)
    if not slope > 0:
        raise DataError(
            f"by {source}, pairs that are more alike do not match better (slope {slope:.2g})",
            "check that captions and ratings belong to these images, or give more of them",
        )
    return Calibration(slope, intercept, source, dict(found))


def _sigmoid(logits: Doubles) -> Doubles:
    half: Doubles = np.tanh(logits / 2) / 2 + 0.5
    return half


def _loss(design: Doubles, y: Doubles, weights: Doubles) -> float:
    logits = design @ weights
    return float((np.logaddexp(0, logits) - y * logits).mean() + _RIDGE * (weights**2).sum() / 2)
