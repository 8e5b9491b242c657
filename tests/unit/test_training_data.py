"""Reading training data, and one-line errors for unusable files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from sceneseek.errors import DataError
from sceneseek_training.corpus import AlignmentFiles, read_alignment_data

NAMES = [f"{i}.png" for i in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (30 * i, 0, 0)).save(folder / name)
    return folder


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Two captions per image, with ids."""
    rows = [f"{name}\t{name}#{k}\tcaption {k} of {name}" for name in NAMES for k in (0, 1)]
    return write(tmp_path / "captions.tsv", "image\tcaption_id\tcaption", *rows)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def ratings(path: Path, *rows: str) -> Path:
    return write(path, "image\tcaption_id\ts1\ts2\ts3", *rows)


def test_split_selects_images_and_missing_ones_are_counted_and_logged(
    folder: Path, captions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "2.png").unlink()
    split = write(tmp_path / "split.txt", "3.png", "1.png", "2.png", "unheard of.png", "1.png")
    validate = write(tmp_path / "validate.txt", "5.png")
    with caplog.at_level(logging.WARNING):
        material = read_alignment_data(AlignmentFiles(folder, captions, split, validate), seed=0)
    assert material.train.names == ("3.png", "1.png")
    assert material.train.captions[:2] == ("caption 0 of 3.png", "caption 1 of 3.png")
    assert material.train.owner.tolist() == [0, 0, 1, 1]
    assert material.train.left_out == {"without a caption": 1, "not in the folder": 1}
    assert "unheard of.png" in caplog.text
    assert "2.png" in caplog.text


def test_images_are_held_out_for_calibration_without_ratings(folder: Path, captions: Path) -> None:
    material = read_alignment_data(AlignmentFiles(folder, captions), seed=0)
    assert material.calibration is not None
    assert len(material.calibration) == 2
    assert sorted(material.calibration.names + material.train.names) == NAMES
    again = read_alignment_data(AlignmentFiles(folder, captions), seed=0)
    assert again.train.names == material.train.names


@pytest.mark.parametrize(
    ("names", "message"), [(["nowhere.png"], "has both"), (["1.png", "2.png"], "too few"), ([], "empty")]
)
def test_unusable_split_is_an_error(
    folder: Path, captions: Path, tmp_path: Path, names: list[str], message: str
) -> None:
    split = write(tmp_path / "split.txt", *names)
    with pytest.raises(DataError, match=message):
        read_alignment_data(AlignmentFiles(folder, captions, split), seed=0)


def test_missing_image_folder_is_an_error(captions: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of images"):
        read_alignment_data(AlignmentFiles(tmp_path / "nowhere", captions), seed=0)


def test_images_shared_with_validation_or_ratings_are_rejected(folder: Path, captions: Path, tmp_path: Path) -> None:
    split, validate = (write(tmp_path / f"{name}.txt", "1.png", "2.png") for name in ("train", "dev"))
    with pytest.raises(DataError, match=r"share 2 images: 1\.png, 2\.png"):
        read_alignment_data(AlignmentFiles(folder, captions, split, validate), seed=0)
    expert = ratings(tmp_path / "expert.tsv", "2.png\t3.png#0\t1\t1\t1", "4.png\t3.png#0\t1\t4\t1")
    with pytest.raises(DataError, match=r"share 1 images: 2\.png"):
        read_alignment_data(AlignmentFiles(folder, captions, split, expert=expert), seed=0)


def test_unknown_captions_in_ratings_are_an_error_or_skipped(folder: Path, captions: Path, tmp_path: Path) -> None:
    split = write(tmp_path / "split.txt", "0.png")
    expert = ratings(
        tmp_path / "expert.tsv", "2.png\t3.png#0\t1\t1\t1", "4.png\tlost\t4\t4\t4", "4.png\t3.png#0\t1\t4\t1"
    )
    with pytest.raises(DataError, match=r"1 of 3 ratings .* unknown captions \(lost\): .* --skip-unknown"):
        read_alignment_data(AlignmentFiles(folder, captions, split, expert=expert), seed=0)
    material = read_alignment_data(AlignmentFiles(folder, captions, split, expert=expert, skip_unknown=True), seed=0)
    assert material.ratings is not None
    assert material.ratings.left_out == {"of unknown captions": 1}
