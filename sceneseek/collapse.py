"""Near-duplicates in an answer: of each group the best image stands, for itself and the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sceneseek.payload import similar_images
from sceneseek.ranking import Ranked
from sceneseek.store import Collection, Record


def leading(
    collection: Collection, blocks: Iterable[list[Ranked]], wanted: int, keep_duplicates: bool = False, like: str = ""
) -> list[tuple[Ranked, Record]]:
    """The first so many of these images, in their order, without those of a group that comes earlier.

    Args:
        collection: where their payloads are.
        blocks: the images, best first; no further block is asked for than it takes.
        wanted: how many at most; fewer where the images are fewer or belong to fewer groups.
        keep_duplicates: whether images of a group that comes earlier count like others.
        like: the id of an image that is left out, and so are its near-duplicates unless they are kept.
    """
    chosen: list[tuple[Ranked, Record]] = []
    groups = {group for record in collection.retrieve([like]) if (group := _group(record))} if like else set()
    # As many payloads as results are missing are read at a time: where there are no duplicates, no more than results.
    for batch in _missing(blocks, wanted, chosen):
        ranked = {image.id: image for image in batch if image.id != like}
        for record in collection.retrieve(list(ranked)):
            group = _group(record)
            if keep_duplicates or group is None or group not in groups:
                chosen.append((ranked[record.id], record))
            if group is not None:
                groups.add(group)
    return chosen[:wanted]


def _group(record: Record) -> str | None:
    return similar_images(record.payload)[0]


def _missing(
    blocks: Iterable[list[Ranked]], wanted: int, chosen: list[tuple[Ranked, Record]]
) -> Iterator[list[Ranked]]:
    for block in blocks:
        start = 0
        while start < len(block) and len(chosen) < wanted:
            end = start + wanted - len(chosen)
            yield block[start:end]
            start = end
        if len(chosen) >= wanted:
            return
