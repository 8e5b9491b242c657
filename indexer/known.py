"""What a generation holds already, as far as a plan needs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sceneseek.payload import relative_path
from sceneseek.store import Collection


class Known(NamedTuple):
    """An image in the index: its place, and what its file was when it was indexed.

    `fresh` tells what an interrupted run has already written into a generation from what was copied into it.
    """

    id: str
    source: int
    relative: str
    bytes: int
    mtime_ns: int
    sha256: str
    fresh: bool = False


def known_images(collection: Collection) -> Iterator[Known]:
    """Every image of a generation."""
    for record in collection.scroll():
        payload = record.payload
        yield Known(
            record.id,
            payload["source"],
            relative_path(payload),
            payload["bytes"],
            payload["mtime_ns"],
            payload["sha256"],
            # Both are the starts of runs; a copy's images were indexed by runs before the one that created it.
            payload["indexed_at"] >= collection.info.created,
        )
