"""Captions and splits are read verbatim, and invalid files are rejected with a one-line reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.captions import Caption, Captions, read_captions, read_split
from sceneseek.errors import DataError


def write_file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "captions.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_quotes_and_unicode_separators_are_kept_in_captions(tmp_path: Path) -> None:
    path = write_file(
        tmp_path, 'image\tcaption_id\tcaption\na.jpg\ta#0\tA "quoted dog\x0bjumps\nb.jpg\tb#1\tÉté\u2028\n'
    )
    assert read_captions(path) == [
        Caption("a.jpg", 'A "quoted dog\x0bjumps', "a#0"),
        Caption("b.jpg", "Été\u2028", "b#1"),
    ]


def test_extra_columns_any_order_and_crlf_are_accepted(tmp_path: Path) -> None:
    path = write_file(tmp_path, "caption\tlicence\timage\r\na dog\tCC0\ta.jpg\r\n\r\n")
    assert read_captions(path) == [Caption("a.jpg", "a dog")]


@pytest.mark.parametrize(
    ("written", "language"),
    [
        ("ru", "ru"),
        (" ru ", "ru"),
        ("RU", "ru"),
        ("pt-br", "pt-BR"),
        ("ZH-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("ca-Valencia", "ca-valencia"),
        ("ast", "ast"),
        ("", ""),
        (" ", ""),
    ],
)
def test_language_code_is_normalised_to_recommended_case(tmp_path: Path, written: str, language: str) -> None:
    path = write_file(tmp_path, f"image\tlanguage\tcaption\na.jpg\t{written}\ta dog\n")
    assert read_captions(path) == [Caption("a.jpg", "a dog", language=language)]


@pytest.mark.parametrize("written", ["pt_BR", "russian", "mean", "r", "я", "ru-", "ru.utf8", "ru en", "-"])
def test_invalid_language_code_is_rejected_with_line_number(tmp_path: Path, written: str) -> None:
    path = write_file(tmp_path, f"image\tcaption\tlanguage\na.jpg\ta dog\ten\nb.jpg\ta cat\t{written}\n")
    with pytest.raises(DataError, match=r"line 3 of .* has the unknown language") as caught:
        read_captions(path)
    assert "BCP 47" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "reason"),
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
def test_invalid_caption_file_is_rejected_with_reason(tmp_path: Path, content: str | bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_captions(write_file(tmp_path, content))


def test_missing_file_raises_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no captions at"):
        read_captions(tmp_path / "nowhere.tsv")


def test_split_is_read_as_unique_names_in_order(tmp_path: Path) -> None:
    assert read_split(write_file(tmp_path, "b.jpg\n\na.jpg\nb.jpg\n")) == ["b.jpg", "a.jpg"]


def test_captions_are_indexed_by_image_and_by_id(tmp_path: Path) -> None:
    path = write_file(
        tmp_path,
        "caption\timage\textra\tcaption_id\n"
        'a "big" dog\tb.png\t1\tb#0\n it\'s \ta.png\t2\ta#0\nso\tb.png\t3\tb#1\nno id\ta.png\t4\t\n',
    )
    captions = Captions.read(path)
    assert captions.names == ["b.png", "a.png"]
    assert captions.by_image == {"b.png": ('a "big" dog', "so"), "a.png": ("it's", "no id")}
    assert captions.by_id == {
        "b#0": Caption("b.png", 'a "big" dog', "b#0"),
        "a#0": Caption("a.png", "it's", "a#0"),
        "b#1": Caption("b.png", "so", "b#1"),
    }


def test_file_without_ids_has_empty_id_index(tmp_path: Path) -> None:
    captions = Captions.read(write_file(tmp_path, "image\tcaption\na.png\ta dog\n"))
    assert captions.by_id == {}
    assert captions.names == ["a.png"]


def test_rows_without_caption_are_skipped_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_file(tmp_path, "image\tcaption\na.png\ta dog\nb.png\t \n")
    assert Captions.read(path).names == ["a.png"]
    assert "1 rows without an image or a caption: b.png" in caplog.text


@pytest.mark.parametrize("other", ["a.png\t7\ta cat", "b.png\t7\ta dog"])
def test_duplicate_caption_id_is_rejected(tmp_path: Path, other: str) -> None:
    path = write_file(tmp_path, f"image\tcaption_id\tcaption\na.png\t7\ta dog\n{other}\n")
    with pytest.raises(DataError, match="two captions with the id '7'"):
        Captions.read(path)


def test_file_with_only_blank_captions_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no captions"):
        Captions.read(write_file(tmp_path, "image\tcaption\na.png\t \n"))
