"""Captions and splits are read as they stand; what is wrong with a file is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.captions import Caption, read_captions, read_split
from sceneseek.errors import DataError


def file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "captions.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_quotes_and_odd_separators_are_part_of_a_caption(tmp_path: Path) -> None:
    path = file(tmp_path, 'image\tcaption_id\tcaption\na.jpg\ta#0\tA "quoted dog\x0bjumps\nb.jpg\tb#1\tÉté\u2028\n')
    assert read_captions(path) == [
        Caption("a.jpg", 'A "quoted dog\x0bjumps', "a#0"),
        Caption("b.jpg", "Été\u2028", "b#1"),
    ]


def test_other_columns_any_order_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = file(tmp_path, "caption\tlicence\timage\r\na dog\tCC0\ta.jpg\r\n\r\n")
    assert read_captions(path) == [Caption("a.jpg", "a dog")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("image\tcaption\n", "no captions"),
        ("image,caption\na.jpg,a dog\n", "separated by tabs"),
        ("file\tcaption\na.jpg\ta dog\n", "no column 'image'"),
        ("image\ttext\na.jpg\ta dog\n", "no column 'caption'"),
        ("image\tcaption\na.jpg\n", "line 2"),
        (b"image\tcaption\na.jpg\t\xff\n", "UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_captions(file(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no captions at"):
        read_captions(tmp_path / "nowhere.tsv")


def test_a_split_is_a_list_of_names_without_repeats(tmp_path: Path) -> None:
    assert read_split(file(tmp_path, "b.jpg\n\na.jpg\nb.jpg\n")) == ["b.jpg", "a.jpg"]
