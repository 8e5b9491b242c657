"""All changes of a generation: points in, points out, each reported to the report once it is durable.

The generation is begun with the first change, so a run that has nothing to write creates and copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sceneseek.errors import UnfitGeneration
from sceneseek.payload import folders, path_fields, point_id, user_metadata
from sceneseek.store import Collection, CollectionInfo, Point, Record, StoredVectors
from sceneseek.vectors import Vectors
from sceneseek_indexer.duplicates import FIELD as DUPLICATES
from sceneseek_indexer.load import Loaded
from sceneseek_indexer.pipeline import batched
from sceneseek_indexer.report import IndexReport, ReportFile, file_line
from sceneseek_indexer.sidecar import Sidecar
from sceneseek_indexer.sync_plan import Known, Place, Plan, Reuse, place
from sceneseek_indexer.walk import ImageFile, Skipped

_BATCH = 256

_Stored = dict[str, tuple[Record, StoredVectors]]


class Writing:
    """One run's changes of a generation.

    Args:
        info: of the generation.
        begin: gives the generation, and begins it when it is called for the first time.
        known: what it holds at the beginning.
        report: is counted up.
        report_file: is written to.
        started: when the run began.
        metadata: what is known of the images of the folders that are read; None leaves what the index knows.
        earlier: the metadata of the live generation's images, if this one does not begin as its copy.

    Attributes:
        written: ids of the points that were written, those that an interrupted run wrote included.
    """

    def __init__(
        self,
        info: CollectionInfo,
        begin: Callable[[], Collection],
        known: Mapping[Place, Known],
        report: IndexReport,
        report_file: ReportFile,
        started: datetime,
        metadata: Sidecar | None = None,
        earlier: Mapping[Place, dict[str, Any]] | None = None,
    ) -> None:
        self._begin, self._report, self._report_file = begin, report, report_file
        self._labels = [source.label for source in info.sources]
        self._ids = {image.id for image in known.values()}
        self._started = started.isoformat(timespec="microseconds")
        self._metadata, self._earlier = metadata, earlier or {}
        self.written = {image.id for image in known.values() if image.fresh}

    def identity(self, file: ImageFile | Skipped) -> str:
        """The id of a file's point."""
        return point_id(file.relative, self._labels[file.source])

    def reuse(self, plan: Plan) -> None:
        """Write the images whose vectors the generation holds, and remove those that were renamed.

        Killed at any moment, what is left leads the next run to the same end: a renamed image's old point
        goes before its new one comes, so at worst its vector is computed again.
        """
        # Where two files have changed places, each one's vectors are overwritten by the other's: read them first.
        saved = self._stored([t.origin.id for t in plan.reused if t.origin.id in plan.overwritten])
        for kept in batched((t for t in plan.reused if t.outcome != "renamed"), _BATCH):
            self._write_over(kept, saved)
        for renamed in batched((t for t in plan.reused if t.outcome == "renamed"), _BATCH):
            self._write_over(renamed, saved)

    def remove(self, images: Iterable[Known]) -> None:
        """Remove images whose files are gone."""
        for batch in batched(images, _BATCH):
            # Reported first: if the run is killed in between, the next one finds them gone again and reports it again.
            self._report_file.write([file_line("removed", image) for image in batch])
            self._delete([image.id for image in batch])
            self._report.removed += len(batch)

    def forget_content(self, entry: Skipped) -> None:
        """Remove what was indexed at a place whose file now holds something that cannot be used."""
        if (identity := self.identity(entry)) in self._ids:
            self._delete([identity])

    def add(self, images: Sequence[Loaded], vectors: Vectors) -> None:
        """Write images that were encoded."""
        points = []
        before = self._known_metadata([self.identity(image.file) for image in images])
        for image, joint, head in zip(images, vectors.joint, vectors.head, strict=True):
            facts = {"sha256": image.sha256, "width": image.width, "height": image.height, "format": image.format}
            known = self._described(image.file, before.get(self.identity(image.file)), image.exif)
            points.append(self._point(image.file, joint, head, {**facts, "dhash": image.dhash, **known}))
        self._upsert(points)
        self._report.indexed += len(images)
        self._report_file.write(
            [file_line("indexed", i.file, point.id, i.sha256) for i, point in zip(images, points, strict=True)]
        )

    def describe(self, images: Iterable[Known]) -> None:
        """Write the metadata of images that stay as they are, where it is another than the index knows."""
        if self._metadata is None:
            return
        for batch in batched((image for image in images if image.outdated), _BATCH):
            stored = {record.id: record.payload for record in self._collection.retrieve([image.id for image in batch])}
            self._collection.set_payload(
                {
                    image.id: {
                        "metadata": {**stored[image.id].get("exif", {}), **self._metadata.metadata(image.relative)}
                    }
                    for image in batch
                }
            )
            self._report.described += len(batch)

    @property
    def _collection(self) -> Collection:
        return self._begin()

    def _known_metadata(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        there = [identity for identity in ids if identity in self._ids]
        return {record.id: user_metadata(record.payload) for record in self._collection.retrieve(there)}

    def _described(self, file: ImageFile, before: dict[str, Any] | None, exif: dict[str, Any]) -> dict[str, Any]:
        """The payload's `metadata` and `exif` of an image that is written; `before` is the user's that it had."""
        if self._metadata is None:
            known = before or self._earlier.get(place(file), {})
        else:
            known = self._metadata.metadata(file.relative)
            self._report.described += bool(known)
        return {"metadata": {**exif, **known}, "exif": exif}

    def foreseen(self, plan: Plan) -> set[str]:
        """The ids of the images that the generation holds and, beside them, of those that it may hold in the end."""
        coming = (*plan.encode, *(reuse.file for reuse in plan.reused))
        return self._ids | {self.identity(file) for file in coming}

    def check(self) -> None:
        """Raise `UnfitGeneration` if the generation does not hold what it should."""
        expected, found = len(self._ids), self._collection.count()
        if found != expected:
            raise UnfitGeneration(
                f"the new generation holds {found:,} images where {expected:,} were indexed",
                "index the folder again; the live generation was left as it is",
            )

    def _write_over(self, reused: Sequence[Reuse], saved: _Stored) -> None:
        stored = self._stored([t.origin.id for t in reused if t.origin.id not in saved]) | saved
        points = []
        for reuse in reused:
            record, vectors = stored[reuse.origin.id]
            facts = {k: v for k, v in record.payload.items() if k not in ("path_bytes", DUPLICATES)}
            before = None if reuse.outcome == "copied" else user_metadata(record.payload)
            facts |= self._described(reuse.file, before, facts.get("exif", {}))
            points.append(self._point(reuse.file, vectors.joint, vectors.head, facts))
        moved = [reuse.origin.id for reuse in reused if reuse.outcome == "renamed"]
        if moved:
            self._delete(moved)
        self._upsert(points)
        lines = []
        for reuse, point in zip(reused, points, strict=True):
            self._report.add(reuse.outcome)
            origin = reuse.origin if reuse.outcome != "touched" else None
            lines.append(file_line(reuse.outcome, reuse.file, point.id, reuse.origin.sha256, origin))
        self._report_file.write(lines)

    def _stored(self, ids: Sequence[str]) -> _Stored:
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        vectors = self._collection.vectors(wanted)
        return {record.id: (record, vectors[record.id]) for record in self._collection.retrieve(wanted)}

    def _point(self, file: ImageFile, joint: Any, head: Any, facts: dict[str, Any]) -> Point:
        payload = {
            **facts,
            **path_fields(file.relative),
            "folders": folders(file.relative),
            "source": file.source,
            "bytes": file.bytes,
            "mtime_ns": file.mtime_ns,
            "indexed_at": self._started,
        }
        return Point(self.identity(file), joint, head, payload)

    def _upsert(self, points: Sequence[Point]) -> None:
        self._collection.upsert(points)
        self._ids.update(point.id for point in points)
        self.written.update(point.id for point in points)

    def _delete(self, ids: Sequence[str]) -> None:
        self._collection.delete(ids)
        self._ids.difference_update(ids)
        self.written.difference_update(ids)
