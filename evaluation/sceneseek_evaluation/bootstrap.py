"""Figures with intervals: the bootstrap over groups of rows (Efron and Tibshirani 1993, percentile interval).

Rows of one image are not independent of each other, so images are what is drawn, with replacement and with
all of their rows: as many images as there are. The interval of a figure lies between the 2.5th and the
97.5th percentile of its values over the replicates; both ends are values of replicates, so that a figure
with steps, such as a median rank, gets an interval of possible values.

In JSON a figure is ``{"value": 0.17, "ci95": [0.16, 0.18]}``, with null for what is not a finite number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its 95% interval; None where it is not defined, or infinite."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values: ``value``, and ``ci95`` with both ends, or null where there is no interval."""
        interval = None if self.low is None and self.high is None else [self.low, self.high]
        return {"value": self.value, "ci95": interval}


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are found.

    Attributes:
        replicates: how many times images are drawn anew.
        seed: of the drawing; the same seed gives the same intervals.
    """

    replicates: int = 1_000
    seed: int = 0

    def figures(
        self, values: Mapping[str, float], measure: Callable[[Positions], Mapping[str, float]], groups: Positions
    ) -> dict[str, Figure]:
        """The figures with their intervals.

        A replicate in which a figure is not defined (NaN) is left out of that figure's interval. One group
        alone shows no spread, so it gives no interval.

        Args:
            values: the figures of all rows, by name; NaN where not defined.
            measure: row numbers (any length, repeats allowed) to the same figures of these rows.
            groups: int64 (N,), the group of each row.
        """
        samples = [measure(rows) for rows in self.resamples(groups)] if len(np.unique(groups)) > 1 else []
        return {
            name: Figure(_finite(value), *_interval(np.array([sample[name] for sample in samples], np.float64)))
            for name, value in values.items()
        }

    def resamples(self, groups: Positions) -> Iterator[Positions]:
        """The row numbers of each replicate."""
        order = np.argsort(groups, kind="stable")
        _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
        rng = np.random.default_rng(self.seed)
        for _ in range(self.replicates):
            drawn = rng.integers(0, len(sizes), len(sizes))
            lengths = sizes[drawn]
            # Each drawn group's rows lie side by side in `order`: its start, and the places after it.
            shift = np.repeat(starts[drawn] - (lengths.cumsum() - lengths), lengths)
            yield order[shift + np.arange(len(shift))]


def _interval(samples: Doubles) -> tuple[float | None, float | None]:
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return None, None
    low, high = np.percentile(defined, _PERCENTILES, method="inverted_cdf")
    return _finite(float(low)), _finite(float(high))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
