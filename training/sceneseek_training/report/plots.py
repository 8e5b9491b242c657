"""A report's plots, as SVG images in data URIs.

Plots are about as wide as a phone, so that they are readable there; the page puts them side by side and inverts their
lightness in dark mode. Colours follow Okabe and Ito (Color Universal Design, 2008), darkened for contrast with the
page. Lines do not differ by colour alone: each regressor has its own marker, lines of heads on the prototype's inputs
are dashed, and lines are labelled at their ends.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from sceneseek_training.cross_validation import HeadResult, LearningPoint
from sceneseek_training.head_recipes import PROTOTYPE, RECIPES, HeadRecipe, Regressor
from sceneseek_training.report.document import Plot
from sceneseek_training.report.measures import RMSE, TAU_C, Measure, decimal, whole
from sceneseek_training.report.tables import Level

_SIZE = (4.6, 3.7)  # inches of 72 points; one point is about one pixel of a phone
_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text, in the reader's font
    "svg.hashsalt": "sceneseek",  # same ids in every run
    "text.parse_math": False,  # names may contain dollar signs
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
}
_LABEL_GAP = 0.066  # between the labels of lines, as a share of the axis
_QUIET, _RULE = "#586069", "#d5dae0"
_LINES: dict[Regressor, tuple[str, str]] = {
    "constant": ("#70777f", "x"),
    "logistic": ("#bd6a00", "s"),
    "isotonic": ("#857a00", "D"),
    "least squares": ("#bf3f0c", "v"),
    "ridge": ("#2b87b8", "<"),
    "catboost": ("#00785a", "^"),
    "network": ("#a03c78", "P"),
    "correction": ("#0a65ad", "o"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """The line of a head in all plots, in matplotlib's terms."""

    colour: str
    marker: str
    style: str

    @classmethod
    def of(cls, recipe: HeadRecipe) -> Line:
        """Return the line of a head; dashed if it reads the prototype's inputs."""
        return cls(*_LINES[recipe.regressor], "--" if recipe.inputs == PROTOTYPE else "-")


@dataclass(frozen=True, slots=True)
class Curve:
    """The values of one measure of a head by the number of training pairs, ascending."""

    recipe: HeadRecipe
    pairs: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """All heads' learning curves of one measure.

    Attributes:
        measure: the measure.
        curves: the curves that end within the bound.
        bound: limit of the axis on its bad side, so that a much worse head does not compress the others; None for no
            limit.
        off: the names of the heads whose curves end beyond the bound.
    """

    measure: Measure
    curves: tuple[Curve, ...]
    bound: float | None
    off: tuple[str, ...]


def error_curves(points: Iterable[LearningPoint], constant: float | None) -> Curves:
    """Return the curves of the RMSE, cut off above 1.1 times that of the constant head."""
    return _curves(RMSE, points, lambda point: point.rmse, 1.1 * constant if constant else None)


def rank_curves(points: Sequence[LearningPoint]) -> Curves:
    """Return the curves of tau-c, cut off below half of the best."""
    best = max((point.tau_c for point in points if math.isfinite(point.tau_c)), default=0)
    return _curves(TAU_C, points, lambda point: point.tau_c, best / 2 if best > 0 else None)


def _curves(
    measure: Measure, points: Iterable[LearningPoint], value: Callable[[LearningPoint], float], bound: float | None
) -> Curves:
    found: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        if math.isfinite(value(point)):
            found.setdefault(point.head, []).append((point.pairs, value(point)))
    on, off = [], []
    for name, ends in found.items():
        pairs, values = zip(*sorted(ends), strict=True)
        beyond = bound is not None and (values[-1] > bound if measure.lower_is_better else values[-1] < bound)
        if beyond:
            off.append(name)
        else:
            on.append(Curve(RECIPES[name], pairs, values))
    return Curves(measure, tuple(on), bound, tuple(off))


def reliability(result: HeadResult) -> Plot:
    """Plot the mean rating over the mean score of each bin, above a histogram of scores."""
    bins, line = result.agreement.reliability, Line.of(result.recipe)
    with _settings():
        figure = _figure()
        curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _plain(curve, "", "mean rating")
        _unit(curve, "y")
        _equal(curve)
        scores, ratings = [b.mean_predicted for b in bins], [b.mean_target for b in bins]
        curve.plot(scores, ratings, color=line.colour, marker=line.marker, ls=line.style, clip_on=False)
        _plain(counts, "score", "pairs")
        _unit(counts, "x")
        counts.hist(result.predicted, bins=np.linspace(0, 1, 21).tolist(), color=line.colour, alpha=0.55)
        counts.yaxis.set_major_formatter(lambda value, _: whole(value))
        name = result.recipe.name
        return _plot(figure, name, f"Mean rating over mean score of {len(bins)} bins: {name}")


def spread(result: HeadResult, levels: Sequence[Level]) -> Plot:
    """Plot quantiles of the scores over the mean rating."""
    line = Line.of(result.recipe)
    with _settings():
        figure = _figure()
        axes = figure.subplots()
        _plain(axes, "mean rating, and number of pairs", "score")
        _unit(axes, "y")
        _equal(axes)
        rated = [level.rated for level in levels]
        ends = np.array([level.quantiles for level in levels]).T
        axes.vlines(rated, ends[0], ends[4], color=line.colour, lw=1.2)
        axes.vlines(rated, ends[1], ends[3], color=line.colour, lw=7, alpha=0.45)
        axes.plot(rated, ends[2], color=line.colour, marker=line.marker, ls="", zorder=3)
        axes.set_xlim(-0.05, 1.05)
        axes.set_xticks(rated, [f"{decimal(level.rated, 2)}\n{whole(level.count)}" for level in levels])
        axes.tick_params(axis="x", labelsize=8.5)
        return _plot(figure, result.recipe.name, f"Scores for each mean rating: {result.recipe.name}")


def learning(curves: Curves, default: str) -> Plot:
    """Plot a measure over the number of training pairs, one line per head; lines may leave the plot at its bound."""
    title, scale = curves.measure.title, curves.measure.scale
    with _settings():
        figure = _figure()
        axes = figure.subplots()
        _plain(axes, "training pairs per fold", title)
        axes.set_xscale("log")
        for curve in curves.curves:
            line, chosen = Line.of(curve.recipe), curve.recipe.name == default
            (drawn,) = axes.plot(curve.pairs, [scale * value for value in curve.values], color=line.colour)
            drawn.set(marker=line.marker, linestyle=line.style)
            drawn.set(linewidth=2.6 if chosen else 1.3, zorder=3 if chosen else 2)
        if curves.bound is not None:
            low, high = axes.get_ylim()
            bound = scale * curves.bound
            axes.set_ylim((low, min(high, bound)) if curves.measure.lower_is_better else (max(low, bound), high))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: whole(value))
        _label_ends(axes, curves, default)
        names = ", ".join(curve.recipe.name for curve in curves.curves)
        return _plot(figure, title, f"{title} over the number of training pairs: {names}")


def _label_ends(axes: Axes, curves: Curves, default: str) -> None:
    """Label each line to the right of the axes, at the height of its end, without overlaps."""
    low, high = axes.get_ylim()
    ends = sorted(curves.curves, key=lambda curve: curve.values[-1])
    heights = [(curves.measure.scale * curve.values[-1] - low) / (high - low) for curve in ends]
    for curve, height, place in zip(ends, heights, apart(heights, _LABEL_GAP), strict=True):
        axes.annotate(
            curve.recipe.name,
            (curve.pairs[-1], low + height * (high - low)),
            (1.06, place),
            textcoords="axes fraction",
            va="center",
            color=Line.of(curve.recipe).colour,
            weight="bold" if curve.recipe.name == default else "normal",
            arrowprops={"arrowstyle": "-", "color": _RULE, "lw": 0.8, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 4},
            annotation_clip=False,
        )


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move ascending heights as little as necessary so that neighbours are at least a gap apart."""
    blocks: list[list[float]] = []  # overlapping heights; each block is spread around its mean
    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _top(blocks[-1], gap) - gap * (len(blocks[-1]) - 1):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return [_top(block, gap) - gap * (len(block) - 1 - i) for block in blocks for i in range(len(block))]


def _top(block: Sequence[float], gap: float) -> float:
    return sum(block) / len(block) + gap * (len(block) - 1) / 2


def _plain(axes: Axes, x: str, y: str) -> None:
    """Style the axes: labels, light grid lines, no box."""
    axes.set_xlabel(x, color=_QUIET)
    axes.set_ylabel(y, color=_QUIET)
    axes.tick_params(colors=_QUIET, length=3)
    axes.set_facecolor("none")
    axes.grid(visible=True, axis="y", color=_RULE, lw=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(_RULE)


def _unit(axes: Axes, which: str) -> None:
    """Set the range of an axis to [0, 1]."""
    limits, ticks = ((axes.set_xlim, axes.set_xticks), (axes.set_ylim, axes.set_yticks))[which == "y"]
    limits(-0.02, 1.02)
    ticks([0, 0.2, 0.4, 0.6, 0.8, 1])


def _equal(axes: Axes) -> None:
    """Draw the line on which score and rating are equal."""
    axes.plot([0, 1], [0, 1], color=_QUIET, ls=":", lw=1.2, zorder=1)


def _figure() -> Figure:
    return Figure(figsize=_SIZE, facecolor="none")


def _settings() -> AbstractContextManager[None]:
    settings: Any = _SETTINGS  # its names are a long list of literals
    return mpl.rc_context(settings)


def _plot(figure: Figure, title: str, shows: str) -> Plot:
    """Convert the figure to a plot, without the current date."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return Plot(title, f"data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode('ascii')}", shows)
