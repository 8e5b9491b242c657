"""A report's first section: which head is the default, why, how good it is, and what the figures mean."""

from __future__ import annotations

from sceneseek.ratings import Ratings
from sceneseek_training.head_recipes import BASELINE
from sceneseek_training.report import tables
from sceneseek_training.report.compared import CONSTANT, compared
from sceneseek_training.report.document import Block, Items, Section, Terms, Text
from sceneseek_training.report.measures import ECE, MAE, MEASURES, RMSE, SPEARMAN, TAU_C, whole
from sceneseek_training.study import Study, Validated

QUALITY = (RMSE, MAE, SPEARMAN, TAU_C, ECE)


def summary(study: Study) -> Section:
    """The section."""
    default, *others = compared(study, study.choice.name, BASELINE, CONSTANT)
    blocks: list[Block] = [
        Text(f"The default head is {study.choice.name}: {default.recipe.about}."),
        Text(f"The rule, as it was written down before the run: {study.choice.rule}"),
        Items(study.choice.reasons),
        Text(_quality(default)),
        tables.figures("The default head, and what it must beat", [default, *others], QUALITY, study.choice.name),
        *[Text(text) for text in [_gain(default, others)] if text],
        Text(_size(study.ratings)),
        Terms((*((m.title, m.meaning) for m in MEASURES if m.meaning), *_terms(default))),
    ]
    return Section("Summary", tuple(blocks))


def _quality(default: Validated) -> str:
    found = {measure.name: measure.sentence(default.agreement.figures[measure.name]) for measure in QUALITY}
    return (
        "Of pairs whose image and caption it had never met in a rating, its scores miss the raters' mean by an RMSE "
        f"of {found[RMSE.name]} and an MAE of {found[MAE.name]}, where scores and ratings lie between 0 and 1. "
        f"They order the pairs as the raters do with a Spearman correlation of {found[SPEARMAN.name]} and a tau-c of "
        f"{found[TAU_C.name]}, times 100. The expected calibration error is {found[ECE.name]}. "
        "In brackets: 95% intervals."
    )


def _gain(default: Validated, others: list[Validated]) -> str:
    """By how much its RMSE is smaller, in words; empty where there is nothing beside it."""
    own = default.agreement.figures[RMSE.name].value
    said = []
    for other in others:
        theirs = other.agreement.figures[RMSE.name].value
        if own is None or not theirs:
            continue
        share = round(100 * (1 - own / theirs))
        size = f"{abs(share)}% {'below' if share > 0 else 'above'}" if share else "within 1% of"
        said.append(f"{size} that of {other.recipe.name} ({other.recipe.about})")
    if not said:
        return ""
    return (
        f"Its RMSE is {' and '.join(said)}. All heads scored the same pairs, so intervals that overlap do not make "
        "two heads equal."
    )


def _size(ratings: Ratings) -> str:
    each = sorted({int(count) for count in ratings.weight})
    raters = whole(each[0]) if len(each) == 1 else f"{whole(each[0])} to {whole(each[-1])}"
    return (
        f"Measured on {whole(float(ratings.weight.sum()))} ratings of {whole(len(ratings))} pairs ({raters} raters a "
        f"pair), of {whole(len(ratings.names))} images and {whole(len(ratings.captions))} captions ({ratings.label})."
    )


def _terms(default: Validated) -> tuple[tuple[str, str], ...]:
    found = default.agreement
    protocol = (
        "that of Anderson et al. (SPICE, 2016) and Hessel et al. (CLIPScore, 2021): pairs whose caption was written "
        "for that very image are left out, and each rater's score is a point of its own. Here that leaves "
        f"{whole(found.published)} of {whole(found.pairs)} pairs; the papers have 5,664. Under 'all pairs' "
        "none is left out."
    )
    interval = (
        f"of the bootstrap over the {whole(found.images)} images. It holds what other images might have changed, and "
        "not what another training run would."
    )
    return ("published protocol", protocol), ("95% interval", interval)
