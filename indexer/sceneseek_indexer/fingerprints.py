"""Fingerprints of pictures: computes them, and finds close pairs among millions.

A fingerprint is the difference hash of the package `dhash`, written as 32 hex digits: two bits for each of 8 x 8
places, which tell whether the picture gets brighter to the right, and downwards. A different size, format or quality
hardly changes it; mirroring does. All pictures of one colour would have the same hash, so their fingerprint is the
colour instead, `#rrggbb`.

Two fingerprints are close if `near_duplicates` is true for equal vectors, which allows up to 20 differing bits. A small
number of new fingerprints is compared with all others. For more, only fingerprints that are equal under one of 381
masks are compared. The masks are constructed so that no close pair is missed (Pagh: CoveringLSH: Locality-Sensitive
Hashing without False Negatives, ACM Transactions on Algorithms 14, 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import dhash
import numpy as np
import numpy.typing as npt
from PIL import Image

from sceneseek.colour import on_background
from sceneseek.picture import Picture
from sceneseek.vectors import Floats

# Maximum range of grey levels (of 255) in a picture of one colour.
_FLAT = 4
# Maximum difference per channel (of 255) between two blank pictures of the same colour.
_SAME_COLOUR = 2
_SIZE = 8
BITS = 2 * _SIZE * _SIZE
_SIDE = _SIZE + 1


def fingerprint(picture: Picture) -> str:
    """The fingerprint of a decoded picture; transparent pixels count as white."""
    image = picture.pixels
    if image.mode == "RGBA":
        image = on_background(image, (255, 255, 255))
    # Not resized by `dhash`: its filter takes eight times as long, and it calls deprecated functions of Pillow.
    small = image.resize((_SIDE, _SIDE), Image.Resampling.HAMMING, reducing_gap=3.0)
    grey = list(small.convert("L").tobytes())
    if max(grey) - min(grey) <= _FLAT:
        return "#" + bytes(small.resize((1, 1), Image.Resampling.BOX).tobytes()).hex()
    return str(dhash.format_hex(*dhash.dhash_row_col(grey, _SIZE), _SIZE))


def same_colour(one: str, other: str) -> bool:
    """Whether two `#rrggbb` fingerprints are the same colour, within the tolerance for copies."""
    channels = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), strict=True)
    return all(abs(a - b) <= _SAME_COLOUR for a, b in channels)


# Measured, see docs/explanation/duplicates.md. A copy with another size, format, quality or colour differs in few of
# the informative bits; a crop differs in more, so its vector must be nearly equal.
COPY_SHARE, COPY_COSINE = 0.18, 0.6
CROP_SHARE, CROP_COSINE, CROP_MIN_WEIGHT = 0.28, 0.9, 48
# With fewer informative bits, the vectors must be nearly equal.
FEW = 32

# The weight of a pair is at most half of all bits plus half of the differing ones, which bounds the differing bits of
# a close pair.
_MOST_BITS = int(CROP_SHARE * BITS / (2 - CROP_SHARE))
# A part consists of every third bit, since neighbouring bits are often equal. In at least one part, a close pair
# differs in up to `_ERRORS` bits.
_PARTS = 3
_ERRORS = _MOST_BITS // _PARTS
# 49 steps of a seven-bit shift register. Of all 18 such registers with the longest period, and of all starts, this
# sequence gives the masks under which the fewest fingerprints are equal: each has at least 18 bits.
_SEQUENCE = 0x1819470F8B663
# Spreads a key over the highest bits (Knuth: The Art of Computer Programming, volume 3, 6.4).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
# Up to this number of new fingerprints, comparing them with all others is faster than using masks.
_FEW_NEW = 5_000
# Pairs compared at a time, which fit into the CPU cache, and how many such results are yielded together.
_COMPARED = 65_536
_TIMES = 64

Numbers = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int32]
# (2, N): the first and the last 64 bits of N times 128 bits.
Halves = npt.NDArray[np.uint64]


def weight(ones: Numbers, other_ones: Numbers, differing: Numbers) -> Numbers:
    """The informative bits of pairs of fingerprints: those set in either, or those clear in either if fewer.

    In the fingerprints of gradients, as in those of many other pictures, nearly all bits are set or nearly all clear.

    Args:
        ones: number of bits set in the first fingerprint.
        other_ones: number of bits set in the second.
        differing: number of bits in which they differ.
    """
    in_either = (ones + other_ones + differing) // 2
    return np.asarray(np.minimum(in_either, BITS + differing - in_either))


def near_duplicates(differing: Numbers, weights: Numbers, cosine: Floats) -> Flags:
    """Whether pairs of images are near-duplicates.

    Args:
        differing: number of bits in which the fingerprints differ.
        weights: of the pairs, see `weight`.
        cosine: cosine similarity of the joint vectors.
    """
    copy = (differing <= COPY_SHARE * weights) & (cosine >= np.where(weights < FEW, CROP_COSINE, COPY_COSINE))
    crop = (differing <= CROP_SHARE * weights) & (weights >= CROP_MIN_WEIGHT) & (cosine >= CROP_COSINE)
    return np.asarray(copy | crop)


def halves(parts: Iterable[bytes | bytearray]) -> Halves:
    """Convert 16 N bytes to (2, N) halves."""
    return np.frombuffer(b"".join(parts), ">u8").astype(np.uint64).reshape(-1, 2).T.copy()


_NO_MASKS = halves([])


class Pairs(NamedTuple):
    """(P,) pairs of indices, the number of bits in which their fingerprints differ, and their `weight`."""

    one: Indices
    other: Indices
    differing: Numbers
    weights: Numbers

    def select(self, wanted: Flags | slice) -> Pairs:
        """Return a subset of the pairs."""
        return Pairs(*(each[wanted] for each in self))


class Fingerprints:
    """Fingerprints of images, for comparison.

    Args:
        images: (N,) the indices of the images.
        hashes: (2, N) their fingerprints.
    """

    def __init__(self, images: Indices, hashes: Halves) -> None:
        self._images, self._hashes = images, hashes

    def close_pairs(self, new: Flags, groups: Callable[[Indices], Indices]) -> Iterator[Pairs]:
        """Yield the close pairs of images with at least one new image, except pairs in the same group.

        Args:
            new: whether an image is new, by index.
            groups: returns the group numbers of images. It is called repeatedly, so that pairs whose groups have been
                joined meanwhile are left out.
        """
        self._sort(new, groups)
        if self._new_count <= _FEW_NEW:
            yield from self._apart(self._every_pair(), groups)
            return
        yield from self._apart(self._equal_pairs(), groups)
        masks = _masks()
        for number in range(masks.shape[1]):
            # The first masks find most pairs. Sorting again by the joined groups avoids comparing within a group.
            if number.bit_count() <= 1:
                self._sort(new, groups)
            yield from self._apart(self._pairs_under(masks[:, number]), groups, masks[:, :number])

    def _sort(self, new: Flags, groups: Callable[[Indices], Indices]) -> None:
        """Sort new images to the front, and by group."""
        labels, old = groups(self._images), ~new[self._images]
        order = np.argsort(labels + old * np.int64(1 << 32))
        self._images, self._hashes, self._labels = self._images[order], np.take(self._hashes, order, 1), labels[order]
        self._new_count = len(old) - int(np.count_nonzero(old))

    def _apart(
        self, parts: Iterator[Pairs], groups: Callable[[Indices], Indices], earlier: Halves = _NO_MASKS
    ) -> Iterator[Pairs]:
        """Convert positions to images, without pairs in the same group and pairs already found by an earlier mask."""
        for some in iter(lambda: list(islice(parts, _TIMES)), []):
            pairs = Pairs(*map(np.concatenate, zip(*some, strict=True)))
            one, other = self._images[pairs.one], self._images[pairs.other]
            first, last = np.take(self._hashes, pairs.one, 1) ^ np.take(self._hashes, pairs.other, 1)
            apart = groups(one) != groups(other)
            for mask in earlier.T:
                apart &= ((first & mask[0]) | (last & mask[1])) != 0
            yield pairs._replace(one=one, other=other).select(apart)

    def _every_pair(self) -> Iterator[Pairs]:
        """The positions of close pairs of a new fingerprint and a later one, by comparing all of them."""
        height = 16
        width = _COMPARED // height
        for column in range(0, len(self._images), width):
            columns = self._hashes[0, column : column + width]
            for row in range(0, min(self._new_count, column + width), height):
                rows = self._hashes[0, row : min(row + height, self._new_count), None]
                one, other = np.nonzero(np.bitwise_count(rows ^ columns) <= _MOST_BITS)
                later = one + row < other + column
                yield _close(self._hashes, one[later] + row, other[later] + column)

    def _equal_pairs(self) -> Iterator[Pairs]:
        """The positions of each new fingerprint and of the last equal one.

        These pairs join thousands of copies into a group, so that their millions of pairs need not be compared.
        """
        order = np.lexsort(self._hashes)
        hashes = np.take(self._hashes, order, 1)
        lasts = order[_ends((hashes[:, 1:] != hashes[:, :-1]).any(axis=0))]
        copies = (order != lasts) & (order < self._new_count)
        yield _close(self._hashes, order[copies], lasts[copies])

    def _pairs_under(self, mask: Halves) -> Iterator[Pairs]:
        """The positions of close pairs of a new fingerprint and a later one that are equal under a mask."""
        count = len(self._images)
        # A mask contains at most every third bit. 64 is not a multiple of three, so its halves have no common bits.
        keys = (self._hashes[0] & mask[0]) | (self._hashes[1] & mask[1])
        # Sorting numbers made of a key's highest bits and the position is several times as fast as an argsort of keys.
        # Keys that differ only in the lost bits cost an unnecessary comparison.
        low = np.uint64(count.bit_length())
        keys *= _SPREAD
        keys >>= low
        keys <<= low
        keys |= np.arange(count, dtype=np.uint64)
        keys.sort()
        order = (keys & np.uint64((1 << count.bit_length()) - 1)).astype(np.int32)
        keys >>= low
        changes = keys[1:] != keys[:-1]
        del keys
        labels = self._labels[order]
        # Each new fingerprint is compared with those from the end of its group to the end of its run of equal keys.
        before = _ends(changes | (labels[1:] != labels[:-1]))
        counts = np.where(order < self._new_count, _ends(changes) - before, 0)
        sums = np.cumsum(counts, dtype=np.int64)
        hashes = np.take(self._hashes, order, 1)
        begin, done = 0, 0
        while begin < count:
            end = max(begin + 1, int(np.searchsorted(sums, done + _COMPARED, "right")))
            those = slice(begin, end)
            one = np.repeat(np.arange(begin, end), counts[those])
            other = np.repeat(before[those] + 1 - (sums[those] - counts[those] - done), counts[those])
            other += np.arange(len(other))
            for half in hashes:
                maybe = np.flatnonzero(np.bitwise_count(half.take(one) ^ half.take(other)) <= _MOST_BITS)
                one, other = one[maybe], other[maybe]
            close = _close(hashes, one, other)
            yield close._replace(one=order[close.one], other=order[close.other])
            begin, done = end, int(sums[end - 1])


def _masks() -> Halves:
    """Masks (2, 381): two fingerprints that differ in up to `_MOST_BITS` bits are equal under at least one.

    In at least one part, they differ in up to six bits. The masks of a part are the words of a linear code of dimension
    seven. Clearing six bits of a word gives six linear equations in seven unknowns, which have a solution other than
    zero.
    """
    masks = []
    for part in range(_PARTS):
        words = [0]
        for shift in range(_ERRORS + 1):
            base = sum(1 << place for place in range(part, BITS, _PARTS) if _SEQUENCE >> shift + place // _PARTS & 1)
            words += [word ^ base for word in words]
        masks += words[1:]
    return halves(word.to_bytes(BITS // 8, "big") for word in masks)


def _close(hashes: Halves, one: Numbers, other: Numbers) -> Pairs:
    """The close pairs among pairs of hashes."""
    first, second = np.take(hashes, one, 1), np.take(hashes, other, 1)
    differing, *ones = (np.bitwise_count(each).sum(axis=0, dtype=np.int16) for each in (first ^ second, first, second))
    weights = weight(ones[0], ones[1], differing)
    return Pairs(one, other, differing, weights).select(near_duplicates(differing, weights, np.ones(1, np.float32)))


def _ends(changes: Flags) -> Indices:
    """(N,) the index of the last item of each item's run.

    Args:
        changes: (N - 1,) whether an item differs from the next one.
    """
    lasts = np.flatnonzero(np.append(changes, True)).astype(np.int32)
    return np.repeat(lasts, np.diff(lasts, prepend=-1))
