"""`CARD.md` of a head: what a person should know about it before using it."""

from __future__ import annotations

from typing import Any

from sceneseek_export.heads import Head
from sceneseek_training.study import GROUPINGS, Study

CARD = "CARD.md"
_VOTES, _IMAGES = "votes' pairs", "images rated or voted on"
_COLUMNS = ("rmse", "mae", "pearson", "spearman", "kendall_tau_b", "kendall_tau_c", "kendall_tau_c_all", "ece")


def render(study: Study, name: str, head: Head) -> str:
    """The card of one of a study's heads, as Markdown."""
    about, recipe = study.about, study.of(name, GROUPINGS[0]).recipe
    reads = ", ".join(sorted(head.reads))
    stored = f"{head.image_width} numbers an image" if head.image_width else "nothing beside the joint vectors"
    ratings = ", ".join(f"{entry['name']} (sha256 `{entry['sha256'][:16]}…`)" for entry in about["ratings"])
    is_default = "It is the default by the rule below." if study.choice.name == name else "It is not the default."
    agreement = study.of(name, GROUPINGS[0]).agreement
    learned = (
        f"{about['expert pairs']:,} rated pairs and {about[_VOTES]:,} pairs with votes, of {about[_IMAGES]:,} images "
        f"together: {ratings}. Nothing of the joint space was learned from these images.\n"
    )
    found = (
        f"Cross-validated in {about['folds']} folds by image and {about['folds']} x {about['folds']} by image and "
        f"caption, seed {about['seed']}: no pair was predicted by a head that had seen its image, or its image or its "
        "caption. In brackets the 95% interval by bootstrap over images. Kendall's tau leaves out captions written "
        f"for the very image ({agreement.published:,} of {agreement.pairs:,} pairs count) and takes every rater as a "
        "data point; `_all` takes all pairs. The head itself was then learned from all of them.\n"
    )
    lines = [
        f"# Head `{name}` of the pack `{about['pack']}`\n",
        f"{recipe.about[0].upper()}{recipe.about[1:]}. {is_default}",
        f"It reads {reads}; the index stores {stored}.",
        f"It fits the joint space `{about['joint space'][:16]}…` only.\n",
        "## Learned from\n",
        learned,
        *([f"{about['data']}\n"] if about.get("data") else []),
        f"```\n{about['command']}\n```\n",
        "## Found\n",
        found,
        "| grouped by | " + " | ".join(_COLUMNS) + " |",
        "|---|" + "---|" * len(_COLUMNS),
        *(_row(study, name, grouping) for grouping in GROUPINGS),
        "",
        "## How the default is chosen\n",
        f"{study.choice.rule}\n",
        *(f"- {reason}" for reason in study.choice.reasons),
        "",
        "## Made with\n",
        ", ".join(f"{library} {version}" for library, version in about["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def _row(study: Study, name: str, grouping: Any) -> str:
    figures = study.of(name, grouping).agreement.figures
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
