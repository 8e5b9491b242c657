"""The sync plan: source listings and what the index holds -> what a run has to do with each image.

An image whose size and time of change are as they were is `unchanged`. Of the others, `to_hash` names those whose
content the index may hold, by their size; with their hashes `make_plan` decides. An image whose content the index holds
is never encoded again:

    touched    the same content at the same place, changed in its time only
    renamed    the content of an image that is gone from its place, whose vector it takes over
    copied     the content of an image that is still in the index
    encode     everything else: new, or with new content

An image of the index that no listing has and that was not renamed is `gone`. Planning reads no file and no engine.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sceneseek.errors import IndexUnavailable
from sceneseek.payload import relative_path, user_metadata
from sceneseek.store import Collection, VectorStore
from sceneseek_indexer.sidecar import Sidecar
from sceneseek_indexer.walk import UNREADABLE, ImageFile, Listing


class Known(NamedTuple):
    """An image in the index: its place, and what its file was when it was indexed.

    `fresh` tells what an interrupted run has already written into a generation from what was copied into it,
    `described` that it has metadata of the user's, `outdated` that this is not that of the run.
    """

    id: str
    source: int
    relative: str
    bytes: int
    mtime_ns: int
    sha256: str
    fresh: bool = False
    described: bool = False
    outdated: bool = False


def images_of(store: VectorStore, name: str, metadata: Sidecar | None = None) -> list[Known]:
    """Every image of a published generation, whoever holds it.

    Raises:
        IndexUnavailable: it is gone or damaged.
    """
    with contextlib.closing(_published(store, name)) as collection:
        return list(known_images(collection, metadata=metadata))


def metadata_of(store: VectorStore, name: str) -> dict[Place, dict[str, Any]]:
    """The user's metadata of every image of a published generation that has some.

    Raises:
        IndexUnavailable: it is gone or damaged.
    """
    with contextlib.closing(_published(store, name)) as collection:
        payloads = (record.payload for record in collection.scroll())
        return {(p["source"], relative_path(p)): own for p in payloads if (own := user_metadata(p))}


def _published(store: VectorStore, name: str) -> Collection:
    try:
        return store.open(name)
    except IndexUnavailable:
        return store.glance(name)  # dearer: the embedded engine reads a copy of what another process holds


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
            bool(user_metadata(payload)),
            metadata is not None and metadata.differs(relative, payload),
        )


Place = tuple[int, str]
"""Where an image lies: its source's number and its path there."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """An image whose vectors are those of `origin`, which the index holds."""

    file: ImageFile
    origin: Known
    outcome: Literal["touched", "renamed", "copied"]


@dataclass
class Plan:
    """What a run is to do.

    Attributes:
        unchanged: images that stay as they are.
        reused: images whose vectors the index holds.
        encode: images to decode and encode.
        gone: images whose files are no longer there.
        removed: those of them that are to leave the index.
        overwritten: images of the index that get other content, by id.
        described: the paths of images, where they are now, that have metadata of the user's in the index.
    """

    unchanged: list[Known] = field(default_factory=list)
    reused: list[Reuse] = field(default_factory=list)
    encode: list[ImageFile] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)
    removed: list[Known] = field(default_factory=list)
    overwritten: set[str] = field(default_factory=set)
    described: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.reused or self.encode or self.removed)


def place(image: ImageFile | Known) -> Place:
    """Where an image lies."""
    return image.source, image.relative


def files_to_hash(listings: Iterable[Listing], known: Mapping[Place, Known]) -> list[ImageFile]:
    """The changed images of a size that the index has: their hashes decide what a run does with them."""
    sizes = {image.bytes for image in known.values()}
    return [
        file
        for listing in listings
        for file in listing.files
        if file.bytes in sizes and not _same(file, known.get(place(file)))
    ]


def make_plan(
    listings: Mapping[int, Listing],
    known: Mapping[Place, Known],
    hashes: Mapping[Place, str],
    pruned: Container[int] = (),
) -> Plan:
    """Decide the outcome of every image.

    Args:
        listings: what the folders hold, by the number of their source.
        known: what the index holds. Images of sources without a listing stay as they are.
        hashes: sha256 of the contents that `files_to_hash` asked for, as far as they could be read.
        pruned: the sources whose gone images are to be removed.
    """
    plan = Plan()
    files = [file for number in sorted(listings) for file in listings[number].files]
    listed = {place(file) for file in files}
    hidden = {number: _Hidden(listing) for number, listing in listings.items()}
    gone = [
        image
        for at, image in known.items()
        if image.source in listings and at not in listed and image.relative not in hidden[image.source]
    ]
    holders = _Holders(known.values(), gone, set(hashes.values()))
    for file in files:
        own, sha256 = known.get(place(file)), hashes.get(place(file))
        described = own is not None and own.described
        if own is not None and _same(file, own):
            plan.unchanged.append(own)
        elif own is not None and own.sha256 == sha256:
            plan.reused.append(Reuse(file, own, "touched"))
        else:
            if own is not None:
                plan.overwritten.add(own.id)
            if sha256 is not None and (left := holders.take_gone(sha256)):
                plan.reused.append(Reuse(file, left, "renamed"))
                described = described or left.described
            elif sha256 is not None and (other := holders.any(sha256)):
                plan.reused.append(Reuse(file, other, "copied"))
            else:
                plan.encode.append(file)
        if described:
            plan.described.append(file.relative)
    moved = {reuse.origin.id for reuse in plan.reused if reuse.outcome == "renamed"}
    plan.gone = [image for image in gone if image.id not in moved]
    plan.removed = [image for image in plan.gone if image.source in pruned]
    return plan


def _same(file: ImageFile, known: Known | None) -> bool:
    return known is not None and (file.bytes, file.mtime_ns) == (known.bytes, known.mtime_ns)


class _Hidden:
    """Images that are not listed but may be there all the same: waiting, unreadable, or below such a folder."""

    def __init__(self, listing: Listing) -> None:
        self._withheld = listing.withheld
        self._unreadable = {entry.relative for entry in listing.skipped if entry.reason == UNREADABLE}

    def __contains__(self, relative: str) -> bool:
        return relative in self._withheld or (bool(self._unreadable) and self._below_unreadable(relative))

    def _below_unreadable(self, relative: str) -> bool:
        while relative:
            if relative in self._unreadable:
                return True
            relative = relative.rpartition("/")[0]
        return False


class _Holders:
    """Who in the index holds a content: images that are gone, each to be taken over once, and any others."""

    def __init__(self, known: Iterable[Known], gone: Sequence[Known], wanted: Container[str]) -> None:
        self._gone: dict[str, deque[Known]] = defaultdict(deque)
        for image in sorted(gone, key=place):
            if image.sha256 in wanted:
                self._gone[image.sha256].append(image)
        self._any = {image.sha256: image for image in known if image.sha256 in wanted}

    def take_gone(self, sha256: str) -> Known | None:
        left = self._gone.get(sha256)
        return left.popleft() if left else None

    def any(self, sha256: str) -> Known | None:
        return self._any.get(sha256)
