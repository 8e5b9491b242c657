"""Figures with 95% intervals, their table, and the bounds that make `sceneseek evaluate` fail on a regression.

Intervals are from the bootstrap over groups of rows (Efron and Tibshirani 1993, percentile interval). Rows of the same
image are not independent, so each replicate draws as many images as there are, with replacement and with all of their
rows. The interval of a figure is from the 2.5th to the 97.5th percentile of its values over the replicates; both ends
are values of replicates, so that a discrete figure, such as a median rank, gets an interval of possible values. In JSON
a figure is ``{"value": 0.17, "ci95": [0.16, 0.18]}``, with null for numbers that are not finite.

Captions with a language are also measured by language, in figures named ``LANGUAGE.figure``, such as
``pt-BR.recall@10``. ``mean.figure`` is the unweighted mean over the languages; it is not defined if one of them is not.
Captions without a language count only in the figures of all captions. No language of BCP 47 has a code of four letters,
so ``mean`` is unambiguous.

A bound is written ``metric=value``: the minimum of a metric for which higher is better, the maximum of one for which
lower is better (`SMALLER_IS_BETTER`). A figure that is not defined fails every bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sceneseek.captions import Caption
from sceneseek.errors import InvalidRequest
from sceneseek.tables import first_few

Doubles = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Measure = Callable[[Positions], Mapping[str, float]]

MEAN = "mean"

_PERCENTILES = (2.5, 97.5)
_LISTED = 24  # names to list in an error; there may be a dozen for each of many languages


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its 95% interval; None if not defined or infinite."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values: ``value``, and ``ci95`` with both ends, or null if there is no interval."""
        interval = None if self.low is None and self.high is None else [self.low, self.high]
        return {"value": self.value, "ci95": interval}


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The bootstrap of intervals.

    Attributes:
        replicates: number of replicates.
        seed: random seed; the same seed gives the same intervals.
    """

    replicates: int = 1_000
    seed: int = 0

    def figures(self, values: Mapping[str, float], measure: Measure, groups: Positions) -> dict[str, Figure]:
        """Return the figures with their intervals.

        A replicate in which a figure is not defined (NaN) is ignored in that figure's interval. There are no intervals
        for a single group.

        Args:
            values: the figures of all rows, by name; NaN if not defined.
            measure: function from row numbers (any length, repeats allowed) to the same figures of these rows.
            groups: int64 (N,), the group of each row.
        """
        samples = [measure(rows) for rows in self.resamples(groups)] if len(np.unique(groups)) > 1 else []
        return {
            name: Figure(_finite(value), *_interval(np.array([sample[name] for sample in samples], np.float64)))
            for name, value in values.items()
        }

    def resamples(self, groups: Positions) -> Iterator[Positions]:
        """Yield the row numbers of each replicate."""
        order = np.argsort(groups, kind="stable")
        _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
        rng = np.random.default_rng(self.seed)
        for _ in range(self.replicates):
            drawn = rng.integers(0, len(sizes), len(sizes))
            lengths = sizes[drawn]
            # The rows of a group are contiguous in `order`, from the group's start on.
            shift = np.repeat(starts[drawn] - (lengths.cumsum() - lengths), lengths)
            yield order[shift + np.arange(len(shift))]


BOOTSTRAP = Bootstrap()


def _interval(samples: Doubles) -> tuple[float | None, float | None]:
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return None, None
    low, high = np.percentile(defined, _PERCENTILES, method="inverted_cdf")
    return _finite(float(low)), _finite(float(high))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def table(figures: Mapping[str, Figure]) -> list[str]:
    """Return the lines of a table: name, value, 95% interval; a dash for numbers that are not defined or not finite."""
    width = max(map(len, figures), default=0)
    lines = [f"{'figure':<{width}}     value   95% interval"]
    for name, figure in figures.items():
        interval = f"{written(figure.low)} to {written(figure.high)}" if figure.low is not None else "-"
        lines.append(f"{name:<{width}}  {written(figure.value):>8}   {interval}")
    return lines


def written(value: float | None) -> str:
    """Format a figure's number for a table."""
    return "-" if value is None else f"{value:.4f}"


SMALLER_IS_BETTER = frozenset({"rmse", "mae", "ece", "median_rank", "false_match_rate"})


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure's name and its minimum, or its maximum if `above` is set."""

    metric: str
    value: float
    above: bool

    def missed_by(self, figure: Figure) -> str | None:
        """Return a message if the figure fails the bound, else None."""
        if figure.value is None:
            return f"{self.metric} is not defined, so it does not pass the bound {self.value:g}"
        if self.above and figure.value > self.value:
            return f"{self.metric} is {figure.value:.4g}, above {self.value:g}{_bracketed(figure)}"
        if not self.above and figure.value < self.value:
            return f"{self.metric} is {figure.value:.4g}, below {self.value:g}{_bracketed(figure)}"
        return None


def read_bounds(below: Sequence[str], above: Sequence[str], known: Collection[str]) -> list[Bound]:
    """Parse the values of `--fail-below` and `--fail-above`.

    Args:
        below: minima, each as ``metric=value``.
        above: maxima, each as ``metric=value``.
        known: the names of the figures that will be measured.

    Raises:
        InvalidRequest: a bound does not have this form, its figure is unknown, or it belongs to the other option.
    """
    return [
        *(_read_bound(text, "--fail-below", known, above=False) for text in below),
        *(_read_bound(text, "--fail-above", known, above=True) for text in above),
    ]


def missed(bounds: Sequence[Bound], figures: Mapping[str, Figure]) -> list[str]:
    """Return a message for each bound that its figure fails."""
    messages = [bound.missed_by(figures[bound.metric]) for bound in bounds]
    return [message for message in messages if message is not None]


def _read_bound(text: str, option: str, known: Collection[str], above: bool) -> Bound:
    metric, _, number = text.rpartition("=")
    choices = first_few(list(known), _LISTED)
    metric = metric.strip()
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not metric or not math.isfinite(value):
        raise InvalidRequest(f"{option} {text} is not of the form metric=value", f"the metrics are {choices}")
    if metric not in known:
        raise InvalidRequest(f"{option} names {metric}, which is not measured", f"choose from {choices}")
    smaller_is_better = metric.rpartition(".")[2] in SMALLER_IS_BETTER
    if smaller_is_better != above:
        better, other = ("smaller", "--fail-above") if smaller_is_better else ("larger", "--fail-below")
        raise InvalidRequest(f"{option} {text}: {better} is better for {metric}", f"use {other} {metric}={number}")
    return Bound(metric, value, above)


def _bracketed(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f" (95% interval {figure.low:.4g} to {figure.high:.4g})"


def languages_of(captions: Iterable[Caption]) -> list[str]:
    """Return the codes of the captions' languages, sorted."""
    return sorted({caption.language for caption in captions} - {""})


def names_by_language(languages: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return the names of figures by language and of their means; empty without languages."""
    codes = list(languages)
    return [f"{code}.{name}" for code in (*codes, MEAN) for name in names] if codes else []


def measure_by_language(
    measure: Measure, language: npt.NDArray[np.str_], languages: Iterable[str], names: Sequence[str]
) -> Measure:
    """Return a function that measures all rows, the rows of each language, and the mean over the languages.

    Args:
        measure: function from row numbers (at least one, repeats allowed) to figures by name.
        language: (N,) language code of each row, empty if unknown.
        languages: the codes to report.
        names: the figures to report by language; NaN for a language without rows.
    """
    codes = list(languages)

    def measured(rows: Positions) -> dict[str, float]:
        found = dict(measure(rows))
        spoken = language[rows]
        for code in codes:
            own = rows[spoken == code]
            values = measure(own) if len(own) else dict.fromkeys(names, np.nan)
            found |= {f"{code}.{name}": values[name] for name in names}
        if codes:
            found |= {f"{MEAN}.{name}": float(np.mean([found[f"{c}.{name}"] for c in codes])) for name in names}
        return found

    return measured


def table_by_language(figures: Mapping[str, Figure], counts: Mapping[str, int], names: Sequence[str]) -> list[str]:
    """Return the lines of a table of some figures, with a row for each language and one for the mean."""
    head = ("language".ljust(max(map(len, ["language", *counts]))), "captions")
    lines = ["  ".join([*head, *names])]
    for code in (*counts, MEAN):
        count = f"{counts[code]:,}" if code in counts else ""
        values = [f"{written(figures[f'{code}.{name}'].value):>{len(name)}}" for name in names]
        lines.append("  ".join([f"{code:<{len(head[0])}}", f"{count:>{len(head[1])}}", *values]))
    return lines


def json_by_language(
    figures: Mapping[str, Figure], counts: Mapping[str, int], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """As JSON values: ``n_queries`` and the figures by language, then the mean; empty without languages."""

    def values(code: str) -> dict[str, Any]:
        return {name: figures[f"{code}.{name}"].to_json() for name in names}

    found = {code: {"n_queries": count, **values(code)} for code, count in counts.items()}
    return found | {MEAN: values(MEAN)} if found else {}
