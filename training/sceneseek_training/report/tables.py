"""A report's tables: figures, numbers of the plots, files of ratings, settings, and the worst misses."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sceneseek.errors import ImageError
from sceneseek.picture import decode
from sceneseek.request import HIGHEST, LOWEST
from sceneseek.vectors import Floats
from sceneseek_evaluation.agreement import Bin
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.cross_validation import Grouping, HeadResult, LearningPoint
from sceneseek_training.model_selection import HeadComparison
from sceneseek_training.report.document import Branch, Card, Cards, Cell, Row, Table
from sceneseek_training.report.measures import DASH, MEASURES, Measure, decimal, signed, whole

QUANTILES = (5, 25, 50, 75, 95)
MISSES = 12
_MOST_LEVELS = 13  # with more levels, ratings are rounded to tenths
_SIDE, _QUALITY = 160, 80  # size of a thumbnail in pixels, and its JPEG quality


def heads(comparison: HeadComparison, grouping: Grouping) -> Table:
    """Return the table of all heads under a grouping: figures, number of training pairs, time."""
    results = [result for result in comparison.results if result.grouping == grouping]
    measured = figures(f"Grouped by {grouping}", results, MEASURES, comparison.selection.name)
    costs = [(Cell(whole(result.trained_on)), Cell(decimal(result.seconds, 1))) for result in results]
    return Table(
        measured.title,
        (*measured.columns, "training pairs per fold", "seconds"),
        [Row(row.head, (*row.cells, *cost), row.mark) for row, cost in zip(measured.rows, costs, strict=True)],
    )


def figures(title: str, results: Sequence[HeadResult], measures: Sequence[Measure], default: str) -> Table:
    """Return a table of results and figures; values that print like the best of their column are marked."""
    found = [[result.agreement.figures[measure.name] for measure in measures] for result in results]
    best = [m.best([row[i].value for row in found]) for i, m in enumerate(measures)]
    rows = [
        Row(
            Cell(result.recipe.name, result.recipe.about),
            [
                Cell(m.text(figure.value), m.interval(figure), figure.value is not None and m.text(figure.value) == top)
                for m, figure, top in zip(measures, row, best, strict=True)
            ],
            "default" if result.recipe.name == default else "",
        )
        for result, row in zip(results, found, strict=True)
    ]
    return Table(title, ("head", *(m.title for m in measures)), rows)


def bins(name: str, reliability: Iterable[Bin]) -> Table:
    """Return the points of a reliability curve."""
    return Table(
        f"Numbers: reliability of {name}",
        ("bin", "mean score", "mean rating", "pairs"),
        [
            Row.of(str(number), decimal(b.mean_predicted), decimal(b.mean_target), whole(b.count))
            for number, b in enumerate(reliability, start=1)
        ],
        folded=True,
    )


@dataclass(frozen=True, slots=True)
class Level:
    """The pairs with equal ratings.

    Attributes:
        rated: their mean rating in [0, 1].
        count: number of pairs.
        quantiles: quantiles of their predicted scores, see `QUANTILES`.
    """

    rated: float
    count: int
    quantiles: tuple[float, ...]


def levels(predicted: Floats, target: Floats) -> list[Level]:
    """Group pairs (P,) by rating, ascending.

    The means of three raters have ten levels; those of a varying number of raters have more, and are rounded to tenths.
    """
    rated = np.round(target.astype(np.float64), 3)
    if len(np.unique(rated)) > _MOST_LEVELS:
        rated = np.round(rated, 1)
    found = []
    for level in np.unique(rated):
        of_level = rated == level
        quantiles = np.percentile(predicted[of_level].astype(np.float64), QUANTILES)
        mean = float(target[of_level].mean(dtype=np.float64))
        found.append(Level(mean, int(of_level.sum()), tuple(float(q) for q in quantiles)))
    return found


def quantiles(name: str, found: Iterable[Level]) -> Table:
    """Return the quantiles of the predicted scores by rating."""
    return Table(
        f"Numbers: scores of {name} by rating",
        ("mean rating", "pairs", *(f"{q}% below" for q in QUANTILES)),
        [Row.of(decimal(one.rated), whole(one.count), *map(decimal, one.quantiles)) for one in found],
        folded=True,
    )


def learning(points: Iterable[LearningPoint]) -> Table:
    """Return the points of the learning curves, in the given order."""
    return Table(
        "Numbers: learning curves",
        ("head", "training pairs per fold", "RMSE", "Spearman", "tau-c x100"),
        [
            Row.of(p.head, whole(p.pairs), decimal(p.rmse), decimal(p.spearman), decimal(100 * p.tau_c, 1))
            for p in points
        ],
        folded=True,
    )


def files(ratings: Iterable[Ratings]) -> Table:
    """Return the counts of each file of ratings."""
    return Table(
        "Ratings used",
        ("file", "pairs", "images", "captions", "ratings or labels"),
        [
            Row.of(r.label, whole(len(r)), whole(len(r.names)), whole(len(r.captions)), whole(float(r.weight.sum())))
            for r in ratings
        ],
    )


def losses(ratings: Iterable[Ratings]) -> Table:
    """Return the counts of rows left out or merged, by file and reason."""
    rows = [
        Row.of(one.label, what, reason, whole(count))
        for one in ratings
        for what, counts in (("left out", one.left_out), ("merged", one.merged))
        for reason, count in counts.items()
    ]
    return Table("Rows left out or merged", ("file", "what", "reason", "rows"), rows, words=3)


def settings(values: Mapping[str, Any]) -> tuple[Branch, ...]:
    """Convert nested JSON values to nested lists; a list of plain values is one line, other entries are numbered."""
    return tuple(_setting(str(name).replace("_", " "), value) for name, value in values.items())


def _setting(name: str, value: Any) -> Branch:
    match value:
        case Mapping() if value:
            return Branch(name, "", settings(value))
        case [*entries] if any(isinstance(entry, (Mapping, list, tuple)) for entry in entries):
            return Branch(name, "", settings({str(i): entry for i, entry in enumerate(entries, start=1)}))
        case [*entries] if entries:
            return Branch(name, ", ".join(map(_printed, entries)))
        case _:
            return Branch(name, _printed(value))


def _printed(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case None | "" | [] | () | Mapping():  # an empty mapping; others are branches
            return DASH
        case _:
            return str(value)


def worst(comparison: HeadComparison, name: str, grouping: Grouping, pictures: bool) -> Cards | Table:
    """Return the pairs with the largest gap between score and rating, worst first.

    Without pictures, a table of image names and numbers is returned, and no file is opened.
    """
    ratings, predicted = comparison.ratings, comparison.of(name, grouping).predicted
    order = np.argsort(-np.abs(predicted - ratings.target), kind="stable")[:MISSES]
    cards = [
        Card(
            ratings.names[ratings.image[pair]],
            *(_thumbnail(ratings, int(ratings.image[pair])) if pictures else ("", "")),
            ratings.captions[ratings.caption[pair]],
            _facts(ratings, pair, float(predicted[pair])),
        )
        for pair in order
    ]
    texts = ("caption",) if pictures else ()
    columns = ("image", *texts, *(name for name, _ in cards[0].facts))
    rows = [
        Row.of(card.image, *((card.caption,) if pictures else ()), *(value for _, value in card.facts))
        for card in cards
    ]
    table = Table(f"The {len(order)} worst misses", columns, rows, words=1 + len(texts))
    return Cards(cards, table) if pictures else table


def _facts(ratings: Ratings, pair: int, predicted: float) -> tuple[tuple[str, str], ...]:
    given = ratings.scores[pair][~np.isnan(ratings.scores[pair])]
    scores = ", ".join(f"{score:.0f}" for score in np.rint(given * (HIGHEST - LOWEST) + LOWEST))
    rated = float(ratings.target[pair])
    return (
        (f"raters ({LOWEST} to {HIGHEST})", scores or DASH),
        ("mean rating", decimal(rated)),
        ("score", decimal(predicted)),
        ("gap", signed(predicted - rated)),
    )


def _thumbnail(ratings: Ratings, image: int) -> tuple[str, str]:
    """Return a data URI, or an empty one and the reason, since a missing file must not fail a run at its end."""
    try:
        pixels = decode(ratings.paths[image].read_bytes(), near=_SIDE).pixels
    except ImageError as error:
        return "", error.what
    except OSError as error:
        return "", f"cannot be read ({error.strerror})"
    pixels.thumbnail((_SIDE, _SIDE))
    if pixels.mode == "RGBA":
        white = Image.new("RGBA", pixels.size, "white")
        pixels = Image.alpha_composite(white, pixels).convert("RGB")
    content = io.BytesIO()
    pixels.save(content, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}", ""
