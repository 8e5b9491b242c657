"""Train heads on ratings, compare them, and write them atomically.

`rating_data` (files read and checked) -> `rated` (images and texts in the joint space) -> `cross_validation` (every
head under every grouping) -> `model_selection` (the default) -> the heads, fitted to all pairs, each with its figures
and its card.

    OUT/heads.json              the names of the heads and of the default
    OUT/NAME/head.json, .npz    a head, see `sceneseek_export.heads`
    OUT/NAME/CARD.md            its card, see `sceneseek_training.cards`
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from sceneseek.errors import DataError
from sceneseek.files import directory_in_place, sha256_of
from sceneseek.progress import Progress
from sceneseek_evaluation.figures import Bootstrap
from sceneseek_export.alignment import Alignment
from sceneseek_export.curves import Calibration
from sceneseek_export.heads import CosineHead, Head, MlpHead, save_head
from sceneseek_export.packs import Pack
from sceneseek_training.alignment import versions
from sceneseek_training.cards import CARD, head_card
from sceneseek_training.cross_validation import GROUPINGS, SHARES, cross_validate, learning_curves
from sceneseek_training.features import PackEncoder
from sceneseek_training.head_recipes import BASELINE, HeadRecipe, candidate_for
from sceneseek_training.model_selection import HeadComparison, select_head
from sceneseek_training.rated import encode_ratings
from sceneseek_training.rating_data import RatingData
from sceneseek_training.regressors import fit_head
from sceneseek_training.training_split import TrainingSplit

HEADS = "heads.json"
_LIBRARIES = ("scikit-learn", "catboost", "scipy")  # in addition to those of a joint space


@dataclass(frozen=True)
class HeadPlan:
    """The heads to train, and how to measure them.

    Attributes:
        recipes: the heads.
        folds: number of folds by image; by image and caption its square.
        seed: seed of all randomness.
        curves: whether to measure learning curves.
        replicates: number of bootstrap replicates.
    """

    recipes: tuple[HeadRecipe, ...]
    folds: int = 5
    seed: int = 0
    curves: bool = True
    replicates: int = 1_000


def train_heads(
    plan: HeadPlan,
    pack: Pack,
    alignment: Alignment,
    encoder: PackEncoder,
    data: RatingData,
    command: str,
) -> tuple[HeadComparison, dict[str, Head]]:
    """Cross-validate the heads, choose the default, and fit every head to all ratings.

    `command` is the command line that the cards show.

    Raises:
        DataError: see `encode_ratings` and `cross_validate`.
    """
    start = time.perf_counter()
    space, ratings = encode_ratings(alignment, pack, encoder, data.expert, data.crowd, data.captions.by_image)
    drawn = [r for r in plan.recipes if r.name in (BASELINE, candidate_for(pack))] if plan.curves else []
    cells, bootstrap = plan.folds**2, Bootstrap(replicates=plan.replicates)
    total = len(plan.recipes) * (cells + plan.folds) + len(drawn) * len(SHARES) * cells + len(plan.recipes)
    with Progress("learning heads", total, "fits") as progress:
        results = cross_validate(plan.recipes, space, ratings, plan.folds, plan.seed, progress.advance, bootstrap)
        learning = learning_curves(drawn, space, ratings, results, plan.folds, plan.seed, progress.advance)
        heads = {}
        for recipe in plan.recipes:
            heads[recipe.name] = _check_rising(fit_head(recipe, TrainingSplit.whole(space, plan.seed)))
            progress.advance()
    about: dict[str, Any] = {
        "pack": pack.name,
        "towers": [{"name": t.name, "sha256": t.sha256} for t in encoder.towers.provenance()],
        "joint space": alignment.fingerprint,
        "the joint space was learned from": alignment.card.get("learned_from", {}),
        "ratings": [{"name": path.name, "sha256": sha256_of(path)} for path in data.files],
        "images rated or labelled": len(space.image_joint),
        "expert pairs": len(space.expert),
        "pairs with crowd labels": len(space.crowd),
        "captions of these images": int((space.owner >= 0).sum()),
        "aggregation": data.aggregate,
        "folds": plan.folds,
        "seed": plan.seed,
        "command": command,
        "versions": {**versions(), **{name: metadata.version(name) for name in _LIBRARIES}},
        "seconds": round(time.perf_counter() - start),
    }
    if data.cite:
        about["data"] = data.cite
    selection = select_head(results, ratings, bootstrap, candidate_for(pack))
    comparison = HeadComparison(ratings, data.crowd, results, learning, selection, about)
    return comparison, {name: _with_figures(head, comparison, name) for name, head in heads.items()}


def write_heads(comparison: HeadComparison, heads: Mapping[str, Head], out: Path) -> None:
    """Write the heads and their cards, atomically replacing the directory.

    Raises:
        DataError: the directory contains other files, or cannot be written.
    """
    check_heads_out(out)
    summary = {"default": comparison.selection.name, "heads": list(heads), "rule": comparison.selection.rule}
    try:
        with directory_in_place(out) as temporary:
            for name, head in heads.items():
                save_head(head, temporary / name)
                (temporary / name / CARD).write_text(head_card(comparison, name, head), encoding="utf-8")
            (temporary / HEADS).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror})", "choose another --out") from error


def check_heads_out(out: Path) -> None:
    """Refuse a directory that contains anything but heads, since it will be replaced.

    Raises:
        DataError: `out` is a file, or contains other files.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file", "choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / HEADS).is_file():
        raise DataError(f"{out} contains files that do not belong to trained heads", "choose another --out")


def _check_rising(head: Head) -> Head:
    """Return the head if its score rises with similarity, so that it does not reverse the order of results."""
    curve = head.curve if isinstance(head, CosineHead) else head.calibration if isinstance(head, MlpHead) else None
    if isinstance(curve, Calibration) and curve.slope < 0:
        raise DataError(
            f"by these ratings, pairs that are more alike match worse (slope {curve.slope:.2g})",
            "check that the ratings belong to these images, and that 4 is the best of them",
        )
    return head


def check_report_out(report: Path) -> None:
    """Refuse a report directory that cannot be written, before any slow step.

    Raises:
        DataError: `report` is a file, or cannot be written.
    """
    existing = next((path for path in (report, *report.absolute().parents) if path.exists()), Path("/"))
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise DataError(f"{report} cannot be a folder for the report", "choose another --report")


def _with_figures(head: Head, comparison: HeadComparison, name: str) -> Head:
    figures = {}
    for grouping in GROUPINGS:
        figures[grouping] = comparison.of(name, grouping).agreement.to_json()
        del figures[grouping]["reliability"]
    validation = {
        "recipe": name,
        "source": "human ratings",
        "cross-validated, grouped by": figures,
        "folds": comparison.about["folds"],
        "seed": comparison.about["seed"],
        "trained_on": comparison.about["ratings"],
        "towers": comparison.about["towers"],
        "rule": comparison.selection.rule,
        "default": comparison.selection.name,
    }
    return replace(head, validation=validation)
