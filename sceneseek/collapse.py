"""Near-duplicates in an answer: of each group the best image stands, for itself and the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sceneseek.payload import similar_images
from sceneseek.store import Collection, Record


def leading(collection: Collection, ids: Sequence[str], k: int, keep_duplicates: bool = False) -> list[Record]:
    """The first k of these images, in their order, without those of a group that comes earlier.

    Args:
        collection: where their payloads are.
        ids: best first.
        k: how many at most; fewer where the images are fewer or belong to fewer groups.
        keep_duplicates: whether images of a group that comes earlier count like others.
    """
    chosen: list[Record] = []
    groups: set[str] = set()
    # As many payloads as results are missing are read at a time: where there are no duplicates, k and no more.
    for batch in _missing(ids, k, chosen):
        for record in collection.retrieve(batch):
            group, _ = similar_images(record.payload)
            if keep_duplicates or group is None or group not in groups:
                chosen.append(record)
            if group is not None:
                groups.add(group)
    return chosen


def _missing(ids: Sequence[str], k: int, chosen: list[Record]) -> Iterator[Sequence[str]]:
    start = 0
    while start < len(ids) and len(chosen) < k:
        end = start + k - len(chosen)
        yield ids[start:end]
        start = end
