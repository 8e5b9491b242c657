"""Listings and what the index knows -> what is to be done: a fate for every image. Touches no file and no engine.

An image whose size and time of change are as they were is `unchanged`. Of the others, `questions` names those
whose content may be known, by their size; with the answers, `make_plan` decides. An image whose content the index
holds is never encoded again:

    touched    the same content at the same place, changed in its time only
    renamed    the content of an image that is gone from its place, which it takes over with its vector
    copied     the content of an image that is still in the index
    encode     everything else: new, or with new content

An image of the index that no listing has and that was not renamed is `gone`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sceneseek_indexer.known import Known
from sceneseek_indexer.walk import UNREADABLE, ImageFile, Listing

Place = tuple[int, str]
"""Where an image lies: its source's number and its path there."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """An image whose vectors are those of `origin`, which the index holds."""

    file: ImageFile
    origin: Known
    fate: Literal["touched", "renamed", "copied"]


@dataclass
class Plan:
    """What a run is to do.

    Attributes:
        unchanged: images that stay as they are.
        takeovers: images whose vectors the index holds.
        encode: images to decode and encode.
        gone: images whose files are no longer there.
        removed: those of them that are to leave the index.
        overwritten: images of the index that get other content, by id.
    """

    unchanged: list[Known] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)
    encode: list[ImageFile] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)
    removed: list[Known] = field(default_factory=list)
    overwritten: set[str] = field(default_factory=set)

    @property
    def empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.takeovers or self.encode or self.removed)


def place(image: ImageFile | Known) -> Place:
    """Where an image lies."""
    return image.source, image.relative


def questions(listings: Iterable[Listing], known: Mapping[Place, Known]) -> list[ImageFile]:
    """The images whose content must be hashed to decide their fate: they have changed, and the index has their size."""
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
    pruned: Collection[int] = (),
) -> Plan:
    """Decide the fate of every image.

    Args:
        listings: what the folders hold, by the number of their source.
        known: what the index holds. Images of sources without a listing stay as they are.
        hashes: sha256 of the contents that `questions` asked for, as far as they could be read.
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
        if own is not None and _same(file, own):
            plan.unchanged.append(own)
        elif own is not None and own.sha256 == sha256:
            plan.takeovers.append(Takeover(file, own, "touched"))
        else:
            if own is not None:
                plan.overwritten.add(own.id)
            if sha256 is not None and (left := holders.take_gone(sha256)):
                plan.takeovers.append(Takeover(file, left, "renamed"))
            elif sha256 is not None and (other := holders.any(sha256)):
                plan.takeovers.append(Takeover(file, other, "copied"))
            else:
                plan.encode.append(file)
    moved = {takeover.origin.id for takeover in plan.takeovers if takeover.fate == "renamed"}
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

    def __init__(self, known: Iterable[Known], gone: Sequence[Known], wanted: Collection[str]) -> None:
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
