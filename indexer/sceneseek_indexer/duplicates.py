"""Near-duplicates: finds the images of a collection that are copies of one picture, and marks them.

Two images are near-duplicates if both their difference hashes (`fingerprint`) and their joint vectors are near, see
`near_duplicates`. A group is a connected component of near-duplicates. Every image of a group has in its payload

    duplicates  {"group": id, "others": n}

the smallest id of the group, and the number of its other images. An image without near-duplicates has no mark.

A few new fingerprints (16 bytes each) are compared with all others. Where there are many, only those are compared that
agree in most bits of some part, by multi-index hashing (Norouzi, Punjani, Fleet: Fast search in Hamming space with
multi-index hashing, CVPR 2012). Both find all pairs that are near. Vectors are read only for these.

A fingerprint is the difference hash of the package `dhash`: 128 bits, one for each of 8 x 8 places whether the picture
grows brighter to the right, and one whether it does downwards. Another size, format or quality hardly changes it; a
mirrored picture has another one. It is written as 32 hex digits. A picture of one colour has no such differences, and
all blank pictures would have the same hash. Its fingerprint is that colour instead, `#rrggbb`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import dhash
import numpy as np
import numpy.typing as npt
from PIL import Image

from sceneseek.colour import on_background
from sceneseek.picture import Picture
from sceneseek.store import Collection
from sceneseek.vectors import Floats

# Grey levels of 255: a picture whose values differ by no more is of one colour.
_FLAT = 4
# Levels of 255 per channel: the colours of two blank pictures are the same if they differ by no more.
_SAME_COLOUR = 2
_SIZE = 8
BITS = 2 * _SIZE * _SIZE
_SIDE = _SIZE + 1


def fingerprint(picture: Picture) -> str:
    """The fingerprint of a decoded picture; what is transparent counts as white."""
    image = picture.pixels
    if image.mode == "RGBA":
        image = on_background(image, (255, 255, 255))
    # Not resized by the package: its filter takes eight times as long, and its calls are deprecated in Pillow.
    small = image.resize((_SIDE, _SIDE), Image.Resampling.HAMMING, reducing_gap=3.0)
    grey = list(small.convert("L").tobytes())
    if max(grey) - min(grey) <= _FLAT:
        return "#" + bytes(small.resize((1, 1), Image.Resampling.BOX).tobytes()).hex()
    return str(dhash.format_hex(*dhash.dhash_row_col(grey, _SIZE), _SIZE))


def same_colour(one: str, other: str) -> bool:
    """Whether two fingerprints of pictures of one colour are of the same colour, within what a copy changes."""
    channels = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), strict=True)
    return all(abs(a - b) <= _SAME_COLOUR for a, b in channels)


FIELD = "duplicates"

# Measured, see docs/explanation/duplicates.md. A copy in another size, format, quality or colour differs in few of the
# informative bits; a crop differs in more, and then the vectors must be nearly equal.
COPY_SHARE, COPY_COSINE = 0.18, 0.6
CROP_SHARE, CROP_COSINE, CROP_LEAST = 0.28, 0.9, 48
# A fingerprint of fewer bits says little: the vectors must be nearly equal.
FEW = 32
_COLOUR_COSINE = COPY_COSINE

# The weight of a pair is at most half of all bits plus half of the differing ones, which bounds the differing bits of
# a near pair.
_MOST_BITS = int(CROP_SHARE * BITS / (2 - CROP_SHARE))
# Near pairs agree up to `_ERRORS` bits in one of so many parts, since else more bits in all would differ.
_ERRORS = 2
_PARTS = _MOST_BITS // (_ERRORS + 1) + 1
# More pairs than these are not all compared.
_EXHAUSTIVE = 2_000_000_000
# Fingerprints compared in one block, pairs of vectors at a time, and images written at a time.
_BLOCK = 4_000_000
_PAIRS = 8_192
_BATCH = 1024

Numbers = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
Hashes = npt.NDArray[np.uint64]


def weight(ones: Numbers, other_ones: Numbers, differing: Numbers) -> Numbers:
    """The information in two fingerprints: the bits set in either, or the bits clear in either if those are fewer.

    The fingerprint of a gradient is nearly all set or nearly all clear bits, as that of many other pictures.

    Args:
        ones: bits set in the one.
        other_ones: bits set in the other.
        differing: bits in which they differ.
    """
    in_either = (ones + other_ones + differing) // 2
    return np.asarray(np.minimum(in_either, BITS + differing - in_either))


def near_duplicates(differing: Numbers, weights: Numbers, cosine: Floats) -> npt.NDArray[np.bool_]:
    """Whether pairs of images are near-duplicates.

    Args:
        differing: bits in which the fingerprints differ.
        weights: of the pairs, see `weight`.
        cosine: of the joint vectors.
    """
    copy = (differing <= COPY_SHARE * weights) & (cosine >= np.where(weights < FEW, CROP_COSINE, COPY_COSINE))
    crop = (differing <= CROP_SHARE * weights) & (weights >= CROP_LEAST) & (cosine >= CROP_COSINE)
    return np.asarray(copy | crop)


def mark_duplicates(collection: Collection, new_ids: Iterable[str]) -> int:
    """Compare new images with all others, and update the marks.

    The counts of groups show which images were deleted or overwritten since the last call.

    Args:
        collection: a generation that is not live yet.
        new_ids: the images written since the last call.

    Returns:
        The number of copies: all images of groups, less one for each group.
    """
    images = _Images.of(collection)
    fresh = images.to_compare(set(new_ids))
    groups = _Groups(len(images.ids))
    for members in images.whole_groups():
        for other in members[1:]:
            groups.join(members[0], other)
    for one, others in _pairs(collection, images, fresh):
        for other in groups.apart(one, others):
            groups.join(one, other)
    return _write(collection, images, groups)


@dataclass
class _Images:
    """The images of a collection, by index.

    Attributes:
        ids: of the points.
        marks: those of the points that have one: group and number of others.
        hashed: indices of those with a hash, and `hashes` (N, 2) of 64 bits each.
        blank: indices of those of one colour, and that colour's fingerprint.
    """

    ids: list[str] = field(default_factory=list)
    marks: dict[int, tuple[str, int]] = field(default_factory=dict)
    hashed: Indices = field(default_factory=lambda: np.empty(0, np.intp))
    hashes: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty((0, 2), np.uint64))
    blank: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, collection: Collection) -> _Images:
        images = cls()
        hashed, digits = [], bytearray()
        for index, record in enumerate(collection.scroll()):
            images.ids.append(record.id)
            mark, dhash = record.payload.get(FIELD), record.payload.get("dhash", "")
            if mark:
                images.marks[index] = (str(mark["group"]), int(mark["others"]))
            if dhash.startswith("#"):
                images.blank[index] = dhash
            elif dhash:
                hashed.append(index)
                digits += bytes.fromhex(dhash)
        images.hashed = np.array(hashed, np.intp)
        images.hashes = np.frombuffer(bytes(digits), ">u8").astype(np.uint64).reshape(-1, 2)
        return images

    def whole_groups(self) -> Iterator[list[int]]:
        """The groups whose images are all still there."""
        members: dict[str, list[int]] = {}
        for index, (group, _) in self.marks.items():
            members.setdefault(group, []).append(index)
        for indices in members.values():
            if all(self.marks[index][1] == len(indices) - 1 for index in indices):
                yield indices

    def to_compare(self, new_ids: set[str]) -> set[int]:
        """The new images, and those whose group lost one."""
        whole = {index for indices in self.whole_groups() for index in indices}
        return {i for i, identity in enumerate(self.ids) if identity in new_ids or (i in self.marks and i not in whole)}


class _Groups:
    """Union-find over indices; the smaller group joins the larger."""

    def __init__(self, count: int) -> None:
        self.label = np.arange(count)
        self.members: dict[int, list[int]] = {}

    def apart(self, one: int, others: Sequence[int] | Indices) -> list[int]:
        """The others that are not in its group yet."""
        indices = np.asarray(others, np.intp)
        return [int(other) for other in indices[self.label[indices] != self.label[one]]]

    def join(self, one: int, other: int) -> None:
        a, b = int(self.label[one]), int(self.label[other])
        if a == b:
            return
        first, second = self.members.pop(a, [a]), self.members.pop(b, [b])
        if len(first) < len(second):
            a, first, second = b, second, first
        self.label[second] = a
        self.members[a] = first + second


def _pairs(collection: Collection, images: _Images, fresh: set[int]) -> Iterator[tuple[int, Sequence[int] | Indices]]:
    """Each fresh image with images that it is a near-duplicate of; an image may come several times."""
    rows = np.flatnonzero(np.isin(images.hashed, np.fromiter(fresh, np.intp, len(fresh))))
    ones = np.bitwise_count(images.hashes).sum(axis=1, dtype=np.int16)
    all_pairs = len(rows) * len(ones) <= _EXHAUSTIVE
    for compared in _compared(images.hashes, rows) if all_pairs else _compared_by_parts(images.hashes, rows):
        weights = weight(ones[compared.one], ones[compared.other], compared.differing)
        close = (compared.differing <= CROP_SHARE * weights) & (compared.one != compared.other)
        if close.any():
            near = compared.those(close)
            cosines = _cosines(collection, images, near.one, near.other)
            near = near.those(near_duplicates(near.differing, weights[close], cosines))
            one, other = images.hashed[near.one], images.hashed[near.other]
            # The pairs come row by row.
            for begin, end in itertools.pairwise([0, *(np.flatnonzero(np.diff(one)) + 1), len(one)]):
                if end > begin:
                    yield int(one[begin]), other[begin:end]
    yield from _blank_pairs(collection, images.blank, images.ids, fresh)


class _Compared(NamedTuple):
    """Pairs of fingerprints, by their places, and in how many bits they differ."""

    one: Indices
    other: Indices
    differing: Numbers

    def those(self, wanted: npt.NDArray[np.bool_]) -> _Compared:
        """Some of the pairs."""
        return _Compared(self.one[wanted], self.other[wanted], self.differing[wanted])


def _compared(hashes: Hashes, rows: Indices) -> Iterator[_Compared]:
    """The pairs of one of `rows` and any other that differ in up to `_MOST_BITS` bits, row by row."""
    step = max(1, _BLOCK // max(1, len(hashes)))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        differing = np.zeros((len(block), len(hashes)), np.uint8)
        for half in (0, 1):
            differing += np.bitwise_count(hashes[block, half, None] ^ hashes[None, :, half])
        places, columns = np.nonzero(differing <= _MOST_BITS)
        yield _Compared(block[places], columns, differing[places, columns].astype(np.int16))


def _compared_by_parts(hashes: Hashes, rows: Indices) -> Iterator[_Compared]:
    """The same, of two rows once.

    Every seventh bit makes a part, since neighbouring bits are often equal. By each part the fingerprints are sorted,
    and each row is compared with those whose part differs in one of the ways in which it may.
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, BITS // 8), axis=1)
    is_row = np.zeros(len(hashes), np.bool_)
    is_row[rows] = True
    before: list[npt.NDArray[np.int32]] = []
    for part in range(_PARTS):
        own = bits[:, part::_PARTS]
        keys = own @ (np.int32(1) << np.arange(own.shape[1], dtype=np.int32))
        order = np.argsort(keys, kind="stable")
        ordered = _Ordered(keys[order], hashes[order], is_row[order])
        for errors in range(_ERRORS + 1):
            for places in itertools.combinations(range(own.shape[1]), errors):
                for near in ordered.near(sum(1 << place for place in places)):
                    found = _Compared(order[near.one], order[near.other], near.differing)
                    for seen in before:  # an earlier part has found those already that are near in it
                        found = found.those(np.bitwise_count(seen[found.one] ^ seen[found.other]) > _ERRORS)
                    yield found
        before.append(keys)


class _Ordered:
    """Fingerprints in the order of a part of their bits.

    Args:
        keys: (N,) the part.
        hashes: (N, 2) the whole.
        is_row: (N,) whether others are compared with it.
    """

    def __init__(self, keys: npt.NDArray[np.int32], hashes: Hashes, is_row: npt.NDArray[np.bool_]) -> None:
        self._hashes, self._is_row = hashes, is_row
        self._rows = np.flatnonzero(is_row)
        self._keys = keys[self._rows]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=int(keys.max(initial=0)) + 1))])

    def near(self, mask: int) -> Iterator[_Compared]:
        """The pairs whose parts differ in exactly these bits and that differ in up to `_MOST_BITS`, two rows once."""
        last = len(self._starts) - 2
        wanted = self._keys ^ mask
        there = wanted <= last
        wanted = np.minimum(wanted, last)
        first = self._starts[wanted]
        counts = np.where(there, self._starts[wanted + 1] - first, 0)
        ends = np.cumsum(counts)
        begin = 0
        while begin < len(counts):
            done = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + _BLOCK, "right")))
            lengths = counts[begin:end]
            one = np.repeat(self._rows[begin:end], lengths)
            other = np.arange(len(one)) + np.repeat(first[begin:end] - np.cumsum(lengths) + lengths, lengths)
            once = (other > one) | ~self._is_row[other]
            one, other = one[once], other[once]
            differing = np.bitwise_count(self._hashes[one] ^ self._hashes[other]).sum(axis=1, dtype=np.int16)
            yield _Compared(one, other, differing).those(differing <= _MOST_BITS)
            begin = end


def _blank_pairs(
    collection: Collection, blank: Mapping[int, str], ids: Sequence[str], fresh: set[int]
) -> Iterator[tuple[int, list[int]]]:
    """The same for pictures of one colour: each is compared with one new and one old image of that colour."""
    firsts: dict[tuple[str, bool], int] = {}
    for index, colour in blank.items():
        firsts.setdefault((colour, index in fresh), index)
    for index in fresh & blank.keys():
        alike = [first for (colour, _), first in firsts.items() if same_colour(colour, blank[index])]
        others = [first for first in alike if first != index]
        if others:
            vectors = _vectors(collection, [ids[i] for i in (index, *others)])
            yield index, [o for o in others if float(vectors[ids[o]] @ vectors[ids[index]]) >= _COLOUR_COSINE]


def _cosines(collection: Collection, images: _Images, one: Indices, other: Indices) -> Floats:
    """Of the joint vectors of pairs; each vector is read once."""
    needed, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    ids = [images.ids[index] for index in images.hashed[needed]]
    vectors = _vectors(collection, ids)
    joints = np.stack([vectors[identity] for identity in ids])
    cosines = np.empty(len(one), np.float32)
    for part in range(0, len(one), _PAIRS):
        of = slice(part, part + _PAIRS)
        cosines[of] = np.einsum("nd,nd->n", joints[places[: len(one)][of]], joints[places[len(one) :][of]])
    return cosines


def _vectors(collection: Collection, ids: Sequence[str]) -> dict[str, Floats]:
    return {identity: stored.joint for identity, stored in collection.vectors(ids).items()}


def _write(collection: Collection, images: _Images, groups: _Groups) -> int:
    """Write the marks that have changed; return the number of copies."""
    wanted: dict[int, tuple[str, int]] = {}
    for members in groups.members.values():
        group = min(images.ids[index] for index in members)
        wanted.update(dict.fromkeys(members, (group, len(members) - 1)))
    changes: dict[str, dict[str, Any]] = {}
    for index in sorted(wanted.keys() | images.marks.keys()):
        mark = wanted.get(index)
        if mark != images.marks.get(index):
            changes[images.ids[index]] = {FIELD: {"group": mark[0], "others": mark[1]} if mark else None}
    ids = list(changes)
    for start in range(0, len(ids), _BATCH):
        collection.set_payload({identity: changes[identity] for identity in ids[start : start + _BATCH]})
    return len(wanted) - len(groups.members)
