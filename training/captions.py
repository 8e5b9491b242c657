"""Captions by image and by id: what a corpus and ratings look up (see `sceneseek.captions` for the files)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from sceneseek.captions import read_captions
from sceneseek.errors import DataError
from sceneseek.tables import first_few

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Captions:
    """What a captions file holds.

    Attributes:
        path: the file.
        by_image: the captions of each image, both in the file's order.
        by_id: caption by caption id; empty where the file has no such column.
    """

    path: Path
    by_image: dict[str, tuple[str, ...]]
    by_id: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Captions:
        """Read a captions file; rows without a name or without a caption are counted and logged.

        Raises:
            DataError: the file cannot be read (see `read_captions`), no row has both, or one caption id
                stands for two captions.
        """
        by_image: dict[str, list[str]] = {}
        by_id: dict[str, str] = {}
        blank: list[str] = []
        for row in read_captions(path):
            image, text, caption_id = row.image.strip(), row.text.strip(), row.caption_id.strip()
            if not image or not text:
                blank.append(caption_id or image or repr(text))
                continue
            by_image.setdefault(image, []).append(text)
            if caption_id and by_id.setdefault(caption_id, text) != text:
                raise DataError(f"{path} has two captions with the id {caption_id!r}", "give each its own")
        if not by_image:
            raise DataError(f"{path} holds no captions", "give each row an image and a caption")
        if blank:
            log.warning("%s: %d rows without an image or a caption: %s", path, len(blank), first_few(blank))
        return cls(path, {image: tuple(texts) for image, texts in by_image.items()}, by_id)

    @property
    def names(self) -> list[str]:
        """The images, in the file's order."""
        return list(self.by_image)
