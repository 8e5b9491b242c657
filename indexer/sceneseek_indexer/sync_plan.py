"""The sync plan: listings of the sources and the images of the index -> the outcome for each image.

An image with the same size and times as before is `unchanged`. Of the others, `files_to_hash` returns those whose size
equals that of an image of the index, and `make_plan` decides with their hashes. Content that the index has is never
encoded again:

    touched    the same content at the same place; only its times differ
    renamed    the content of an image whose file is gone; its vectors are reused
    copied     the content of an image that is still in the index
    encode     all others: new files and new content

An image of the index that no listing contains and that was not renamed is `gone`. Planning reads no file and no engine.
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
from sceneseek_indexer.walk import UNREADABLE, ImageFile, Listing, above


class Known(NamedTuple):
    """An image of the index: its place, and the state of its file when it was indexed.

    Attributes:
        fresh: an interrupted run wrote it; False for one that was copied from the live generation.
        described: it has metadata of the user's.
        outdated: this metadata differs from that of the run.
        unread: the run reads the text in pictures, and that of this one was not read.
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
    ctime_ns: int = 0
    unread: bool = False


def images_of(store: VectorStore, name: str, metadata: Sidecar | None = None, ocr: bool = False) -> list[Known]:
    """Every image of a published generation, even if another process holds it.

    Raises:
        IndexUnavailable: it is gone or damaged.
    """
    with contextlib.closing(_published(store, name)) as collection:
        return list(known_images(collection, metadata=metadata, ocr=ocr))


def metadata_of(store: VectorStore, name: str) -> dict[Place, dict[str, Any]]:
    """The user's metadata in a published generation, by place; images without it are left out.

    Raises:
        IndexUnavailable: it is gone or damaged.
    """
    with contextlib.closing(_published(store, name)) as collection:
        payloads = (record.payload for record in collection.scroll())
        return {(p["source"], relative_path(p)): own for p in payloads if (own := user_metadata(p))}


def _published(store: VectorStore, name: str) -> Collection:
    try:
        return store.open(name, wait=False)
    except IndexUnavailable:
        return store.glance(name)  # another process holds it


def known_images(
    collection: Collection, resumed: bool = False, metadata: Sidecar | None = None, ocr: bool = False
) -> Iterator[Known]:
    """Every image of a generation.

    Args:
        collection: the generation.
        resumed: whether an interrupted run created it; its points are `fresh`.
        metadata: the metadata of the run, if any.
        ocr: whether the run reads the text in pictures.
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
            # Both are start times of runs; copied images were indexed by an earlier run than this.
            resumed and payload["indexed_at"] >= collection.info.created,
            bool(user_metadata(payload)),
            metadata is not None and metadata.differs(relative, payload),
            payload.get("ctime_ns", 0),
            ocr and "ocr" not in payload,
        )


Place = tuple[int, str]
"""The number of an image's source, and its path below it."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """An image that reuses the vectors of `origin`, an image of the index."""

    file: ImageFile
    origin: Known
    outcome: Literal["touched", "renamed", "copied"]


@dataclass
class Plan:
    """The outcomes of a run.

    Attributes:
        unchanged: images that stay as they are.
        reused: images whose content the index has.
        encode: images to decode and encode.
        gone: images of the index whose files are deleted.
        away: those of them in folders that are empty or not mounted: they are never removed.
        removed: the `gone` images to remove from the index.
        overwritten: ids of images of the index that get other content.
        described: the present paths of images with metadata of the user's in the index.
    """

    unchanged: list[Known] = field(default_factory=list)
    reused: list[Reuse] = field(default_factory=list)
    encode: list[ImageFile] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)
    away: list[Known] = field(default_factory=list)
    removed: list[Known] = field(default_factory=list)
    overwritten: set[str] = field(default_factory=set)
    described: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether no point is written or removed."""
        return not (self.reused or self.encode or self.removed)


def place(image: ImageFile | Known) -> Place:
    """The place of an image."""
    return image.source, image.relative


def files_to_hash(listings: Iterable[Listing], known: Mapping[Place, Known]) -> list[ImageFile]:
    """The changed files whose size equals that of an image of the index: their hashes decide the outcome."""
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
    deleted: Container[Place] = (),
) -> Plan:
    """Decide the outcome of every image.

    Args:
        listings: of the folders that were read, by the number of their source.
        known: the images of the index. Those of sources without a listing stay as they are.
        hashes: sha256 of the files of `files_to_hash` that could be read.
        pruned: the sources whose `gone` images are removed.
        deleted: the places whose `gone` images are removed in any case, since they were deleted on purpose.
    """
    plan = Plan()
    files = [file for number in sorted(listings) for file in listings[number].files]
    listed = {place(file) for file in files}
    hidden = {number: _Hidden(listing) for number, listing in listings.items()}
    missing = [
        image
        for at, image in known.items()
        if image.source in listings and at not in listed and image.relative not in hidden[image.source]
    ]
    plan.away = [
        image
        for image in missing
        if place(image) not in deleted and not listings[image.source].away.isdisjoint(above(image.relative))
    ]
    away = {image.id for image in plan.away}
    gone = [image for image in missing if image.id not in away]
    holders = _Holders(known.values(), gone, set(hashes.values()))
    for file in files:
        own, sha256 = known.get(place(file)), hashes.get(place(file))
        described = own is not None and own.described
        if own is not None and _same(file, own):
            if own.unread:
                plan.encode.append(file)
            else:
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
    plan.gone = [image for image in missing if image.id not in moved]
    plan.removed = [
        image for image in plan.gone if place(image) in deleted or (image.source in pruned and image.id not in away)
    ]
    return plan


def _same(file: ImageFile, known: Known | None) -> bool:
    # The time of the last change of the inode shows edits that restore the time of modification.
    return known is not None and (file.bytes, file.mtime_ns, file.ctime_ns) == (
        known.bytes,
        known.mtime_ns,
        known.ctime_ns,
    )


class _Hidden:
    """Images that are not listed and may still exist: withheld, unreadable, or below an unreadable folder."""

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
    """The images of the index by content: `gone` ones, each of which can be renamed once, and any others."""

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
