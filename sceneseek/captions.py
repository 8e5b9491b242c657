"""Reads captions from files of tab-separated fields (see `sceneseek.tables`), and splits and texts from plain text.

A captions file has a header with the columns ``image`` and ``caption``. The columns ``caption_id`` and ``language`` are
optional, others are ignored. A language is a BCP 47 code, such as ``ru`` or ``pt-BR``; empty means unknown. A split has
one image name per line, a file of texts one text per line.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from sceneseek.errors import DataError, one_line
from sceneseek.tables import Row, first_few, read_lines, read_table

log = logging.getLogger(__name__)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8})*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caption:
    """A text that describes an image.

    Attributes:
        image: the path of the image, relative to its folder.
        text: the caption.
        caption_id: its id; empty if the file has none.
        language: its BCP 47 code, in the letter case of RFC 5646 (``zh-Hant-TW``); empty if unknown.
    """

    image: str
    text: str
    caption_id: str = ""
    language: str = ""


@dataclass(frozen=True)
class Captions:
    """Captions by image and by id, for lookups.

    Attributes:
        path: the file.
        by_image: the captions by image, both in the order of the file.
        by_id: the captions by id; empty if the file has no ids.
    """

    path: Path
    by_image: dict[str, tuple[str, ...]]
    by_id: dict[str, Caption]

    @classmethod
    def read(cls, path: Path) -> Captions:
        """Read a captions file; rows without an image or a caption are skipped with a warning.

        Raises:
            DataError: the file cannot be read (see `read_captions`), no row has both, or two captions or images share
                a caption id.
        """
        by_image: dict[str, list[str]] = {}
        by_id: dict[str, Caption] = {}
        blank: list[str] = []
        for row in read_captions(path):
            caption = Caption(row.image.strip(), row.text.strip(), row.caption_id.strip())
            if not caption.image or not caption.text:
                blank.append(caption.caption_id or caption.image or repr(caption.text))
                continue
            by_image.setdefault(caption.image, []).append(caption.text)
            if caption.caption_id and by_id.setdefault(caption.caption_id, caption) != caption:
                raise DataError(f"{path} has two captions with the id {caption.caption_id!r}", "use unique ids")
        if not by_image:
            raise DataError(f"{path} contains no captions", "give each row an image and a caption")
        if blank:
            log.warning("%s: %d rows without an image or a caption: %s", path, len(blank), first_few(blank))
        return cls(path, {image: tuple(texts) for image, texts in by_image.items()}, by_id)

    @property
    def names(self) -> list[str]:
        """The images, in the order of the file."""
        return list(self.by_image)


def read_captions(path: Path, split: Path | None = None) -> list[Caption]:
    """Read the captions of a file, in its order; with a split, only those of the images that it names.

    Raises:
        DataError: see `read_table` and `read_split`; or the file contains no captions, or a language is not a BCP 47
            code.
    """
    captions = [
        Caption(row.fields["image"], row.fields["caption"], row.fields.get("caption_id", ""), _language(row, path))
        for row in read_table(path, "captions", ("image", "caption")).rows
    ]
    if not captions:
        raise DataError(f"{path} has a header but no captions", "add a row for each caption")
    if split is None:
        return captions
    chosen = set(read_split(split))
    return [caption for caption in captions if caption.image in chosen]


def _language(row: Row, path: Path) -> str:
    code = row.fields.get("language", "").strip()
    if not code:
        return ""
    if not _LANGUAGE.fullmatch(code):
        raise DataError(
            f"line {row.line} of {path} has the unknown language {one_line(code)[:40]!r}",
            "use a BCP 47 code, such as ru, pt-BR or zh-Hant, or leave it empty",
        )
    first, *rest = code.lower().split("-")
    cased = (part.upper() if len(part) == 2 else part.title() if len(part) == 4 else part for part in rest)
    return "-".join([first, *cased])


def read_split(path: Path) -> list[str]:
    """Read the image names of a split file, in its order, without duplicates.

    Raises:
        DataError: the file is missing, empty or not UTF-8.
    """
    return list(dict.fromkeys(line.strip() for line in read_lines(path, "image names") if line.strip()))


def read_texts(path: Path) -> list[str]:
    """Read the texts of a file with one text per line, in its order; blank lines are skipped.

    Raises:
        DataError: the file is missing, not UTF-8, or contains no text.
    """
    texts = [line.strip() for line in read_lines(path, "texts") if line.strip()]
    if not texts:
        raise DataError(f"{path} contains no texts", "write one per line")
    return texts
