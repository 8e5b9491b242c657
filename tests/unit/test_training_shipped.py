"""The alignment that comes with sceneseek: what its card promises, and that it is what the code would make."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest

from export.bundle import shipped_alignment
from sceneseek.alignment import CARD, WEIGHTS, Alignment
from sceneseek.packs import find_pack
from training.card import render
from training.recipe import recipe_for

PACK = find_pack("compact")
# What the product promises: recall at 1, 5 and 10, in per cent.
FLOORS = {"split_dev.txt": (22, 51, 65), "stamps": (17, 34, 38)}


@pytest.fixture(scope="module")
def shipped() -> Alignment:
    return Alignment.load(shipped_alignment(PACK))


def test_it_is_as_good_as_promised_on_photographs_and_on_drawings(shipped: Alignment) -> None:
    measured = {found["name"]: found for found in shipped.card["recall"]}
    for name, floors in FLOORS.items():
        for k, floor in zip((1, 5, 10), floors, strict=True):
            assert 100 * measured[name][f"recall@{k}"] >= floor


def test_its_score_was_learned_from_people(shipped: Alignment) -> None:
    assert shipped.calibration.source == "human ratings"
    assert shipped.calibration.figures["rmse"] <= 0.174
    assert shipped.calibration.slope > 0


def test_it_was_made_by_the_recipe_that_is_here(shipped: Alignment) -> None:
    recipe = asdict(recipe_for(PACK, classifiers={"lite0", "lite2"}))
    assert shipped.card["recipe"] == json.loads(json.dumps(recipe))


def test_its_card_names_the_source_of_the_data_and_no_folder_of_a_machine(shipped: Alignment) -> None:
    directory = shipped_alignment(PACK)
    card = (directory / "CARD.md").read_text(encoding="utf-8")
    assert "Hodosh, Young and Hockenmaier" in card
    assert card == render(shipped)
    for text in (card, (directory / CARD).read_text(encoding="utf-8")):
        assert not re.search(r"(^|[\s\"'=])/\w", text)


def test_it_is_small(shipped: Alignment) -> None:
    assert (shipped_alignment(PACK) / WEIGHTS).stat().st_size < 5_000_000
    assert shipped.joint == 256 + 128 + 2  # contrast, regression, hubness
