"""Curves from the joint-space cosine to a score in [0, 1]: logistic or isotonic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sceneseek.vectors import Floats


@dataclass(frozen=True)
class Calibration:
    """A logistic curve (Platt, Probabilistic Outputs for Support Vector Machines, 1999) and its origin.

    Attributes:
        slope, intercept: score = 1 / (1 + exp(-(slope * cosine + intercept))).
        source: the data it was fitted to, such as ``captions`` or ``human ratings``.
        figures: metrics of its quality and how they were measured, JSON values.
    """

    slope: float
    intercept: float
    source: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def logit(self, similarity: Floats) -> Floats:
        """Logits (N,) of cosines (N,)."""
        return (similarity * np.float32(self.slope) + np.float32(self.intercept)).astype(np.float32)

    def score(self, similarity: Floats) -> Floats:
        """Scores (N,) in [0, 1] of cosines (N,)."""
        return sigmoid(self.logit(similarity))

    def to_json(self) -> dict[str, Any]:
        """The curve as JSON values."""
        return {**asdict(self), "figures": dict(self.figures)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_json`."""
        return cls(float(raw["slope"]), float(raw["intercept"]), str(raw["source"]), raw.get("figures", {}))


@dataclass(frozen=True)
class IsotonicCurve:
    """A rising piecewise linear curve between knots, constant beyond them (Zadrozny and Elkan, KDD 2002).

    Attributes:
        at: cosines (K,), strictly ascending, K at least 2.
        scores: (K,) in [0, 1], ascending.
    """

    at: Floats
    scores: Floats

    def __post_init__(self) -> None:
        if len(self.at) < 2 or not (np.diff(self.at) > 0).all() or not (np.diff(self.scores) >= 0).all():
            raise ValueError("an isotonic curve needs at least two knots, which must rise")

    def score(self, similarity: Floats) -> Floats:
        """Scores (N,) in [0, 1] of cosines (N,), computed like the graph as a sum of ramps."""
        ramps = np.clip((similarity[:, None] - self.at[:-1]) / np.diff(self.at), np.float32(0), np.float32(1))
        return cut(ramps @ np.diff(self.scores) + self.scores[0])


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, numerically stable at both ends."""
    half: Floats = np.tanh(logits * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5)
    return half


def cut(scores: Floats) -> Floats:
    """Scores clipped to [0, 1]."""
    clipped: Floats = np.clip(scores, np.float32(0), np.float32(1))
    return clipped
