"""`CARD.md` of an alignment and of a head: its data, command, figures and versions, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sceneseek.bundle import MatchThreshold
from sceneseek_evaluation.absence import ABSENCE_FIGURES
from sceneseek_export.alignment import Alignment
from sceneseek_export.heads import Head
from sceneseek_training.cross_validation import GROUPINGS
from sceneseek_training.model_selection import HeadComparison

CARD = "CARD.md"
THRESHOLD_HEADING = "## When a result matches"

_MEANING = {
    "human ratings": "the rating that people would give the pair, scaled to [0, 1] (1 of 4 is 0, 4 of 4 is 1)",
    "captions": "the probability that the text was written for this image rather than for one drawn at random, when "
    "both are equally likely",
}


def alignment_card(alignment: Alignment) -> str:
    """Return the card of an alignment written by `sceneseek_training.alignment`."""
    card = alignment.card
    learned, versions = card["learned_from"], card["versions"]
    sources = f"{learned['name']} of {card['data']['captions']}{_left_out(learned)}"
    parts = [
        f"# Alignment of the pack `{alignment.pack}`\n",
        "Linear maps from images and texts to a joint space, and a curve from their cosine to a score.",
        f"`sceneseek export --pack {alignment.pack} --alignment DIR` exports a bundle with it.\n",
        "## Training data\n",
        f"{learned['images']:,} images with {learned['captions']:,} captions ({sources}).\n",
        *([f"{card['data']['cite']}\n"] if card["data"].get("cite") else []),
        f"```\n{card['command']}\n```\n",
        "## Results\n",
        _recall_table(card["recall"]),
        _calibration_text(alignment),
        "## Made with\n",
        f"Joint vectors of {alignment.joint} numbers. Seed {card['seed']}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".\n",
        "| tower | modality | source | sha256 of its weights |\n|---|---|---|---|",
        *[f"| {t['name']} | {t['modality']} | {t['source']} | `{t['sha256'][:16]}…` |" for t in card["towers"]],
        "\nThe full recipe is in `alignment.json`; `sceneseek_training/recipe.py` explains its entries.",
    ]
    return "\n".join(parts) + "\n"


def _recall_table(measured: list[Mapping[str, Any]]) -> str:
    if not measured:
        return "Recall was not measured (no `--validate-split`).\n"
    rows = [
        f"| {m['name']}{_left_out(m)} | {m['images']:,} | {m['captions']:,} | "
        f"{100 * m['recall@1']:.1f} | {100 * m['recall@5']:.1f} | {100 * m['recall@10']:.1f} |"
        for m in measured
    ]
    return (
        "Percentage of captions whose own image is among the first k results of an exact search with the stored "
        "(float16) weights, on images that were not trained on.\n\n"
        "| on | images | captions | R@1 | R@5 | R@10 |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def _calibration_text(alignment: Alignment) -> str:
    calibration = alignment.calibration
    found = calibration.figures
    curve = f"1 / (1 + exp(-({calibration.slope:.3f} cosine {calibration.intercept:+.3f})))"
    on = alignment.card["calibrated_on"]
    text = f"Score = {curve}, fitted to {calibration.source}: {found['pairs']:,} pairs of {on['name']}"
    text += f"{_left_out(on)}.\n"
    text += f"It estimates {_MEANING[calibration.source]}.\n"
    if "rmse" in found:
        errors = f"RMSE {found['rmse']:.3f}, MAE {found['mae']:.3f}, Spearman {found['spearman']:.3f}"
        text += f"{errors}, {found['validation']}.\n"
    return text


def _left_out(counts: Mapping[str, Any]) -> str:
    left = ", ".join(f"{count:,} {reason}" for reason, count in counts["left_out"].items())
    return f" (left out: {left})" if left else ""


_CROWD, _IMAGES = "pairs with crowd labels", "images rated or labelled"
_COLUMNS = ("rmse", "mae", "pearson", "spearman", "kendall_tau_b", "kendall_tau_c", "kendall_tau_c_all", "ece")


def head_card(comparison: HeadComparison, name: str, head: Head) -> str:
    """Return the card of one head of a comparison."""
    about, recipe = comparison.about, comparison.of(name, GROUPINGS[0]).recipe
    reads = ", ".join(sorted(head.reads))
    stored = f"{head.image_width} numbers per image" if head.image_width else "nothing besides the joint vectors"
    ratings = ", ".join(f"{entry['name']} (sha256 `{entry['sha256'][:16]}…`)" for entry in about["ratings"])
    is_default = (
        "It is the default by the rule below." if comparison.selection.name == name else "It is not the default."
    )
    agreement = comparison.of(name, GROUPINGS[0]).agreement
    learned = (
        f"{about['expert pairs']:,} rated pairs and {about[_CROWD]:,} pairs with crowd labels, of {about[_IMAGES]:,} "
        f"images together: {ratings}. The joint space was not trained on these images.\n"
    )
    found = (
        f"Cross-validated in {about['folds']} folds by image and {about['folds']} x {about['folds']} by image and "
        f"caption, seed {about['seed']}: no pair was predicted by a head trained on its image, or on its image or its "
        "caption. In brackets: the 95% interval by bootstrap over images. Kendall's tau omits captions written for the "
        f"same image ({agreement.published:,} of {agreement.pairs:,} pairs count) and counts each rater's score as a "
        "data point; `_all` includes all pairs. The head itself was then trained on all pairs.\n"
    )
    lines = [
        f"# Head `{name}` of the pack `{about['pack']}`\n",
        f"{recipe.about[0].upper()}{recipe.about[1:]}. {is_default}",
        f"It reads {reads}; the index stores {stored}.",
        f"It works only with the joint space `{about['joint space'][:16]}…`.\n",
        "## Training data\n",
        learned,
        *([f"{about['data']}\n"] if about.get("data") else []),
        f"```\n{about['command']}\n```\n",
        "## Results\n",
        found,
        "| grouped by | " + " | ".join(_COLUMNS) + " |",
        "|---|" + "---|" * len(_COLUMNS),
        *(_head_row(comparison, name, grouping) for grouping in GROUPINGS),
        "",
        "## How the default is chosen\n",
        f"{comparison.selection.rule}\n",
        *(f"- {reason}" for reason in comparison.selection.reasons),
        "",
        "## Made with\n",
        ", ".join(f"{library} {version}" for library, version in about["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def _head_row(comparison: HeadComparison, name: str, grouping: Any) -> str:
    figures = comparison.of(name, grouping).agreement.figures
    cells = []
    for key in _COLUMNS:
        figure = figures[key]
        if figure.value is None:
            cells.append("-")
        elif figure.low is None or figure.high is None:
            cells.append(f"{figure.value:.4f}")
        else:
            cells.append(f"{figure.value:.4f} ({figure.low:.3f} to {figure.high:.3f})")
    return f"| {grouping} | " + " | ".join(cells) + " |"


def threshold_section(match: MatchThreshold) -> str:
    """Return the section of a head's card about its threshold."""
    about = match.figures
    counts = ", ".join(f"{count:,} {kind}" for kind, count in about["n_queries"].items())
    files = ", ".join(f"{entry['name']} (sha256 `{entry['sha256'][:16]}…`)" for entry in about["data"])
    chosen_on = (
        f"On {about['n_images']:,} images that the joint space was not trained on, with queries: {counts}; "
        f"seed {about['seed']}; data: {files}."
    )
    lines = [
        f"{THRESHOLD_HEADING}\n",
        f"From a score of {match.threshold:g} on. Chosen by this rule: {about['rule']}.",
        f"{chosen_on}\n",
        *([f"{about['cite']}\n"] if about["cite"] else []),
        f"```\n{about['command']}\n```\n",
        "| figure | value | 95% interval |",
        "|---|---|---|",
        *(_threshold_row(name, about[name]) for name in ABSENCE_FIGURES),
        "",
        "docs/reference/evaluation.md explains the figures.",
    ]
    return "\n".join(lines) + "\n"


def _threshold_row(name: str, figure: dict[str, Any]) -> str:
    value, interval = figure["value"], figure["ci95"]
    text = "-" if value is None else f"{value:.4f}"
    return f"| {name} | {text} | {'-' if interval is None else f'{interval[0]:.3f} to {interval[1]:.3f}'} |"
