"""The live generation of one index into another, without encoding an image again.

Copies points as they are, a batch at a time, under the same generation's name. The next run resumes one that was
stopped: it does not send what the target already has with the same payload. The target's alias moves when the count is
exact; until then searches read the previous generation.
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
# A server applies several batches side by side; the embedded engine holds the interpreter's lock throughout.
_UPLOADS = 4


@dataclass
class MoveReport:
    """The outcome of a move.

    Attributes:
        source: the URL the images came from.
        target: the URL they are in now.
        generation: the target's live one.
        moved: images that were sent.
        unchanged: images that were there already.
        seconds: by stage; ``total`` is by the clock.
    """

    source: str
    target: str
    generation: str
    moved: int
    unchanged: int
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "seconds": {stage: round(s, 3) for stage, s in self.seconds.items()}}

    def lines(self) -> list[str]:
        """As a person reads it."""
        return [
            f"moved {self.moved:,}, unchanged {self.unchanged:,}, from {self.source} to {self.target}",
            f"took {duration(self.seconds['total'])}",
            f"generation {self.generation}",
        ]


def move(source: VectorStore, target: VectorStore, wait: bool = True) -> MoveReport:
    """Copy the live generation of one store to another and make it live there.

    Raises:
        InvalidRequest: source and target are the same.
        IndexUnavailable: the source has no live generation, or one of the two cannot be used, as when another run
            writes the target and `wait` is False.
    """
    if source.url == target.url:
        raise InvalidRequest(f"{source.url} is both source and target", "name two indexes")
    start = time.perf_counter()
    _live(source)  # fails before the target is touched, and before the wait
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
        raise IndexUnavailable(f"nothing is indexed in {source.url}", "name an index that contains images")
    return name


def _same(origin: Collection, target: VectorStore) -> bool:
    with contextlib.closing(target.open(origin.info.name)) as there:
        return there.info == origin.info and there.count() == origin.count()


def _move(origin: Collection, source: VectorStore, target: VectorStore) -> MoveReport:
    collection, resumed = _begun(origin.info, target, origin.count())
    try:
        start = time.perf_counter()
        moved, unchanged = _fill(origin, collection, resumed, _UPLOADS if target.url.startswith("http") else 1)
        sent = time.perf_counter()
        collection.optimize()
        seconds = {"send": sent - start, "optimise": time.perf_counter() - sent}
        expected, found = origin.count(), collection.count()
    except BaseException:
        collection.close()  # what was sent stays for the next run
        raise
    if found != expected:
        target.discard(collection)
        raise IndexUnavailable(
            f"{target.url} holds {found:,} images where {expected:,} were sent",
            "run the command again; the live generation there is unchanged",
        )
    target.publish(collection)
    return MoveReport(source.url, target.url, collection.info.name, moved, unchanged, seconds)


def _begun(info: CollectionInfo, target: VectorStore, images: int) -> tuple[Collection, bool]:
    """The generation of the target to fill, and whether an earlier run has created it."""
    taken = {there.name for there in target.generations()}
    if info in target.unfinished() and info.name not in taken:
        return target.resume(info.name), True
    name = info.name
    while name in taken:  # it was live there before; the new one gets another name
        name += "-again"
    return target.create(replace(info, name=name), images=images), False


def _fill(origin: Collection, target: Collection, resumed: bool, uploads: int) -> tuple[int, int]:
    """Send the points that the target lacks; return the numbers of sent and of present points."""
    total, moved, unchanged = origin.count(), 0, 0
    stale = {record.id for record in target.scroll()} if resumed else set()

    def send(records: list[Record]) -> tuple[list[Record], int]:
        there = {r.id: r.payload for r in target.retrieve([r.id for r in records])} if resumed else {}
        wanted = [r for r in records if there.get(r.id) != r.payload]
        rows = origin.vectors([r.id for r in wanted])
        points = [Point(r.id, rows[r.id].joint, rows[r.id].head, r.payload) for r in wanted if r.id in rows]
        if points:
            target.upsert(points)
        return records, len(wanted)

    with ThreadPoolExecutor(uploads, "send") as pool, Progress("moving", total, "images") as progress:
        for records, sent in bounded_map(send, batched(origin.scroll(_BATCH), _BATCH), pool, uploads + 1):
            moved += sent
            unchanged += len(records) - sent
            stale.difference_update(record.id for record in records)
            progress.advance(len(records))
    for gone in batched(sorted(stale), _BATCH):
        target.delete(gone)
    return moved, unchanged
