"""The figures of a report: titles, meanings, and the format of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sceneseek_evaluation.figures import Figure

DASH = "\N{EN DASH}"


def decimal(value: float | None, digits: int = 3) -> str:
    """Format a number with a fixed number of decimals; a dash if it is not defined."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int = 3) -> str:
    """Format a difference, with its sign."""
    text = decimal(value, digits)
    return f"+{text}" if value > 0 else text


def whole(count: float) -> str:
    """Format a count."""
    return decimal(count, 0)


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of `sceneseek_evaluation.agreement.FIGURES`.

    Attributes:
        name: name of the figure.
        title: column title.
        meaning: explanation; empty if the title says it all.
        lower_is_better: True for errors, False for correlations.
        per_cent: whether it is printed times 100, as papers print Kendall's tau.
    """

    name: str
    title: str
    meaning: str
    lower_is_better: bool = False
    per_cent: bool = False

    @property
    def scale(self) -> int:
        """The factor of printed values."""
        return 100 if self.per_cent else 1

    def text(self, value: float | None) -> str:
        """Format a value."""
        return decimal(None if value is None else self.scale * value, 1 if self.per_cent else 3)

    def interval(self, figure: Figure) -> str:
        """Format the 95% interval; empty if there is none."""
        if figure.low is None or figure.high is None:
            return ""
        return f"{self.text(figure.low)} to {self.text(figure.high)}"

    def sentence(self, figure: Figure) -> str:
        """Format the value and, in brackets, its interval."""
        interval = self.interval(figure)
        return f"{self.text(figure.value)} ({interval})" if interval else self.text(figure.value)

    def best(self, values: list[float | None]) -> str | None:
        """Format the best of several values; None if none is defined."""
        defined = [value for value in values if value is not None]
        if not defined:
            return None
        return self.text(min(defined) if self.lower_is_better else max(defined))


_ERROR = "0 is perfect, and one step on the raters' scale of 1 to 4 is 0.333"
_RANKS = "1 is the raters' own order, 0 is chance"
RMSE = Measure("rmse", "RMSE", f"root of the mean squared gap between score and mean rating; {_ERROR}.", True)
MAE = Measure("mae", "MAE", "mean absolute gap between score and mean rating; single large misses weigh less.", True)
PEARSON = Measure("pearson", "Pearson", "linear correlation of scores and mean ratings; 1 is a straight line.")
SPEARMAN = Measure("spearman", "Spearman", f"correlation of their ranks, so only the order counts; {_RANKS}.")
TAU_B = Measure(
    "kendall_tau_b",
    "tau-b x100",
    "Kendall's rank correlation, corrected for ties, in the published protocol, times 100.",
    per_cent=True,
)
TAU_C = Measure(
    "kendall_tau_c",
    "tau-c x100",
    "the variant of Kendall's tau that papers print for Flickr8k-Expert, in the published protocol, times 100.",
    per_cent=True,
)
TAU_B_ALL = Measure("kendall_tau_b_all", "tau-b x100, all pairs", "", per_cent=True)
TAU_C_ALL = Measure("kendall_tau_c_all", "tau-c x100, all pairs", "", per_cent=True)
ECE = Measure(
    "ece",
    "ECE",
    "expected calibration error: the distance of the mean score from the mean rating, over ten bins of neighbouring "
    "scores. 0 is perfect, but even a constant score can reach it, so read it together with the other figures.",
    True,
)
MEASURES = (RMSE, MAE, PEARSON, SPEARMAN, TAU_B, TAU_C, TAU_B_ALL, TAU_C_ALL, ECE)
