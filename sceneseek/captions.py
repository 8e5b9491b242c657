"""Captions and splits: tab-separated text without quoting rules.

A captions file has a header with the columns ``image`` and ``caption``; a ``caption_id`` is kept, other
columns are allowed. A split is one image name a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sceneseek.errors import DataError


@dataclass(frozen=True, slots=True)
class Caption:
    """A text that describes an image; `image` is the image's path relative to its folder."""

    image: str
    text: str
    caption_id: str = ""


def read_captions(path: Path) -> list[Caption]:
    """The captions of a file, in its order.

    Raises:
        DataError: the file is missing, empty, not UTF-8, lacks a column, or has a row that is too short.
    """
    lines = _lines(path)
    header = lines[0].split("\t")
    for column in ("image", "caption"):
        if column not in header:
            looks = "the columns must be separated by tabs" if len(header) == 1 else f"it has {', '.join(header)}"
            raise DataError(f"{path} has no column {column!r}", looks)
    image, text = header.index("image"), header.index("caption")
    identity = header.index("caption_id") if "caption_id" in header else None
    captions = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < len(header):
            raise DataError(
                f"{path}, line {number} has {len(fields)} columns, the header has {len(header)}",
                "separate the columns with tabs; a caption must not hold a line break",
            )
        captions.append(Caption(fields[image], fields[text], "" if identity is None else fields[identity]))
    if not captions:
        raise DataError(f"{path} holds a header but no captions", "add a row for each caption")
    return captions


def read_split(path: Path) -> list[str]:
    """The image names of a split file, in its order, without repeats.

    Raises:
        DataError: the file is missing, empty or not UTF-8.
    """
    return list(dict.fromkeys(line.strip() for line in _lines(path) if line.strip()))


def _lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file; split at line feeds only, since captions hold other separators."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no file {path}", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error})", "save it as UTF-8 text") from error
    if not content.strip():
        raise DataError(f"{path} is empty", "name the file that holds the data")
    return content.replace("\r\n", "\n").removesuffix("\n").split("\n")
