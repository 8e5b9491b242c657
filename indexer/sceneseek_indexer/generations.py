"""The generations of an index: listing them, and making an earlier one live again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from sceneseek.errors import IndexUnavailable, UnfitGeneration
from sceneseek.store import CollectionInfo, VectorStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation: its record, its number of images, and whether it is live."""

    info: CollectionInfo
    images: int
    live: bool

    def to_json(self) -> dict[str, Any]:
        """Return the generation as JSON values."""
        info = self.info
        return {
            "name": info.name,
            "live": self.live,
            "images": self.images,
            "created": info.created,
            "bundle": info.bundle,
            "image_fingerprint": info.image_fingerprint,
            "sources": [{"label": source.label, "folder": source.folder} for source in info.sources],
        }

    def line(self) -> str:
        """Return one line for the terminal."""
        mark = "live" if self.live else "    "
        return f"{mark}  {self.info.name}  {self.images:,} images  {self.info.created[:19]}  {self.info.bundle}"


def generations(store: VectorStore) -> list[Generation]:
    """Return all published generations, oldest first."""
    try:
        live = store.live()
    except UnfitGeneration as error:
        log.warning("%s", error)
        live = None
    return [Generation(info, store.size(info.name), info.name == live) for info in store.generations()]


def roll_back(store: VectorStore, name: str | None = None, wait: bool = True) -> str:
    """Make another generation live, by default the newest of the others.

    Returns:
        The name of the generation.

    Raises:
        UnfitGeneration: its files are damaged.
        IndexUnavailable: the generation does not exist, or another process writes the index and `wait` is False.
    """
    with store.writing(wait):
        others = [generation.info.name for generation in generations(store) if not generation.live]
        if not others:
            what = f"the index {store.url} has no generation to go back to"
            raise IndexUnavailable(what, "the next run with changes keeps the present one")
        if name is not None and name not in others:
            what = f"the index {store.url} has no other generation {name}"
            raise IndexUnavailable(what, f"it has {', '.join(others)}")
        target = name or others[-1]
        store.verify(target)
        store.switch(target)
        return target


def verify(store: VectorStore, name: str | None = None) -> list[str]:
    """Verify the files of a generation, or of all generations, against their checksums.

    Returns:
        The names of the intact generations.

    Raises:
        UnfitGeneration: a file is missing or damaged.
        IndexUnavailable: the generation does not exist.
    """
    names = [info.name for info in store.generations()] if name is None else [name]
    for each in names:
        store.verify(each)
    return names
