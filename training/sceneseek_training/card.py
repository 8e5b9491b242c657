"""`CARD.md`: what a person should know about an alignment before using it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sceneseek_export.alignment import Alignment

CARD = "CARD.md"

_MEANING = {
    "human ratings": "the rating that people would give the pair, brought to [0, 1] (1 of 4 is 0, 4 of 4 is 1)",
    "captions": "how probable it is that the text was written for this image rather than for one drawn at random, "
    "when both are equally likely",
}


def render(alignment: Alignment) -> str:
    """The card of an alignment that `sceneseek_training.alignment` made, as Markdown."""
    card = alignment.card
    learned, versions = card["learned_from"], card["versions"]
    sources = f"{learned['name']} of {card['data']['captions']}{_left_out(learned)}"
    parts = [
        f"# Alignment of the pack `{alignment.pack}`\n",
        "Linear maps that bring images and texts into one joint space, and a curve from their cosine to a score.",
        f"`sceneseek export --pack {alignment.pack} --alignment DIR` makes a bundle of it.\n",
        "## Learned from\n",
        f"{learned['images']:,} images with {learned['captions']:,} captions ({sources}).\n",
        *([f"{card['data']['cite']}\n"] if card["data"].get("cite") else []),
        f"```\n{card['command']}\n```\n",
        "## Found\n",
        _recall_table(card["recall"]),
        _calibration(alignment),
        "## Made with\n",
        f"Joint vectors of {alignment.joint} numbers. Seed {card['seed']}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".\n",
        "| tower | modality | source | sha256 of its weights |\n|---|---|---|---|",
        *[f"| {t['name']} | {t['modality']} | {t['source']} | `{t['sha256'][:16]}…` |" for t in card["towers"]],
        "\nThe recipe, in full, is in `alignment.json`; what its entries mean is in `sceneseek_training/recipe.py`.",
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
        "How often a caption's own image is among the first k, in per cent; nothing was learned from these "
        "images. Measured on the stored (float16) weights, by exact search.\n\n"
        "| on | images | captions | R@1 | R@5 | R@10 |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def _calibration(alignment: Alignment) -> str:
    calibration = alignment.calibration
    found = calibration.figures
    curve = f"1 / (1 + exp(-({calibration.slope:.3f} cosine {calibration.intercept:+.3f})))"
    on = alignment.card["calibrated_on"]
    text = f"Score = {curve}, fitted to {calibration.source}: {found['pairs']:,} pairs of {on['name']}"
    text += f"{_left_out(on)}.\n"
    text += f"It means {_MEANING[calibration.source]}.\n"
    if "rmse" in found:
        errors = f"RMSE {found['rmse']:.3f}, MAE {found['mae']:.3f}, Spearman {found['spearman']:.3f}"
        text += f"{errors}, {found['validation']}.\n"
    return text


def _left_out(counts: Mapping[str, Any]) -> str:
    left = ", ".join(f"{count:,} {reason}" for reason, count in counts["left_out"].items())
    return f" (left out: {left})" if left else ""
