"""The report of a comparison of heads, as `report.html` and `report.md`.

`sections_of` defines the content, from `tables` and `plots`; `measures` formats all numbers; `document` renders both
files with the templates in `templates/`. The page has no scripts and loads nothing from the network. The same
comparison gives the same files, byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sceneseek.files import write_atomic
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.cross_validation import Grouping, HeadResult
from sceneseek_training.head_recipes import BASELINE
from sceneseek_training.model_selection import HeadComparison
from sceneseek_training.report import plots, tables
from sceneseek_training.report.document import Block, Items, Plots, Section, Terms, Text, Tree, to_html, to_markdown
from sceneseek_training.report.measures import ECE, MAE, MEASURES, RMSE, SPEARMAN, TAU_C, whole

HTML, MARKDOWN = "report.html", "report.md"

_STRICT: Grouping = "image and caption"
_CONSTANT, _PROTOTYPE = "constant", "prototype-mlp"
_QUALITY = (RMSE, MAE, SPEARMAN, TAU_C, ECE)
_GROUPED: dict[Grouping, str] = {
    "image and caption": "Grouped by image and caption, the figures are free of leaks: no training pair shares its "
    "image or its caption with a test pair.",
    "image": "Grouped by image alone, the figures leak: a caption is rated with several images, so most captions of "
    "test pairs are also in training pairs, and a head learns which of them tend to be rated high. They are shown "
    "because the prototype was measured like this.",
}


def write_report(comparison: HeadComparison, directory: Path, pictures: bool = True) -> None:
    """Write both files, each atomically.

    Args:
        comparison: the heads and their figures.
        directory: created if missing; other files in it are kept.
        pictures: whether to show the worst misses with their images and captions. Omit them if the images may not be
            published.
    """
    sections = sections_of(comparison, pictures)
    files = {HTML: to_html(sections), MARKDOWN: to_markdown(sections)}
    for name, text in files.items():
        write_atomic(directory / name, text.encode("utf-8"))


def sections_of(comparison: HeadComparison, pictures: bool) -> tuple[Section, ...]:
    """Return all sections in order; see `write_report`."""
    return (
        Section("Summary", tuple(_summary(comparison))),
        Section("All heads", tuple(_heads(comparison))),
        Section("Do the scores mean what they say?", tuple(_reliability(comparison))),
        Section("Scores by mean rating", tuple(_spread(comparison))),
        Section("Would more ratings help?", tuple(_learning(comparison))),
        Section("The worst misses", tuple(_misses(comparison, pictures))),
        Section("Training data and settings", tuple(_about(comparison))),
    )


def _strict(comparison: HeadComparison, *names: str) -> list[HeadResult]:
    """Return the available results of these heads under the strict grouping, in this order, without duplicates."""
    found = {result.recipe.name: result for result in comparison.results if result.grouping == _STRICT}
    return [found[name] for name in dict.fromkeys(names) if name in found]


def _summary(comparison: HeadComparison) -> Iterator[Block]:
    default, *others = _strict(comparison, comparison.selection.name, BASELINE, _CONSTANT)
    yield Text(f"The default head is {comparison.selection.name}: {default.recipe.about}.")
    yield Text(f"The rule, fixed before the run: {comparison.selection.rule}")
    yield Items(comparison.selection.reasons)
    yield Text(_quality(default))
    title = "The default head and its baselines"
    yield tables.figures(title, [default, *others], _QUALITY, comparison.selection.name)
    if gain := _gain(default, others):
        yield Text(gain)
    yield Text(_size(comparison.ratings))
    yield Terms([*((m.title, m.meaning) for m in MEASURES if m.meaning), *_protocol(default)])


def _quality(default: HeadResult) -> str:
    found = {measure.name: measure.sentence(default.agreement.figures[measure.name]) for measure in _QUALITY}
    return (
        "On pairs whose image and caption it was not trained on, its scores have an RMSE "
        f"of {found[RMSE.name]} and an MAE of {found[MAE.name]} to the mean rating, where both lie between 0 and 1. "
        f"The rank correlation is {found[SPEARMAN.name]} (Spearman) and "
        f"{found[TAU_C.name]} (tau-c, times 100). The expected calibration error is {found[ECE.name]}. "
        "In brackets: 95% intervals."
    )


def _gain(default: HeadResult, others: list[HeadResult]) -> str:
    """Compare the default's RMSE with the others', in words; empty if there is nothing to compare."""
    own = default.agreement.figures[RMSE.name].value
    compared = []
    for other in others:
        theirs = other.agreement.figures[RMSE.name].value
        if own is None or not theirs:
            continue
        share = round(100 * (1 - own / theirs))
        size = f"{abs(share)}% {'below' if share > 0 else 'above'}" if share else "within 1% of"
        compared.append(f"{size} that of {other.recipe.name} ({other.recipe.about})")
    if not compared:
        return ""
    return (
        f"Its RMSE is {' and '.join(compared)}. All heads scored the same pairs, so two heads with overlapping "
        "intervals are not necessarily equal."
    )


def _size(ratings: Ratings) -> str:
    each = sorted({int(count) for count in ratings.weight})
    raters = whole(each[0]) if len(each) == 1 else f"{whole(each[0])} to {whole(each[-1])}"
    return (
        f"Measured on {whole(float(ratings.weight.sum()))} ratings of {whole(len(ratings))} pairs ({raters} raters per "
        f"pair), of {whole(len(ratings.names))} images and {whole(len(ratings.captions))} captions ({ratings.label})."
    )


def _protocol(default: HeadResult) -> tuple[tuple[str, str], ...]:
    found = default.agreement
    protocol = (
        "that of Anderson et al. (SPICE, 2016) and Hessel et al. (CLIPScore, 2021): pairs whose caption was written "
        "for the same image are omitted, and each rater's score is a separate data point. Here that leaves "
        f"{whole(found.published)} of {whole(found.pairs)} pairs; the papers have 5,664. 'All pairs' omits none."
    )
    interval = (
        f"by bootstrap over the {whole(found.images)} images. It covers the choice of images, but not the variation "
        "between training runs."
    )
    return ("published protocol", protocol), ("95% interval", interval)


def _heads(comparison: HeadComparison) -> Iterator[Block]:
    yield Text(
        "Each figure is followed by its 95% interval. The best figures of each column are bold, and the default head "
        "is marked."
    )
    for grouping, words in _GROUPED.items():
        yield Text(words)
        yield tables.heads(comparison, grouping)


def _reliability(comparison: HeadComparison) -> Iterator[Block]:
    shown = _strict(comparison, comparison.selection.name, BASELINE, _PROTOTYPE)
    yield Plots(
        [plots.reliability(result) for result in shown],
        f"Pairs in up to ten bins of neighbouring scores, grouped by {_STRICT}. On the dotted line scores are right on "
        "average, below it they are too high; the mean distance to it, over all pairs, is the "
        f"{ECE.title}. The bars count the pairs by score.",
    )
    for result in shown:
        yield tables.bins(result.recipe.name, result.agreement.reliability)


def _spread(comparison: HeadComparison) -> Iterator[Block]:
    shown = _strict(comparison, comparison.selection.name, BASELINE)
    found = [tables.levels(result.predicted, comparison.ratings.target) for result in shown]
    yield Plots(
        [plots.spread(result, levels) for result, levels in zip(shown, found, strict=True)],
        f"Predicted scores by mean rating, grouped by {_STRICT}: the median (dot), the middle half of the "
        "pairs (thick) and nine tenths of them (thin). On the dotted line, score and rating are equal. Below each "
        "rating is its number of pairs.",
    )
    for result, levels in zip(shown, found, strict=True):
        yield tables.quantiles(result.recipe.name, levels)


def _learning(comparison: HeadComparison) -> Iterator[Block]:
    if not comparison.learning_curves:
        yield Text("Learning curves were not measured in this run.")
        return
    constant = _strict(comparison, _CONSTANT)
    error = constant[0].agreement.figures[RMSE.name].value if constant else None
    found = (plots.error_curves(comparison.learning_curves, error), plots.rank_curves(comparison.learning_curves))
    off = [f"{', '.join(one.off)} ({one.measure.title})" for one in found if one.off]
    yield Plots(
        [plots.learning(one, comparison.selection.name) for one in found],
        f"The same pairs, grouped by {_STRICT}, scored by heads trained on a part of the ratings. Dashed: heads on the "
        "prototype's inputs. If a line still improves at its right end, more ratings would help."
        + (f" So much worse that they are off the axis: {'; '.join(off)}." if off else ""),
    )
    yield tables.learning(comparison.learning_curves)


def _misses(comparison: HeadComparison, pictures: bool) -> Iterator[Block]:
    yield Text(
        f"The pairs with the largest gap between the score of {comparison.selection.name} (grouped by {_STRICT}) and "
        "the mean rating. Some are errors of the head, others of the raters: if raters disagree, no score can be right."
    )
    if not pictures:
        yield Text("Images and captions are not shown here; they may not be published.")
    yield tables.worst(comparison, comparison.selection.name, _STRICT, pictures)


def _about(comparison: HeadComparison) -> Iterator[Block]:
    used = [comparison.ratings, *([comparison.crowd] if comparison.crowd else [])]
    yield Tree(tables.settings(comparison.about))
    yield tables.files(used)
    lost = tables.losses(used)
    yield lost if lost.rows else Text("No rows of these files were left out or merged.")
