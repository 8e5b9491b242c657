"""What stands in a report, section by section."""

from __future__ import annotations

from collections.abc import Iterator

from sceneseek_training.head_recipes import BASELINE
from sceneseek_training.report import plots, tables
from sceneseek_training.report.compared import CONSTANT, HONEST, PROTOTYPE_MLP, compared
from sceneseek_training.report.curves import errors, ranks
from sceneseek_training.report.document import Block, Plots, Section, Text, Tree
from sceneseek_training.report.levels import levels
from sceneseek_training.report.measures import ECE, RMSE
from sceneseek_training.report.misses import worst
from sceneseek_training.report.settings import branches
from sceneseek_training.report.summary import summary
from sceneseek_training.study import Grouping, Study

_GROUPED: dict[Grouping, str] = {
    "image and caption": "Grouped by image and caption, the figures are honest: no pair that a head learned from "
    "shares its image or its caption with a pair that it is measured on.",
    "image": "Grouped by image alone, they leak: one caption is rated against several images, so a head has met most "
    "captions that it is measured on, and remembers which of them tend to be rated high. They are here because the "
    "prototype was measured like this.",
}


def sections_of(study: Study, pictures: bool) -> tuple[Section, ...]:
    """All sections, in their order; see `sceneseek_training.report.write_report`."""
    return (
        summary(study),
        Section("All heads", tuple(_heads(study))),
        Section("Do the scores mean what they say?", tuple(_reliability(study))),
        Section("Scores of pairs that were rated alike", tuple(_spread(study))),
        Section("What more ratings would bring", tuple(_learning(study))),
        Section("The worst misses", tuple(_misses(study, pictures))),
        Section("What was trained on what", tuple(_about(study))),
    )


def _heads(study: Study) -> Iterator[Block]:
    yield Text(
        "Each figure has its 95% interval beside it. Bold: what is printed like the best of its column. The row of the "
        "default head is marked."
    )
    for grouping, words in _GROUPED.items():
        yield Text(words)
        yield tables.heads(study, grouping)


def _reliability(study: Study) -> Iterator[Block]:
    shown = compared(study, study.choice.name, BASELINE, PROTOTYPE_MLP)
    yield Plots(
        tuple(plots.reliability(result) for result in shown),
        f"Pairs in up to ten bins of neighbouring scores, grouped by {HONEST}: on the dotted line a score is right on "
        "average, below it the score promises too much; the mean distance to it, over all pairs, is the "
        f"{ECE.title}. The bars count the pairs by score.",
    )
    for result in shown:
        yield tables.bins(result.recipe.name, result.agreement.reliability)


def _spread(study: Study) -> Iterator[Block]:
    shown = compared(study, study.choice.name, BASELINE)
    found = [levels(result.predicted, study.ratings.target) for result in shown]
    yield Plots(
        tuple(plots.spread(result, of_head) for result, of_head in zip(shown, found, strict=True)),
        f"For each mean rating, what was predicted, grouped by {HONEST}: the median (dot), the middle half of the "
        "pairs (thick) and nine tenths of them (thin). On the dotted line, score and rating are equal. Below each "
        "rating stands its number of pairs.",
    )
    for result, of_head in zip(shown, found, strict=True):
        yield tables.levels(result.recipe.name, of_head)


def _learning(study: Study) -> Iterator[Block]:
    if not study.learning:
        yield Text("Learning curves were not measured in this run.")
        return
    constant = compared(study, CONSTANT)
    error = constant[0].agreement.figures[RMSE.name].value if constant else None
    found = (errors(study.learning, error), ranks(study.learning))
    off = [f"{', '.join(one.off)} ({one.measure.title})" for one in found if one.off]
    yield Plots(
        tuple(plots.learning(one, study.choice.name) for one in found),
        f"The same pairs, grouped by {HONEST}, scored by heads that learned from a part of the ratings. Dashed: on the "
        "prototype's inputs. A line that still improves at its right end says that more ratings would help."
        + (f" So much worse that they are off the axis: {'; '.join(off)}." if off else ""),
    )
    yield tables.learning(study.learning)


def _misses(study: Study, pictures: bool) -> Iterator[Block]:
    yield Text(
        f"The pairs with the largest gap between the score of {study.choice.name} (grouped by {HONEST}) and the mean "
        "rating. Some are the head's errors, and some are the raters': where they disagree, no score can be right."
    )
    if not pictures:
        yield Text("Images and captions are not shown here; they may not be published.")
    yield worst(study, study.choice.name, HONEST, pictures)


def _about(study: Study) -> Iterator[Block]:
    used = [study.ratings, *([study.votes] if study.votes else [])]
    yield Tree(branches(study.about))
    yield tables.files(used)
    lost = tables.losses(used)
    yield lost if lost.rows else Text("No row of these files was left out or merged.")
