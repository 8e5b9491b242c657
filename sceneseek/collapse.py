"""Near-duplicates in an answer: of each group the best image stands, for itself and the others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from sceneseek.payload import similar_images
from sceneseek.ranking import Ranked
from sceneseek.store import Collection, Record

# Payloads that are read beyond those of the results, so that near-duplicates among the first seldom cost another call.
_SPARE = 5
# Each further read is so many times as long: a block of mostly near-duplicates is read in three.
_LONGER = 4


def leading(
    collection: Collection,
    blocks: Iterable[list[Ranked]],
    wanted: int,
    keep_duplicates: bool = False,
    like: str = "",
    deadline: float | None = None,
) -> list[tuple[Ranked, Record]]:
    """The first so many of these images, in their order, without those of a group that comes earlier.

    Args:
        collection: where their payloads are.
        blocks: the images, best first; no further block is asked for than it takes.
        wanted: how many at most; fewer where the images are fewer or belong to fewer groups.
        keep_duplicates: whether images of a group that comes earlier count like others.
        like: the id of an image that is left out, and so are its near-duplicates unless they are kept.
        deadline: of each read, see `Collection.retrieve`.
    """
    chosen: list[tuple[Ranked, Record]] = []
    groups: set[str] = set()
    size = wanted if keep_duplicates else wanted + min(wanted, _SPARE)
    unread = [like] if like else []
    for block in blocks:
        ranked = {image.id: image for image in block if image.id != like}
        ids = iter([*unread, *ranked])
        unread = []
        while len(chosen) < wanted and (batch := list(itertools.islice(ids, size))):
            for record in collection.retrieve(batch, deadline):
                group = similar_images(record.payload)[0]
                if record.id != like and (keep_duplicates or group is None or group not in groups):
                    chosen.append((ranked[record.id], record))
                if group is not None:
                    groups.add(group)
            size *= _LONGER
        if len(chosen) >= wanted:
            break
    return chosen[:wanted]
