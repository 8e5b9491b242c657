"""What training is given: files that are read as they are, and one clear line for each that cannot be used."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sceneseek.errors import DataError
from training.captions import Captions
from training.ratings import read_ratings
from training.sources import Sources, read_material

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
    """Two captions an image, with ids."""
    rows = [f"{name}\t{name}#{k}\tcaption {k} of {name}" for name in NAMES for k in (0, 1)]
    return write(tmp_path / "captions.tsv", "image\tcaption_id\tcaption", *rows)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def ratings(path: Path, *rows: str) -> Path:
    return write(path, "image\tcaption_id\ts1\ts2\ts3", *rows)


def test_captions_keep_their_order_and_their_quotation_marks(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv", "caption\timage\textra", 'a "big" dog\tb.png\t1', "it's\ta.png\t2", "so\tb.png\t3")
    found = Captions.read(path)
    assert found.by_image == {"b.png": ('a "big" dog', "so"), "a.png": ("it's",)}
    assert found.by_id == {}


def test_rows_without_a_caption_are_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "c.tsv", "image\tcaption", "a.png\ta dog", "b.png\t ")
    assert Captions.read(path).names == ["a.png"]
    assert "1 rows without an image or a caption: b.png" in caplog.text


def test_an_id_of_two_captions_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv", "image\tcaption_id\tcaption", "a.png\t7\ta dog", "b.png\t7\ta cat")
    with pytest.raises(DataError, match="two captions with the id '7'"):
        Captions.read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no captions at"),
        ("", "empty"),
        ("image\tcaption\n", "no captions"),
        ("image,caption\na.png,a dog\n", "tabs"),
        ("image\ttext\na.png\ta dog\n", "no column 'caption'"),
        ("image\tcaption\na.png\n", "line 2"),
        (b"image\tcaption\na.png\t\xff\n", "not UTF-8"),
    ],
)
def test_captions_that_cannot_be_read_are_one_line(tmp_path: Path, content: str | bytes | None, said: str) -> None:
    path = tmp_path / "captions.tsv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said) as error:
        Captions.read(path)
    assert str(path) in str(error.value)


def test_a_split_chooses_and_what_it_cannot_have_is_counted_and_named(
    folder: Path, captions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "2.png").unlink()
    split = write(tmp_path / "split.txt", "3.png", "1.png", "2.png", "unheard of.png", "1.png")
    validate = write(tmp_path / "validate.txt", "5.png")
    with caplog.at_level(logging.WARNING):
        material = read_material(Sources(folder, captions, split, validate), seed=0)
    assert material.train.names == ("3.png", "1.png")
    assert material.train.captions[:2] == ("caption 0 of 3.png", "caption 1 of 3.png")
    assert material.train.owner.tolist() == [0, 0, 1, 1]
    assert material.train.left_out == {"without a caption": 1, "not in the folder": 1}
    assert "unheard of.png" in caplog.text
    assert "2.png" in caplog.text


def test_without_ratings_some_images_are_held_out_to_calibrate(folder: Path, captions: Path) -> None:
    material = read_material(Sources(folder, captions), seed=0)
    assert material.calibration is not None
    assert len(material.calibration) == 2
    assert sorted(material.calibration.names + material.train.names) == NAMES
    again = read_material(Sources(folder, captions), seed=0)
    assert again.train.names == material.train.names


@pytest.mark.parametrize(
    ("names", "said"), [(["nowhere.png"], "none has both"), (["1.png", "2.png"], "too few"), ([], "empty")]
)
def test_a_split_of_nothing_usable_is_one_line(
    folder: Path, captions: Path, tmp_path: Path, names: list[str], said: str
) -> None:
    split = write(tmp_path / "split.txt", *names)
    with pytest.raises(DataError, match=said):
        read_material(Sources(folder, captions, split), seed=0)


def test_a_missing_folder_of_images_is_one_line(captions: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of images"):
        read_material(Sources(tmp_path / "nowhere", captions), seed=0)


def test_images_that_measure_are_never_learned_from(folder: Path, captions: Path, tmp_path: Path) -> None:
    split, validate = (write(tmp_path / f"{name}.txt", "1.png", "2.png") for name in ("train", "dev"))
    with pytest.raises(DataError, match=r"share 2 images: 1\.png, 2\.png"):
        read_material(Sources(folder, captions, split, validate), seed=0)
    expert = ratings(tmp_path / "expert.tsv", "2.png\t3.png#0\t1\t1\t1", "4.png\t3.png#0\t1\t4\t1")
    with pytest.raises(DataError, match=r"share 1 images: 2\.png"):
        read_material(Sources(folder, captions, split, expert=expert), seed=0)


def test_ratings_become_targets_from_0_to_1(folder: Path, captions: Path, tmp_path: Path) -> None:
    path = ratings(
        tmp_path / "expert.tsv", "1.png\t2.png#1\t1\t1\t1", "3.png\t2.png#1\t4\t4\t4", "1.png\t0.png#0\t1\t2\t4"
    )
    found = read_ratings(path, folder, Captions.read(captions))
    np.testing.assert_allclose(found.target, [0, 1, 4 / 9], atol=1e-6)
    assert found.names == ("1.png", "3.png")
    assert found.captions == ("caption 1 of 2.png", "caption 0 of 0.png")
    assert (found.image.tolist(), found.caption.tolist()) == ([0, 1, 0], [0, 0, 1])


def test_ratings_of_the_unknown_are_counted_and_named(
    folder: Path, captions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        "1.png\t2.png#1\t1\t1\t1",
        "1.png\tlost#1\t1\t1\t1",
        "lost.png\t2.png#1\t1\t1\t1",
        "3.png\t2.png#1\t2\t1\t1",
    ]
    found = read_ratings(ratings(tmp_path / "expert.tsv", *rows), folder, Captions.read(captions))
    assert len(found) == 2
    assert found.left_out == {"of unknown captions": 1, "of images not in the folder": 1}
    assert "lost#1" in caplog.text
    assert "lost.png" in caplog.text


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "empty"),
        (["image,caption_id,s1,s2,s3", "1.png,2.png#1,1,1,1"], "not separated by tabs"),
        (["image\tcaption_id\ts1\ts2", "1.png\t2.png#1\t1\t1"], "no column 's3'"),
        (["image\tcaption_id\ts1\ts2\ts3", "1.png\t2.png#1\t1\t7\t1"], "line 2 .* rating '7' in s2"),
        (["image\tcaption_id\ts1\ts2\ts3", "1.png\t2.png#1\t1\tgood\t1"], "rating 'good'"),
        (["image\tcaption_id\ts1\ts2\ts3", "1.png\t2.png#1\t1\t1"], "line 2 .* has 4 fields"),
        (["image\tcaption_id\ts1\ts2\ts3", "lost.png\tlost\t1\t1\t1"], "no rating of a known image and caption"),
        (["image\tcaption_id\ts1\ts2\ts3", "1.png\t2.png#1\t2\t2\t2", "3.png\t2.png#1\t2\t2\t2"], "equal"),
    ],
)
def test_ratings_that_cannot_be_used_are_one_line(
    folder: Path, captions: Path, tmp_path: Path, lines: list[str], said: str
) -> None:
    path = write(tmp_path / "expert.tsv", *lines)
    with pytest.raises(DataError, match=said):
        read_ratings(path, folder, Captions.read(captions))


def test_ratings_need_captions_with_ids(folder: Path, tmp_path: Path) -> None:
    captions = write(tmp_path / "c.tsv", "image\tcaption", "1.png\ta dog")
    with pytest.raises(DataError, match="no column 'caption_id'"):
        read_ratings(ratings(tmp_path / "expert.tsv", "1.png\tx\t1\t1\t1"), folder, Captions.read(captions))
