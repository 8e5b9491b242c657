"""Writes and removes the points of a generation, and adds each outcome to the report once it is durable.

The first change creates the generation, so a run without changes copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sceneseek.errors import UnfitGeneration
from sceneseek.payload import folders, path_fields, point_id, user_metadata
from sceneseek.store import Collection, CollectionInfo, Point, Record, StoredVectors
from sceneseek.text_tokens import tokens
from sceneseek.vectors import Vectors
from sceneseek_indexer.duplicates import FIELD as DUPLICATES
from sceneseek_indexer.inventory import Inventory, Known, Place, StoredMapping, place
from sceneseek_indexer.load import Loaded
from sceneseek_indexer.pipeline import batched
from sceneseek_indexer.report import IndexReport, ReportFile, file_line
from sceneseek_indexer.sidecar import Sidecar
from sceneseek_indexer.sync_plan import Plan, Reuse
from sceneseek_indexer.walk import ImageFile, Skipped

_BATCH = 256

_Stored = tuple[Record, StoredVectors]
Metadata = StoredMapping[Place, dict[str, Any]]
"""The user's metadata of images, by their places."""


class Writing:
    """Writes the changes of one run to a generation.

    Args:
        info: the generation's record.
        begin: returns the generation; its first call creates it.
        inventory: the files of the run, and the images of the generation at its start.
        report, report_file: updated with the outcome of each image.
        started: the start of the run.
        metadata: the metadata of the run; None keeps that of the index.
        earlier: the metadata of the live generation, if the new one does not start as its copy.
    """

    def __init__(
        self,
        info: CollectionInfo,
        begin: Callable[[], Collection],
        inventory: Inventory,
        report: IndexReport,
        report_file: ReportFile,
        started: datetime,
        metadata: Sidecar | None = None,
        earlier: Metadata | None = None,
    ) -> None:
        self._begin, self._report, self._report_file = begin, report, report_file
        self._labels = [source.label for source in info.sources]
        self._inventory, self._expected = inventory, len(inventory.images())
        self._started = started.isoformat(timespec="microseconds")
        self._metadata, self._earlier = metadata, inventory.mapping() if earlier is None else earlier

    def identity(self, file: ImageFile | Skipped) -> str:
        """Return the point id of a file."""
        return point_id(file.relative, self._labels[file.source])

    def reuse(self, plan: Plan) -> None:
        """Write the images that reuse vectors, and remove the old points of renamed images.

        The old point is removed before the new point is written: if the run is killed in between, the next run encodes
        the image again.
        """
        # If two files have swapped places, each overwrites the other's vectors, so read them first.
        saved: StoredMapping[str, _Stored] = self._inventory.mapping()
        for overwritten in batched(plan.overwritten, _BATCH):
            for identity, stored in self._stored([image.id for image in overwritten]).items():
                saved[identity] = stored
        for staying in batched((t for t in plan.reused if t.outcome != "renamed"), _BATCH):
            self._write_over(staying, saved)
        for renamed in batched((t for t in plan.reused if t.outcome == "renamed"), _BATCH):
            self._write_over(renamed, saved)

    def remove(self, images: Iterable[Known]) -> None:
        """Remove images whose files are deleted."""
        for batch in batched(images, _BATCH):
            # Reported first: if the run is killed in between, the next run removes and reports them again.
            self._report_file.write([file_line("removed", image) for image in batch])
            self._delete([image.id for image in batch])
            self._report.removed += len(batch)

    def forget_content(self, entry: Skipped) -> None:
        """Remove the image of a file whose new content was skipped."""
        if self._inventory.has_image(place(entry)):
            self._delete([self.identity(entry)])

    def add(self, images: Sequence[Loaded], vectors: Vectors) -> None:
        """Write encoded images."""
        points = []
        before = self._known_metadata([image.file for image in images])
        for image, joint, head in zip(images, vectors.joint, vectors.head, strict=True):
            facts: dict[str, Any] = {
                "sha256": image.sha256,
                "width": image.width,
                "height": image.height,
                "format": image.format,
            }
            facts |= {"dhash": image.dhash, **self._text(image.text)}
            facts |= self._metadata_fields(image.file, before.get(self.identity(image.file)), image.exif)
            points.append(self._point(image.file, joint, head, facts))
        self._upsert((image.file for image in images), points)
        self._report.indexed += len(images)
        self._report_file.write(
            [file_line("indexed", i.file, point.id, i.sha256) for i, point in zip(images, points, strict=True)]
        )

    def _text(self, text: str | None) -> dict[str, Any]:
        """The payload field `ocr` of a recognized text; empty if text is not read."""
        if text is None:
            return {}
        self._report.texts += bool(text)
        return {"ocr": {"text": text, "tokens": tokens(text)}}

    def describe(self, images: Iterable[Known]) -> None:
        """Write the metadata of unchanged images if it differs from the index."""
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

    def _known_metadata(self, files: Iterable[ImageFile]) -> dict[str, dict[str, Any]]:
        existing = [self.identity(file) for file in files if self._inventory.has_image(place(file))]
        return {record.id: user_metadata(record.payload) for record in self._collection.retrieve(existing)}

    def _metadata_fields(self, file: ImageFile, before: dict[str, Any] | None, exif: dict[str, Any]) -> dict[str, Any]:
        """The payload fields `metadata` and `exif` of a new point; `before` is the image's present user metadata."""
        if self._metadata is None:
            known = before or self._earlier.get(place(file)) or {}
        else:
            known = self._metadata.metadata(file.relative)
            self._report.described += bool(known)
        return {"metadata": {**exif, **known}, "exif": exif}

    def written(self, plan: Plan) -> Iterator[str]:
        """Yield ids that include all points written by this run and by the interrupted run that it resumes."""
        yield from (image.id for image in self._inventory.fresh())
        yield from (self.identity(file) for file in plan.encode)
        yield from (self.identity(reuse.file) for reuse in plan.reused)

    def check(self) -> None:
        """Raise `UnfitGeneration` if the generation does not contain the expected number of points."""
        expected, found = self._expected, self._collection.count()
        if found != expected:
            raise UnfitGeneration(
                f"the new generation contains {found:,} images, but {expected:,} were indexed",
                "index the folder again; the live generation is unchanged",
            )

    def _write_over(self, reused: Sequence[Reuse], saved: StoredMapping[str, _Stored]) -> None:
        stored = self._stored([t.origin.id for t in reused])
        # A copy keeps the metadata of the image that it replaces, like any new content.
        replaced = self._known_metadata([t.file for t in reused if t.outcome == "copied"])
        points = []
        for reuse in reused:
            record, vectors = saved.get(reuse.origin.id) or stored[reuse.origin.id]
            facts = {k: v for k, v in record.payload.items() if k not in ("path_bytes", DUPLICATES)}
            copied = reuse.outcome == "copied"
            before = replaced.get(self.identity(reuse.file)) if copied else user_metadata(record.payload)
            facts |= self._metadata_fields(reuse.file, before, facts.get("exif", {}))
            points.append(self._point(reuse.file, vectors.joint, vectors.head, facts))
        moved = [reuse.origin.id for reuse in reused if reuse.outcome == "renamed"]
        if moved:
            self._delete(moved)
        self._upsert((reuse.file for reuse in reused), points)
        lines = []
        for reuse, point in zip(reused, points, strict=True):
            self._report.add(reuse.outcome)
            origin = reuse.origin if reuse.outcome != "touched" else None
            lines.append(file_line(reuse.outcome, reuse.file, point.id, reuse.origin.sha256, origin))
        self._report_file.write(lines)

    def _stored(self, ids: Sequence[str]) -> dict[str, _Stored]:
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
            "ctime_ns": file.ctime_ns,
            "indexed_at": self._started,
        }
        return Point(self.identity(file), joint, head, payload)

    def _upsert(self, files: Iterable[ImageFile], points: Sequence[Point]) -> None:
        self._collection.upsert(points)
        self._expected += sum(not self._inventory.has_image(place(file)) for file in files)

    def _delete(self, ids: Sequence[str]) -> None:
        """Remove images of the index."""
        self._collection.delete(ids)
        self._expected -= len(ids)
