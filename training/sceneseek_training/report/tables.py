"""The tables of a report, as `document` has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sceneseek.ratings import Ratings
from sceneseek_evaluation.agreement import Bin
from sceneseek_training.report.document import Cell, Row, Table
from sceneseek_training.report.levels import QUANTILES, Level
from sceneseek_training.report.measures import MEASURES, Measure, decimal, whole
from sceneseek_training.study import Grouping, LearningPoint, Study, Validated


def heads(study: Study, grouping: Grouping) -> Table:
    """Every head under a grouping: all figures, what it learned from, how long it took."""
    results = [result for result in study.results if result.grouping == grouping]
    measured = figures(f"Grouped by {grouping}", results, MEASURES, study.choice.name)
    costs = [(Cell(whole(result.trained_on)), Cell(decimal(result.seconds, 1))) for result in results]
    return Table(
        measured.title,
        (*measured.columns, "pairs learned from in a fold", "seconds"),
        tuple(Row(row.head, row.cells + cost, row.mark) for row, cost in zip(measured.rows, costs, strict=True)),
    )


def figures(title: str, results: Sequence[Validated], measures: Sequence[Measure], default: str) -> Table:
    """Results a row, figures a column; whatever is printed like the best of a column is marked."""
    found = [[result.agreement.figures[measure.name] for measure in measures] for result in results]
    best = [m.best([row[i].value for row in found]) for i, m in enumerate(measures)]
    rows = tuple(
        Row(
            Cell(result.recipe.name, result.recipe.about),
            tuple(
                Cell(m.text(figure.value), m.interval(figure), figure.value is not None and m.text(figure.value) == top)
                for m, figure, top in zip(measures, row, best, strict=True)
            ),
            "default" if result.recipe.name == default else "",
        )
        for result, row in zip(results, found, strict=True)
    )
    return Table(title, ("head", *(m.title for m in measures)), rows)


def bins(name: str, reliability: Iterable[Bin]) -> Table:
    """The points of a reliability curve."""
    return Table(
        f"Numbers: reliability of {name}",
        ("bin", "mean score", "mean rating", "pairs"),
        tuple(
            _row(str(number), decimal(b.mean_predicted), decimal(b.mean_target), whole(b.count))
            for number, b in enumerate(reliability, start=1)
        ),
        folded=True,
    )


def levels(name: str, found: Iterable[Level]) -> Table:
    """What was predicted for each rated level."""
    return Table(
        f"Numbers: scores of {name} by rating",
        ("mean rating", "pairs", *(f"{q}% below" for q in QUANTILES)),
        tuple(_row(decimal(one.rated), whole(one.count), *map(decimal, one.quantiles)) for one in found),
        folded=True,
    )


def learning(points: Iterable[LearningPoint]) -> Table:
    """The learning curves' points, in the order in which they are given."""
    return Table(
        "Numbers: learning curves",
        ("head", "pairs learned from in a fold", "RMSE", "Spearman", "tau-c x100"),
        tuple(
            _row(p.head, whole(p.pairs), decimal(p.rmse), decimal(p.spearman), decimal(100 * p.tau_c, 1))
            for p in points
        ),
        folded=True,
    )


def files(ratings: Iterable[Ratings]) -> Table:
    """How much each file of ratings holds."""
    return Table(
        "Ratings that were used",
        ("file", "pairs", "images", "captions", "ratings or votes"),
        tuple(
            _row(r.label, whole(len(r)), whole(len(r.names)), whole(len(r.captions)), whole(float(r.weight.sum())))
            for r in ratings
        ),
    )


def losses(ratings: Iterable[Ratings]) -> Table:
    """What was left out of each file or merged, with the reason."""
    rows = [
        _row(one.label, what, reason, whole(count))
        for one in ratings
        for what, counts in (("left out", one.left_out), ("merged", one.merged))
        for reason, count in counts.items()
    ]
    return Table("Rows that were left out or merged", ("file", "what", "reason", "rows"), tuple(rows), words=3)


def _row(head: str, *cells: str) -> Row:
    return Row(Cell(head), tuple(map(Cell, cells)))
