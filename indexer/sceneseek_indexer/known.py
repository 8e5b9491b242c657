"""What a generation holds already, as far as a plan needs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sceneseek.errors import IndexUnavailable
from sceneseek.payload import relative_path
from sceneseek.store import Collection, VectorStore
from sceneseek_indexer.sidecar import Sidecar


class Known(NamedTuple):
    """An image in the index: its place, and what its file was when it was indexed.

    `fresh` tells what an interrupted run has already written into a generation from what was copied into it,
    `outdated` that its metadata is not that of the run.
    """

    id: str
    source: int
    relative: str
    bytes: int
    mtime_ns: int
    sha256: str
    fresh: bool = False
    outdated: bool = False


def images_of(store: VectorStore, name: str, metadata: Sidecar | None = None) -> list[Known]:
    """Every image of a published generation, whoever holds it.

    Raises:
        IndexUnavailable: it is gone or damaged.
    """
    try:
        collection = store.open(name)
    except IndexUnavailable:
        collection = store.glance(name)  # dearer: the embedded engine reads a copy of what another process holds
    try:
        return list(known_images(collection, metadata=metadata))
    finally:
        collection.close()


def known_images(collection: Collection, resumed: bool = False, metadata: Sidecar | None = None) -> Iterator[Known]:
    """Every image of a generation.

    Args:
        collection: the generation.
        resumed: whether it is an interrupted run's, which wrote the `fresh` ones.
        metadata: of the run's images, if it brings some.
    """
    for record in collection.scroll():
        payload, relative = record.payload, relative_path(record.payload)
        yield Known(
            record.id,
            payload["source"],
            relative,
            payload["bytes"],
            payload["mtime_ns"],
            payload["sha256"],
            # Both are the starts of runs; a copy's images were indexed by runs before the one that created it.
            resumed and payload["indexed_at"] >= collection.info.created,
            metadata is not None and metadata.differs(relative, payload.get("metadata", {})),
        )
