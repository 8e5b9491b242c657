"""Fingerprints of pictures: makes them, and finds those that are close among millions.

A fingerprint is the difference hash of the package `dhash`: 128 bits, one for each of 8 x 8 places whether the picture
grows brighter to the right, and one whether it does downwards. Another size, format or quality hardly changes it; a
mirrored picture has another one. It is written as 32 hex digits. A picture of one colour has no such differences, and
all blank pictures would have the same hash. Its fingerprint is that colour instead, `#rrggbb`.

Two fingerprints are close if `near_duplicates` holds for equal vectors. That allows up to 20 differing bits. A few new
fingerprints are compared with all others. Where there are many, only those are compared that are equal under one of 381
masks, which are made so that no close pair is missed (Pagh: CoveringLSH: Locality-Sensitive Hashing without False
Negatives, ACM Transactions on Algorithms 14, 2018).
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


# Measured, see docs/explanation/duplicates.md. A copy in another size, format, quality or colour differs in few of the
# informative bits; a crop differs in more, and then the vectors must be nearly equal.
COPY_SHARE, COPY_COSINE = 0.18, 0.6
CROP_SHARE, CROP_COSINE, CROP_LEAST = 0.28, 0.9, 48
# A fingerprint of fewer bits says little: the vectors must be nearly equal.
FEW = 32

# The weight of a pair is at most half of all bits plus half of the differing ones, which bounds the differing bits of
# a close pair.
_MOST_BITS = int(CROP_SHARE * BITS / (2 - CROP_SHARE))
# Every third bit makes a part, since neighbouring bits are often equal. In one of the parts, a close pair differs in up
# to `_ERRORS` bits.
_PARTS = 3
_ERRORS = _MOST_BITS // _PARTS
# 49 steps of a shift register of seven bits. Of all 18 such registers that have the longest period, and of all starts,
# these give the masks under which the fewest fingerprints are equal: each has at least 18 bits.
_SEQUENCE = 0x1819470F8B663
# Spreads a key over the highest bits (Knuth: The Art of Computer Programming, volume 3, 6.4).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
# Up to so many new fingerprints are compared with all others: that takes less time than the masks do.
_FEW_NEW = 5_000
# Pairs compared at a time: what they take fits into a processor's cache. The close ones of so many times are given.
_COMPARED = 65_536
_TIMES = 64

Numbers = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int32]
# (2, N): the first and the last 64 of 128 bits each.
Halves = npt.NDArray[np.uint64]


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


def near_duplicates(differing: Numbers, weights: Numbers, cosine: Floats) -> Flags:
    """Whether pairs of images are near-duplicates.

    Args:
        differing: bits in which the fingerprints differ.
        weights: of the pairs, see `weight`.
        cosine: of the joint vectors.
    """
    copy = (differing <= COPY_SHARE * weights) & (cosine >= np.where(weights < FEW, CROP_COSINE, COPY_COSINE))
    crop = (differing <= CROP_SHARE * weights) & (weights >= CROP_LEAST) & (cosine >= CROP_COSINE)
    return np.asarray(copy | crop)


def halves(parts: Iterable[bytes | bytearray]) -> Halves:
    """(2, N) of 16 N bytes."""
    return np.frombuffer(b"".join(parts), ">u8").astype(np.uint64).reshape(-1, 2).T.copy()


_NO_MASKS = halves([])


class Pairs(NamedTuple):
    """Pairs (P,) of indices, in how many bits their fingerprints differ, and what these weigh (see `weight`)."""

    one: Indices
    other: Indices
    differing: Numbers
    weights: Numbers

    def those(self, wanted: Flags | slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(*(each[wanted] for each in self))


class Fingerprints:
    """Fingerprints of images, to be compared.

    Args:
        images: (N,) the indices of the images.
        hashes: (2, N).
    """

    def __init__(self, images: Indices, hashes: Halves) -> None:
        self._images, self._hashes = images, hashes

    def close_pairs(self, new: Flags, groups: Callable[[Indices], Indices]) -> Iterator[Pairs]:
        """The close pairs of images of which one is new, without those that are in one group.

        Args:
            new: by index of an image.
            groups: gives the groups of images, each by a number. It is asked again and again: pairs whose groups are
                joined meanwhile are left out.
        """
        self._sort(new, groups)
        if self._new_count <= _FEW_NEW:
            yield from self._apart(self._every_pair(), groups)
            return
        yield from self._apart(self._equal_pairs(), groups)
        masks = _masks()
        for number in range(masks.shape[1]):
            # The first masks find most pairs of the groups, which are then no longer compared.
            if number.bit_count() <= 1:
                self._sort(new, groups)
            yield from self._apart(self._pairs_under(masks[:, number]), groups, masks[:, :number])

    def _sort(self, new: Flags, groups: Callable[[Indices], Indices]) -> None:
        """Bring the new ones to the front, and those of a group together."""
        labels, old = groups(self._images), ~new[self._images]
        order = np.argsort(labels + old * np.int64(1 << 32))
        self._images, self._hashes, self._labels = self._images[order], np.take(self._hashes, order, 1), labels[order]
        self._new_count = len(old) - int(np.count_nonzero(old))

    def _apart(
        self, parts: Iterator[Pairs], groups: Callable[[Indices], Indices], earlier: Halves = _NO_MASKS
    ) -> Iterator[Pairs]:
        """Pairs of images from pairs of places, without those of one group and those that an earlier mask gave."""
        for some in iter(lambda: list(islice(parts, _TIMES)), []):
            pairs = Pairs(*map(np.concatenate, zip(*some, strict=True)))
            one, other = self._images[pairs.one], self._images[pairs.other]
            first, last = np.take(self._hashes, pairs.one, 1) ^ np.take(self._hashes, pairs.other, 1)
            apart = groups(one) != groups(other)
            for mask in earlier.T:
                apart &= ((first & mask[0]) | (last & mask[1])) != 0
            yield pairs._replace(one=one, other=other).those(apart)

    def _every_pair(self) -> Iterator[Pairs]:
        """The places of close pairs: all of a new one and any after it."""
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
        """The places of each new one and of the last that has the same fingerprint.

        Thousands of copies become a group by these, so that millions of their pairs need not be compared.
        """
        order = np.lexsort(self._hashes)
        hashes = np.take(self._hashes, order, 1)
        lasts = order[_ends((hashes[:, 1:] != hashes[:, :-1]).any(axis=0))]
        copies = (order != lasts) & (order < self._new_count)
        yield _close(self._hashes, order[copies], lasts[copies])

    def _pairs_under(self, mask: Halves) -> Iterator[Pairs]:
        """The places of close pairs: those of a new one and any after it that are equal under a mask."""
        count = len(self._images)
        # A mask has every third bit at most. 64 is no multiple of three, so its halves have no bit in common.
        keys = (self._hashes[0] & mask[0]) | (self._hashes[1] & mask[1])
        # Numbers of a key's highest bits with the place below are sorted several times as fast as places by key. Keys
        # that differ in the lost bits alone cost a comparison.
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
        # Each new one is compared with those between the end of its group and the end of those with an equal key.
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

    In some part they differ at up to six places. The masks of a part are the words of a linear code of dimension seven.
    That a word is clear at six places are six linear equations of seven unknowns, so one besides zero solves them.
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
    """Those of the pairs of hashes that are close."""
    first, second = np.take(hashes, one, 1), np.take(hashes, other, 1)
    differing, *ones = (np.bitwise_count(each).sum(axis=0, dtype=np.int16) for each in (first ^ second, first, second))
    weights = weight(ones[0], ones[1], differing)
    return Pairs(one, other, differing, weights).those(near_duplicates(differing, weights, np.ones(1, np.float32)))


def _ends(changes: Flags) -> Indices:
    """(N,) of each of N items in a row, the last of its run.

    Args:
        changes: (N - 1,) whether a run ends before the next item.
    """
    lasts = np.flatnonzero(np.append(changes, True)).astype(np.int32)
    return np.repeat(lasts, np.diff(lasts, prepend=-1))
