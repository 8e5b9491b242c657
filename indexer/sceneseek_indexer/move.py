"""Copies the live generation of one index to another, without encoding again.

Points are copied unchanged, in batches, to a generation of the same name. An interrupted copy is resumed by the next
run, which does not send points that the target already has with the same payload. The target's alias is switched once
the counts are equal; until then, searches read the previous generation.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from sceneseek.errors import IndexUnavailable, InvalidRequest
from sceneseek.progress import Progress, duration
from sceneseek.store import Collection, CollectionInfo, Point, Record, VectorStore
from sceneseek_indexer.pipeline import batched, bounded_map

_BATCH = 256
# A server applies several batches in parallel; the embedded engine never releases the GIL.
_UPLOADS = 4


@dataclass
class MoveReport:
    """The outcome of a move.

    Attributes:
        source: URL of the source index.
        target: URL of the target index.
        generation: the live generation of the target.
        moved: number of images sent.
        unchanged: number of images that the target already had.
        seconds: by stage; ``total`` is wall-clock time.
    """

    source: str
    target: str
    generation: str
    moved: int
    unchanged: int
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**asdict(self), "seconds": {stage: round(s, 3) for stage, s in self.seconds.items()}}

    def lines(self) -> list[str]:
        """Return lines for the terminal."""
        return [
            f"moved {self.moved:,}, unchanged {self.unchanged:,}, from {self.source} to {self.target}",
            f"took {duration(self.seconds['total'])}",
            f"generation {self.generation}",
        ]


def move(source: VectorStore, target: VectorStore, wait: bool = True) -> MoveReport:
    """Copy the live generation of one store to another and make it live there.

    Raises:
        InvalidRequest: source and target are the same.
        IndexUnavailable: the source has no live generation, or one of the stores cannot be used, such as when another
            run writes the target and `wait` is False.
    """
    if source.url == target.url:
        raise InvalidRequest(f"{source.url} is both source and target", "name two indexes")
    start = time.perf_counter()
    _live(source)  # fails before the target is changed, and before waiting
    with target.writing(wait), contextlib.closing(source.glance(name := _live(source))) as origin:
        if target.live() == name and _same(origin, target):
            report = MoveReport(source.url, target.url, name, 0, origin.count(), {})
        else:
            report = _move(origin, source, target)
    report.seconds["total"] = time.perf_counter() - start
    return report


def _live(source: VectorStore) -> str:
    name = source.live()
    if name is None:
        raise IndexUnavailable(f"nothing is indexed in {source.url}", "choose an index that contains images")
    return name


def _same(origin: Collection, target: VectorStore) -> bool:
    with contextlib.closing(target.open(origin.info.name)) as copy:
        return copy.info == origin.info and copy.count() == origin.count()


def _move(origin: Collection, source: VectorStore, target: VectorStore) -> MoveReport:
    collection, resumed = _resume_or_create(origin.info, target, origin.count())
    try:
        start = time.perf_counter()
        moved, unchanged = _fill(origin, collection, resumed, _UPLOADS if target.url.startswith("http") else 1)
        sent = time.perf_counter()
        collection.optimize()
        seconds = {"send": sent - start, "optimise": time.perf_counter() - sent}
        expected, found = origin.count(), collection.count()
    except BaseException:
        collection.close()  # the next run resumes it
        raise
    if found != expected:
        target.discard(collection)
        raise IndexUnavailable(
            f"{target.url} contains {found:,} images, but {expected:,} were sent",
            "run the command again; the live generation of the target is unchanged",
        )
    target.publish(collection)
    return MoveReport(source.url, target.url, collection.info.name, moved, unchanged, seconds)


def _resume_or_create(info: CollectionInfo, target: VectorStore, images: int) -> tuple[Collection, bool]:
    """The target's generation to fill, and whether an earlier run created it."""
    taken = {generation.name for generation in target.generations()}
    if info in target.unfinished() and info.name not in taken:
        return target.resume(info.name), True
    name = info.name
    while name in taken:  # it was live in the target before; the new one needs another name
        name += "-again"
    return target.create(replace(info, name=name), images=images), False


def _fill(origin: Collection, target: Collection, resumed: bool, uploads: int) -> tuple[int, int]:
    """Send missing points to the target; return the numbers of sent and unchanged points."""
    total, moved, unchanged = origin.count(), 0, 0
    stale = {record.id for record in target.scroll()} if resumed else set()

    def send(records: list[Record]) -> tuple[list[Record], int]:
        existing = {r.id: r.payload for r in target.retrieve([r.id for r in records])} if resumed else {}
        missing = [r for r in records if existing.get(r.id) != r.payload]
        rows = origin.vectors([r.id for r in missing])
        points = [Point(r.id, rows[r.id].joint, rows[r.id].head, r.payload) for r in missing if r.id in rows]
        if points:
            target.upsert(points)
        return records, len(missing)

    with ThreadPoolExecutor(uploads, "send") as pool, Progress("moving", total, "images") as progress:
        for records, sent in bounded_map(send, batched(origin.scroll(_BATCH), _BATCH), pool, uploads + 1):
            moved += sent
            unchanged += len(records) - sent
            stale.difference_update(record.id for record in records)
            progress.advance(len(records))
    for batch in batched(sorted(stale), _BATCH):
        target.delete(batch)
    return moved, unchanged
