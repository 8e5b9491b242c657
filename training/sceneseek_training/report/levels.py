"""What a head predicts for the pairs of each rated level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sceneseek.vectors import Floats

QUANTILES = (5, 25, 50, 75, 95)
_MOST = 13  # levels; beyond these, ratings are rounded to tenths


@dataclass(frozen=True, slots=True)
class Level:
    """The pairs that were rated alike.

    Attributes:
        rated: their mean rating in [0, 1].
        count: how many.
        quantiles: of what was predicted for them, as in `QUANTILES`.
    """

    rated: float
    count: int
    quantiles: tuple[float, ...]


def levels(predicted: Floats, target: Floats) -> list[Level]:
    """Pairs (P,) by rated level, from low to high.

    Three raters' means lie on ten levels; ratings by a varying number of raters on so many that they are
    rounded to tenths.
    """
    rated = np.round(target.astype(np.float64), 3)
    if len(np.unique(rated)) > _MOST:
        rated = np.round(rated, 1)
    return [_level(target[rated == level], predicted[rated == level]) for level in np.unique(rated)]


def _level(target: npt.NDArray[np.float32], predicted: npt.NDArray[np.float32]) -> Level:
    quantiles = np.percentile(predicted.astype(np.float64), QUANTILES)
    return Level(float(target.mean(dtype=np.float64)), len(target), tuple(float(q) for q in quantiles))
