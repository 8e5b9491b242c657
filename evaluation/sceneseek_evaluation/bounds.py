"""Bounds on figures: what makes `sceneseek evaluate` fail on a regression.

A bound is written ``metric=value``. Where more is better it is the least that passes, where less is better
(`SMALLER_IS_BETTER`) the most. A figure that is not defined passes no bound.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sceneseek.errors import InvalidRequest
from sceneseek_evaluation.bootstrap import Figure

SMALLER_IS_BETTER = frozenset({"rmse", "mae", "ece", "median_rank", "false_match_rate"})


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure's name and its least passing value, or the most where `above` says that more than it fails."""

    metric: str
    value: float
    above: bool

    def missed_by(self, figure: Figure) -> str | None:
        """What to say of a figure that does not pass."""
        if figure.value is None:
            return f"{self.metric} is not defined, so it does not pass the bound {self.value:g}"
        if self.above and figure.value > self.value:
            return f"{self.metric} is {figure.value:.4g}, above {self.value:g}{_interval(figure)}"
        if not self.above and figure.value < self.value:
            return f"{self.metric} is {figure.value:.4g}, below {self.value:g}{_interval(figure)}"
        return None


def read_bounds(below: Sequence[str], above: Sequence[str], known: Collection[str]) -> list[Bound]:
    """The bounds that `--fail-below` and `--fail-above` give.

    Args:
        below: each ``metric=value``, the least that passes.
        above: each ``metric=value``, the most that passes.
        known: the figures that there will be.

    Raises:
        InvalidRequest: not of this form, an unknown figure, or one that gets better in the other direction.
    """
    return [
        *(_read(text, "--fail-below", known, above=False) for text in below),
        *(_read(text, "--fail-above", known, above=True) for text in above),
    ]


def missed(bounds: Sequence[Bound], figures: Mapping[str, Figure]) -> list[str]:
    """A line for each bound that its figure does not pass."""
    said = [bound.missed_by(figures[bound.metric]) for bound in bounds]
    return [line for line in said if line is not None]


def _read(text: str, option: str, known: Collection[str], above: bool) -> Bound:
    metric, _, number = text.rpartition("=")
    metric = metric.strip()
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not metric or not math.isfinite(value):
        raise InvalidRequest(f"{option} {text} is not of the form metric=value", f"the metrics are {', '.join(known)}")
    if metric not in known:
        raise InvalidRequest(f"{option} names {metric}, which is not measured", f"choose from {', '.join(known)}")
    smaller_is_better = metric.rpartition(".")[2] in SMALLER_IS_BETTER
    if smaller_is_better != above:
        better, other = ("smaller", "--fail-above") if smaller_is_better else ("larger", "--fail-below")
        raise InvalidRequest(f"{option} {text}: {better} is better for {metric}", f"use {other} {metric}={number}")
    return Bound(metric, value, above)


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f" (95% interval {figure.low:.4g} to {figure.high:.4g})"
