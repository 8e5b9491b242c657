"""Near-duplicates: finds the images of a collection that are copies of the same picture, and marks them.

Two images are near-duplicates if both their difference hashes and their joint vectors are close, see
`fingerprints.near_duplicates`. A group is a connected component of near-duplicates. The payload of each image of a
group contains a mark

    duplicates  {"group": id, "others": n}

with the smallest id of the group and the number of its other images. Images without near-duplicates have no mark.

Only vectors of images whose fingerprints are close, and that are not yet in the same group, are read. Everything else
takes about 100 bytes per image.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

import numpy as np

from sceneseek.store import Collection
from sceneseek.vectors import Floats
from sceneseek_indexer.fingerprints import (
    BITS,
    Fingerprints,
    Flags,
    Halves,
    Indices,
    Numbers,
    Pairs,
    halves,
    near_duplicates,
    same_colour,
)

FIELD = "duplicates"

# Pairs whose vectors are compared at a time, and images that are written at a time.
_PAIRS = 8_192
_BATCH = 1024


def mark_duplicates(collection: Collection, new_ids: Iterable[str]) -> int:
    """Compare new images with all others, and update the marks.

    A group that has lost images since the last call is detected by its count, and compared again.

    Args:
        collection: a generation that is not live yet.
        new_ids: ids of the images written since the last call.

    Returns:
        The number of copies: all images of groups, minus one per group.
    """
    images = _Images.of(collection)
    groups = _Groups(images.ids.shape[1])
    whole, first = images.whole_groups()
    groups.join(images.marked[whole], first[whole])
    # Half of an id is enough: a collision only causes an unnecessary comparison.
    new = np.isin(images.ids[0], halves(map(_bytes, new_ids))[0])
    new[images.marked[~whole]] = True
    _join_near(collection, images, groups, _blank_pairs(images.blank, new))
    for pairs in images.fingerprints.close_pairs(new, groups.of):
        _join_near(collection, images, groups, pairs)
    return _write(collection, images, groups)


class _Images(NamedTuple):
    """The images of a collection, by index.

    Attributes:
        ids: (2, N) point ids.
        fingerprints: of the images with a hash.
        blank: fingerprints of the images of one colour, by index.
        marked: (M,) indices of the images with a mark; their marks are `group_ids` (2, M) and `others` (M,).
    """

    ids: Halves
    fingerprints: Fingerprints
    blank: dict[int, str]
    marked: Indices
    group_ids: Halves
    others: Indices

    @classmethod
    def of(cls, collection: Collection) -> _Images:
        ids, hashes, group_ids = bytearray(), bytearray(), bytearray()
        hashed, marked, others = array("i"), array("i"), array("i")
        blank: dict[int, str] = {}
        for index, record in enumerate(collection.scroll()):
            ids += _bytes(record.id)
            mark, dhash = record.payload.get(FIELD), record.payload.get("dhash", "")
            if mark:
                marked.append(index)
                group_ids += _bytes(mark["group"])
                others.append(mark["others"])
            if dhash.startswith("#"):
                blank[index] = dhash
            elif dhash:
                hashed.append(index)
                hashes += _bytes(dhash)
        return cls(
            halves([ids]),
            Fingerprints(np.array(hashed, np.int32), halves([hashes])),
            blank,
            np.array(marked, np.int32),
            halves([group_ids]),
            np.array(others, np.int32),
        )

    def whole_groups(self) -> tuple[Flags, Indices]:
        """Whether the group of each marked image is still complete, and the first image of the group."""
        _, first, group, counts = np.unique(
            self.group_ids, axis=1, return_index=True, return_inverse=True, return_counts=True
        )
        lost = np.bincount(group[self.others + 1 != counts[group]], minlength=len(counts)) > 0
        return ~lost[group], self.marked[first[group]]

    def texts(self, indices: Numbers) -> list[str]:
        """The ids of images as text, as in the collection."""
        digits = self.ids[:, indices].T.astype(">u8").tobytes()
        return [str(UUID(bytes=digits[start : start + 16])) for start in range(0, len(digits), 16)]


def _bytes(text: str) -> bytes:
    """The 16 bytes of an id or a hash."""
    return bytes.fromhex(text.replace("-", ""))


class _Groups:
    """Union-find over the indices of images; the smallest index identifies a group."""

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count, dtype=np.int32)

    def of(self, images: Indices) -> Indices:
        """The groups of images."""
        found = self._parents[images]
        while not np.array_equal(above := self._parents[found], found):
            self._parents[images] = found = above
        return found

    def join(self, one: Indices, other: Indices) -> None:
        """Join the groups of each pair."""
        while len(one):
            groups = np.stack([self.of(one), self.of(other)])
            apart = groups[0] != groups[1]
            one, other, groups = one[apart], other[apart], groups[:, apart]
            # A group that is paired with several groups joins the smallest now, and the others in the next rounds.
            np.minimum.at(self._parents, groups.max(axis=0), groups.min(axis=0))


def _join_near(collection: Collection, images: _Images, groups: _Groups, pairs: Pairs) -> None:
    """Join the groups of pairs that are near-duplicates; vectors are read only if the groups differ."""
    for start in range(0, len(pairs.one), _PAIRS):
        part = pairs.select(slice(start, start + _PAIRS))
        part = part.select(groups.of(part.one) != groups.of(part.other))
        if len(part.one):
            near = part.select(near_duplicates(part.differing, part.weights, _cosines(collection, images, part)))
            groups.join(near.one, near.other)


def _cosines(collection: Collection, images: _Images, pairs: Pairs) -> Floats:
    """The cosine similarities of the joint vectors of pairs; each vector is read once."""
    needed, places = np.unique(np.concatenate([pairs.one, pairs.other]), return_inverse=True)
    ids = images.texts(needed)
    vectors = collection.vectors(ids)
    joints = np.stack([vectors[identity].joint for identity in ids])
    one, other = np.split(places, 2)
    return np.asarray(np.einsum("nd,nd->n", joints[one], joints[other]))


def _blank_pairs(blank: Mapping[int, str], new: Flags) -> Pairs:
    """Pairs of each new picture of one colour with one new and one old picture of each matching colour."""
    firsts: dict[tuple[str, bool], int] = {}
    for index, colour in blank.items():
        firsts.setdefault((colour, bool(new[index])), index)
    alike: dict[str, list[int]] = {}
    one, other = array("i"), array("i")
    for index, colour in blank.items():
        if new[index]:
            if colour not in alike:
                alike[colour] = [first for (another, _), first in firsts.items() if same_colour(another, colour)]
            one.extend([index] * len(alike[colour]))
            other.extend(alike[colour])
    return Pairs(np.array(one, np.int32), np.array(other, np.int32), np.zeros(len(one)), np.full(len(one), BITS))


def _write(collection: Collection, images: _Images, groups: _Groups) -> int:
    """Write the marks that have changed; return the number of copies."""
    count = images.ids.shape[1]
    labels = groups.of(np.arange(count, dtype=np.int32))
    others = np.bincount(labels, minlength=count)[labels].astype(np.int32) - 1
    members = np.flatnonzero(others)
    members = members[np.lexsort((images.ids[1, members], images.ids[0, members], labels[members]))]
    _, firsts, place = np.unique(labels[members], return_index=True, return_inverse=True)
    smallest = np.full(count, -1, np.int32)
    smallest[members] = members[firsts][place]

    changed = others > 0
    marked = images.marked
    same = (images.ids[:, smallest[marked]] == images.group_ids).all(axis=0) & (others[marked] == images.others)
    changed[marked] = ~(same & (others[marked] > 0))
    indices = np.flatnonzero(changed)
    for start in range(0, len(indices), _BATCH):
        batch = indices[start : start + _BATCH]
        ids, group_ids = images.texts(batch), images.texts(smallest[batch])
        collection.set_payload(
            {
                identity: {FIELD: {"group": group_id, "others": int(n)} if n else None}
                for identity, group_id, n in zip(ids, group_ids, others[batch], strict=True)
            }
        )
    return len(members) - len(firsts)
