"""Captions and splits: tab-separated text without quoting rules.

A captions file has a header with the columns ``image`` and ``caption``; a ``caption_id`` is kept, other
columns are allowed. A split is one image name a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sceneseek.errors import DataError
from sceneseek.tables import read_lines, read_table


@dataclass(frozen=True, slots=True)
class Caption:
    """A text that describes an image; `image` is the image's path relative to its folder."""

    image: str
    text: str
    caption_id: str = ""


def read_captions(path: Path) -> list[Caption]:
    """The captions of a file, in its order.

    Raises:
        DataError: the file holds no captions, or see `read_table`.
    """
    captions = [
        Caption(record.fields["image"], record.fields["caption"], record.fields.get("caption_id", ""))
        for record in read_table(path, "captions", ("image", "caption"))
    ]
    if not captions:
        raise DataError(f"{path} holds a header but no captions", "add a row for each caption")
    return captions


def read_split(path: Path) -> list[str]:
    """The image names of a split file, in its order, without repeats.

    Raises:
        DataError: the file is missing, empty or not UTF-8.
    """
    return list(dict.fromkeys(line.strip() for line in read_lines(path, "image names") if line.strip()))
