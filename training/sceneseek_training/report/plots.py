"""A report's plots, as SVG elements that take their colours from the page (`palette`) and their text's font too.

Each is drawn about as wide as a phone, so that its words can be read there; the page puts them side by side.
matplotlib is the extra `train`, imported when the first plot is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from sceneseek.errors import DataError
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.report.curves import Curves
from sceneseek_training.report.document import Plot
from sceneseek_training.report.escape import for_html
from sceneseek_training.report.levels import Level
from sceneseek_training.report.measures import decimal, whole
from sceneseek_training.report.palette import COLOURS, line_of
from sceneseek_training.study import Validated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (4.6, 3.7)  # inches of 72 points; one point is about one pixel of a phone
_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text: to be read aloud, found and copied
    "text.parse_math": False,  # a name with dollar signs is a name
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
}
_LABEL_GAP = 0.066  # between the labels of lines, as a share of the axis
_INK, _QUIET, _RULE = (COLOURS[role].light for role in ("ink", "quiet", "rule"))


def reliability(result: Validated) -> Plot:
    """Mean rating over mean score of each bin, and below how many pairs have which score."""
    recipe, bins = result.recipe, result.agreement.reliability
    line, colour = line_of(recipe), _colour(recipe)
    with _settings(f"reliability {recipe.name}"):
        figure = _figure()
        curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _plain(curve, "", "mean rating")
        _unit(curve, "y")
        _equal(curve)
        scores, ratings = [b.mean_predicted for b in bins], [b.mean_target for b in bins]
        curve.plot(scores, ratings, color=colour, marker=line.marker, ls="--" if line.dashed else "-", clip_on=False)
        _plain(counts, "score", "pairs")
        _unit(counts, "x")
        counts.hist(result.predicted, bins=np.linspace(0, 1, 21).tolist(), color=colour, alpha=0.55)
        counts.yaxis.set_major_formatter(lambda value, _: whole(value))
        svg = _svg(figure, f"Mean rating over mean score of {len(bins)} bins: {recipe.name}")
    return Plot(recipe.name, svg)


def spread(result: Validated, levels: Sequence[Level]) -> Plot:
    """Quantiles of the scores over what was rated."""
    recipe = result.recipe
    colour, marker = _colour(recipe), line_of(recipe).marker
    with _settings(f"spread {recipe.name}"):
        figure = _figure()
        axes = figure.subplots()
        _plain(axes, "mean rating, and number of pairs", "score")
        _unit(axes, "y")
        _equal(axes)
        rated = [level.rated for level in levels]
        ends = np.array([level.quantiles for level in levels]).T
        axes.vlines(rated, ends[0], ends[4], color=colour, lw=1.2)
        axes.vlines(rated, ends[1], ends[3], color=colour, lw=7, alpha=0.45)
        axes.plot(rated, ends[2], color=colour, marker=marker, ls="", zorder=3)
        axes.set_xlim(-0.05, 1.05)
        axes.set_xticks(rated, [f"{decimal(level.rated, 2)}\n{whole(level.count)}" for level in levels])
        axes.tick_params(axis="x", labelsize=8.5)
        svg = _svg(figure, f"Scores for each mean rating: {recipe.name}")
    return Plot(recipe.name, svg)


def learning(curves: Curves, default: str) -> Plot:
    """A measure over the number of pairs learned from, a line a head; a line may leave the plot at its bad side."""
    title = curves.measure.title
    with _settings(title):
        figure = _figure()
        axes = figure.subplots()
        _plain(axes, "expert pairs that a fold learned from", title)
        axes.set_xscale("log")
        scale = curves.measure.scale
        for curve in curves.curves:
            style, chosen = line_of(curve.recipe), curve.recipe.name == default
            (drawn,) = axes.plot(curve.pairs, [scale * value for value in curve.values], color=_colour(curve.recipe))
            drawn.set(marker=style.marker, linestyle="--" if style.dashed else "-")
            drawn.set(linewidth=2.6 if chosen else 1.3, zorder=3 if chosen else 2)
        if curves.bound is not None:
            low, high = axes.get_ylim()
            bound = scale * curves.bound
            axes.set_ylim((low, min(high, bound)) if curves.measure.lower_is_better else (max(low, bound), high))
        _round_ticks(axes)
        _label_ends(axes, curves, default)
        names = ", ".join(curve.recipe.name for curve in curves.curves)
        svg = _svg(figure, f"{title} over the number of pairs learned from: {names}")
    return Plot(title, svg)


def _label_ends(axes: Axes, curves: Curves, default: str) -> None:
    """Each line's name to the right of the axes, at the height of its end, moved apart where they would touch."""
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
            color=_colour(curve.recipe),
            weight="bold" if curve.recipe.name == default else "normal",
            arrowprops={"arrowstyle": "-", "color": _RULE, "lw": 0.8, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 4},
            annotation_clip=False,
        )


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights, moved as little as they must so that neighbours are a gap apart, around their middle."""
    blocks: list[list[float]] = []  # of heights that touch: each is spread around its mean
    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _top(blocks[-1], gap) - gap * (len(blocks[-1]) - 1):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return [_top(block, gap) - gap * (len(block) - 1 - i) for block in blocks for i in range(len(block))]


def _top(block: Sequence[float], gap: float) -> float:
    return sum(block) / len(block) + gap * (len(block) - 1) / 2


def _round_ticks(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415 - an extra

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: whole(value))


def _plain(axes: Axes, x: str, y: str) -> None:
    """Words on the axes, quiet lines, no box."""
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
    """An axis from 0 to 1."""
    limits, ticks = ((axes.set_xlim, axes.set_xticks), (axes.set_ylim, axes.set_yticks))[which == "y"]
    limits(-0.02, 1.02)
    ticks([0, 0.2, 0.4, 0.6, 0.8, 1])


def _equal(axes: Axes) -> None:
    """The line on which score and rating are equal."""
    axes.plot([0, 1], [0, 1], color=_QUIET, ls=":", lw=1.2, zorder=1)


def _colour(recipe: HeadRecipe) -> str:
    return COLOURS[line_of(recipe).colour].light


def _figure() -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    return Figure(figsize=_SIZE, facecolor="none")


def _settings(salt: str) -> AbstractContextManager[None]:
    """The settings of matplotlib while a plot is drawn; ids differ between plots and not between runs.

    Raises:
        DataError: it is not installed.
    """
    try:
        import matplotlib  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise DataError(
            f"a report's plots need a package that is not installed ({error})",
            "install sceneseek with the extra `train`",
        ) from error
    settings: Any = {**_SETTINGS, "svg.hashsalt": salt}  # its names are a long list of literals
    return matplotlib.rc_context(settings)


def _svg(figure: Figure, shows: str) -> str:
    """The figure as an element for an HTML page, its colours by their role; `shows` is said where nobody sees it."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{for_html(shows)}">', text
    )
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # of the figure's parts; they repeat from plot to plot
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = text.replace("xlink:href", "href")
    for role, colour in COLOURS.items():
        text = text.replace(colour.light, f"var(--{role})")
    return re.sub(r"\n\s*", "\n", text).strip()
