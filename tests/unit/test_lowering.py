"""Which pictures and texts a lower precision is calibrated and compared on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sceneseek.errors import ExportError
from sceneseek.sample_queries import QUERIES
from sceneseek_export.fidelity import FidelityData
from sceneseek_export.lowering import COMPARED_IMAGES, COMPARED_TEXTS, Lowering, Sample, compared_texts, lowered
from sceneseek_export.precision import CALIBRATION_IMAGES
from sceneseek_export.towers import Towers
from tests.small_towers import image_tower, text_tower


def folder_of(folder: Path, count: int) -> Path:
    for i in range(count):
        path = folder / f"{i % 3}" / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i % 256, 40, 200 - i % 200)).save(path)
    return folder


def test_no_picture_is_both_calibrated_and_compared_on_and_broken_ones_are_passed_over(tmp_path: Path) -> None:
    folder_of(tmp_path, 12)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture by its name")
    sample = Sample.of(Lowering("int8", tmp_path))
    assert (len(sample.calibrated_on), len(sample.compared_on)) == (8, 4)
    assert not set(sample.calibrated_on) & set(sample.compared_on)


def test_of_many_pictures_only_so_many_as_help_are_read_evenly_over_the_folder(tmp_path: Path) -> None:
    folder_of(tmp_path, 400)
    sample = Sample.of(Lowering("int8", tmp_path))
    used = (*sample.calibrated_on, *sample.compared_on)
    assert len(used) == CALIBRATION_IMAGES + COMPARED_IMAGES
    assert {path.parent.name for path in used} == {"0", "1", "2"}


def test_pictures_that_losses_are_measured_on_calibrate_nothing(tmp_path: Path) -> None:
    folder_of(tmp_path / "images", 30)
    measured = [f"{i % 3}/{i:03d}.png" for i in range(0, 30, 2)]
    (tmp_path / "split.txt").write_text("\n".join(measured))
    data = FidelityData(tmp_path / "images", tmp_path / "captions.tsv", tmp_path / "split.txt")
    sample = Sample.of(Lowering("int8", tmp_path / "images", data))
    used = {str(p.relative_to(tmp_path / "images")) for p in (*sample.calibrated_on, *sample.compared_on)}
    assert len(used) == 15
    assert not used & set(measured)


def test_too_few_pictures_are_refused_with_how_many_are_enough(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"holds 5 pictures .* needs 9 at least.*192 are enough"):
        Sample.of(Lowering("int8", folder_of(tmp_path, 5)))


def test_texts_are_the_users_captions_or_queries_of_our_own(tmp_path: Path) -> None:
    assert compared_texts(None) == list(QUERIES)
    captions = tmp_path / "captions.tsv"
    rows = [f"{i}.png\t{i}#0\tcaption {i}" for i in range(300)]
    captions.write_text("\n".join(["image\tcaption_id\tcaption", *rows]) + "\n")
    texts = compared_texts(FidelityData(tmp_path, captions))
    assert len(texts) == COMPARED_TEXTS
    assert (texts[0], texts[-1]) == ("caption 0", "caption 299")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_tower_is_lowered_in_its_way(precision: str, tmp_path: Path) -> None:
    towers = Towers((image_tower("eye", 8, 6, 3),), (text_tower("ear", 6),))
    pictures = sorted(folder_of(tmp_path, 6).rglob("*.png"))
    if precision == "int8":  # a text tower without a matrix product has nothing to quantise, and says so
        with pytest.raises(ExportError, match="nothing to quantise"):
            lowered(towers, "int8", pictures)
        towers = Towers(towers.images, ())
    pieces = lowered(towers, precision, pictures)  # type: ignore[arg-type]
    kinds = {node.op_type for node in pieces.images["eye"].graph.node}
    assert ("QuantizeLinear" in kinds) == (precision == "int8")
    weights = [w for w in pieces.images["eye"].graph.initializer if np.prod(w.dims) > 100]
    assert weights
    # 10 is float16, 3 is int8 in ONNX's list of types.
    assert {w.data_type for w in weights} == {10 if precision == "fp16" else 3}
