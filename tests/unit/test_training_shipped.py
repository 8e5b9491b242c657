"""The shipped alignment and head meet the documented limits, match each other, and have correct cards."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest

from sceneseek_evaluation.absence import ABSENCE_FIGURES
from sceneseek_export.alignment import CARD, WEIGHTS, Alignment
from sceneseek_export.packs import find_pack
from sceneseek_export.trained import Trained, shipped_alignment
from sceneseek_training.cards import alignment_card, threshold_section
from sceneseek_training.recipe import recipe_for

PACK = find_pack("compact")
# The documented minimum of recall@1, 5 and 10, in per cent.
FLOORS = {"split_dev.txt": (30, 61, 74), "stamps": (21, 38, 46)}


@pytest.fixture(scope="module")
def shipped() -> Alignment:
    return Alignment.load(shipped_alignment(PACK))


def test_shipped_alignment_meets_documented_recall(shipped: Alignment) -> None:
    measured = {entry["name"]: entry for entry in shipped.card["recall"]}
    for name, floors in FLOORS.items():
        for k, floor in zip((1, 5, 10), floors, strict=True):
            assert 100 * measured[name][f"recall@{k}"] >= floor


def test_shipped_calibration_is_based_on_human_ratings(shipped: Alignment) -> None:
    assert shipped.calibration.source == "human ratings"
    assert shipped.calibration.figures["rmse"] <= 0.165
    assert shipped.calibration.slope > 0


def test_shipped_alignment_was_trained_with_current_recipe(shipped: Alignment) -> None:
    recipe = asdict(recipe_for(PACK, classifiers={"lite0", "lite2"}))
    assert shipped.card["recipe"] == json.loads(json.dumps(recipe))


def test_alignment_card_cites_data_and_contains_no_local_paths(shipped: Alignment) -> None:
    directory = shipped_alignment(PACK)
    card = (directory / "CARD.md").read_text(encoding="utf-8")
    assert "Hodosh, Young and Hockenmaier" in card
    assert card == alignment_card(shipped)
    for text in (card, (directory / CARD).read_text(encoding="utf-8")):
        assert not re.search(r"(^|[\s\"'=])/\w", text)


def test_shipped_alignment_stays_within_size_budget(shipped: Alignment) -> None:
    assert (shipped_alignment(PACK) / WEIGHTS).stat().st_size < 7_000_000
    # The last two dimensions of each space are for hubness.
    assert [space.joint for space in shipped.spaces] == [192 + 96 + 2, 192 + 2, 224 + 2]


def test_shipped_head_fits_alignment_and_adds_no_image_vectors(shipped: Alignment) -> None:
    head = Trained.shipped(PACK).head
    assert head.kind == "mlp"
    assert head.alignment == shipped.fingerprint
    assert head.image_width == 0


def test_shipped_head_meets_documented_error_limits() -> None:
    validation = Trained.shipped(PACK).head.validation
    assert validation["default"] == validation["recipe"]
    strict = validation["cross-validated, grouped by"]["image and caption"]
    assert strict["n_pairs"] == 2855
    assert strict["rmse"]["value"] <= 0.165
    assert strict["mae"]["value"] <= 0.118
    assert strict["spearman"]["value"] >= 0.72
    assert strict["kendall_tau_c"]["value"] >= 0.505
    assert strict["ece"]["value"] <= 0.03


def test_shipped_head_has_match_threshold_with_documented_rates() -> None:
    match = Trained.shipped(PACK).head.match
    assert match is not None
    figures = {name: match.figures[name]["value"] for name in ABSENCE_FIGURES}
    assert figures["present.match_rate"] >= 0.84
    assert figures["foreign.false_match_rate"] <= 0.21
    assert figures["nonsense.false_match_rate"] <= 0.02
    card = (shipped_alignment(PACK).with_name("head") / "CARD.md").read_text(encoding="utf-8")
    assert card.endswith(threshold_section(match))


def test_head_card_cites_data_and_contains_no_local_paths() -> None:
    directory = shipped_alignment(PACK).with_name("head")
    card = (directory / "CARD.md").read_text(encoding="utf-8")
    assert "Hodosh, Young and Hockenmaier" in card
    for text in (card, (directory / "head.json").read_text(encoding="utf-8")):
        assert not re.search(r"(^|[\s\"'=])/\w", text)


def test_shipped_weights_stay_within_size_budget() -> None:
    files = [path for path in shipped_alignment(PACK).parents[1].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
