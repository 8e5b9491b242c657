"""Folders to a live generation: list -> plan -> reuse, load, encode, write -> optimise -> check -> publish.

A run holds the store's lease and plans from the content of the live generation. Its first change creates a new
generation: a copy of the live one if the same image graph filled that, so that only changes are encoded, else an empty
one. The alias moves when the generation is complete and checked. If anything fails before that, the live generation
stays as it was. A run with nothing to write creates no generation.

A run that is killed, fails or is stopped leaves its generation unfinished, with every batch that was written. The next
run with the same folders and image graph resumes it and makes a new plan from its content. Only a generation that
fails its check is removed.
"""

from __future__ import annotations

import functools
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sceneseek.bundle import Bundle
from sceneseek.errors import SourceError, UnfitGeneration
from sceneseek.filters.conditions import TEXT_TOKENS, json_path
from sceneseek.payload import INDEXED_FIELDS, path_fields
from sceneseek.sources import Root
from sceneseek.store import Collection, CollectionInfo, VectorStore
from sceneseek.store.base import SEARCH_EF, FieldType
from sceneseek_indexer.duplicates import mark_duplicates
from sceneseek_indexer.generation_check import compare, inspect
from sceneseek_indexer.inventory import (
    Known,
    Place,
    SizedIterable,
    StoredMapping,
    images_of,
    known_images,
    metadata_of,
    open_inventory,
    place,
)
from sceneseek_indexer.load import Loaded
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.photo_facts import FIELDS
from sceneseek_indexer.pipeline import encode_files
from sceneseek_indexer.report import (
    IndexReport,
    Line,
    ReportFile,
    earlier_lines,
    opening_lines,
    remove_old_reports,
    skipped_line,
)
from sceneseek_indexer.sidecar import Sidecar
from sceneseek_indexer.source_scan import Folder, SourceScan, fits, scan_sources
from sceneseek_indexer.sync_plan import Plan, Reuse
from sceneseek_indexer.walk import UNREADABLE, ImageFile, Listing, Skipped
from sceneseek_indexer.writing import Metadata, Writing

if TYPE_CHECKING:
    from sceneseek_indexer.ocr import TextReader

log = logging.getLogger(__name__)

# Fields of the metadata that get an index: making 400 of them took the embedded engine 40 s, and 50 of them 1.4 s.
MAX_INDEXED = 64

__all__ = ["BuildOptions", "index_folder", "index_folders"]


def index_folder(
    folder: Root,
    bundle: Bundle,
    store: VectorStore,
    options: BuildOptions | None = None,
    listing: Listing | None = None,
) -> IndexReport:
    """`index_folders` for one folder; `listing` replaces the walk through it."""
    return index_folders([Folder(folder)], bundle, store, options, listing=listing)


def index_folders(
    folders: Sequence[Folder],
    bundle: Bundle,
    store: VectorStore,
    options: BuildOptions | None = None,
    withheld: Mapping[str, set[str]] | None = None,
    before_publishing: Callable[[], None] = lambda: None,
    listing: Listing | None = None,
) -> IndexReport:
    """Bring the live generation up to date with folders.

    Args:
        folders: the folders to read; others of the index stay as they are.
        bundle: the bundle whose image graph encodes.
        store: the store of the generations.
        options: how the run works.
        withheld: images to leave to a later run: paths by absolute folder.
        before_publishing: called just before the new generation becomes live.
        listing: replaces the walk through the one folder.

    Raises:
        SourceError: a folder, or too many of the images, cannot be used.
        InvalidRequest: a label is taken or differs from the index.
        IndexUnavailable: the index or the temporary database of the run cannot be written, or another process writes
            the index and `options.wait` is False.
    """
    options = options or BuildOptions()
    with store.writing(options.wait), open_inventory() as inventory:
        found = scan_sources(inventory, folders, bundle, store, options, withheld, listing)
        return _Run(found, bundle, store, before_publishing).execute()


def dry_run_folders(
    folders: Sequence[Folder], bundle: Bundle, store: VectorStore, options: BuildOptions | None = None
) -> IndexReport:
    """Report what `index_folders` would do, without decoding or writing.

    Raises:
        SourceError, InvalidRequest, IndexUnavailable: as `index_folders` would.
    """
    options = options or BuildOptions()
    with open_inventory() as inventory:
        found = scan_sources(inventory, folders, bundle, store, options)
        metadata = found.metadata()
        inventory.add_images(_base_images(found, store, metadata))
        report = found.report()
        report.generation = found.live.name if found.live is not None else ""
        plan = found.plan()
        report.count_plan(plan)
        if metadata is not None:
            _check_loss(metadata, plan, _carried_metadata(found, store), options)
            report.described = sum(image.outdated for image in plan.unchanged)
            for file in itertools.chain(plan.encode, (reuse.file for reuse in plan.reused)):
                report.described += bool(metadata.metadata(file.relative))
            report.fields, report.undescribed = metadata.fields, found.undescribed(metadata)
        return report


def _base_images(found: SourceScan, store: VectorStore, metadata: Sidecar | None) -> Iterable[Known]:
    """The images that a new generation begins with."""
    return images_of(store, found.base.name, metadata, found.reads_text) if found.base is not None else ()


def _carried_metadata(found: SourceScan, store: VectorStore) -> Metadata:
    """The user's metadata that the live generation has and a generation that begins empty has not."""
    carried: Metadata = found.inventory.mapping()
    if found.live is not None and found.base is None:
        for at, metadata in metadata_of(store, found.live.name):
            carried[at] = metadata
    return carried


def _check_loss(metadata: Sidecar, plan: Plan, carried: Metadata, options: BuildOptions) -> None:
    """Raise DataError if the images would lose more of their metadata than `options` permit."""
    lost = (file.relative for file in plan.encode if carried.get(place(file)) is not None)
    described = itertools.chain(plan.described, lost)
    metadata.check_loss(described, 1.0 if options.remove_any else options.max_removed)


class _Run:
    """One indexing run, from `execute` to its report."""

    def __init__(
        self,
        found: SourceScan,
        bundle: Bundle,
        store: VectorStore,
        before_publishing: Callable[[], None],
    ) -> None:
        self._found, self._bundle, self._before_publishing = found, bundle, before_publishing
        self._store, self._options = store, found.options
        self._report = found.report()
        self._seconds = {"load": 0.0, "encode": 0.0, "upsert": 0.0, "optimise": 0.0, "compare": 0.0}
        self._now = datetime.now(UTC)
        self._metadata = found.metadata()
        self._ocr = found.reads_text
        self._info = self._described()
        self._collection: Collection | None = None
        self._resumed, self._coming = False, 0

    def execute(self) -> IndexReport:
        start, finished = time.perf_counter(), False
        try:
            self._resume()
            inventory = self._found.inventory
            inventory.add_images(self._known())
            carried = _carried_metadata(self._found, self._store)
            plan = self._found.plan()
            if self._metadata is not None:
                _check_loss(self._metadata, plan, carried, self._options)
            self._coming = len(plan.encode) + len(plan.reused)
            path = self._report_path(plan)
            earlier: StoredMapping[str, Line] = inventory.mapping()
            for identity, line in earlier_lines(path, self._info.name) if self._resumed else ():
                earlier[identity] = line
            with ReportFile(path) as report_file:
                writing = Writing(
                    self._info, self._begin, inventory, self._report, report_file, self._now, self._metadata, carried
                )
                report_file.write([self._first_line()])
                report_file.write(
                    opening_lines(self._report, plan, self._found.listings.values(), earlier, inventory.has)
                )
                self._fill(writing, plan, report_file)
                self._report.generation = self._finish(writing, plan)
                self._report.seconds = {**self._seconds, "total": time.perf_counter() - start}
                report_file.write([self._last_line()])
            finished = True
        finally:
            if self._collection is not None:
                self._collection.close()  # unfinished unless it was published; the next run resumes it
            remove_old_reports(self._store)
            self._found.settle(self._report, finished)
        return self._report

    def _resume(self) -> None:
        """Open the generation of an interrupted run, if it has the same image graph and sources."""
        live = self._found.live
        # An unfinished generation of the same graph may be a copy of the live one, which a rebuild must not resume.
        anew = self._options.rebuild and live is not None and fits(live, self._bundle)
        for begun in () if anew else self._store.unfinished():
            has_texts = json_path(TEXT_TOKENS) in begun.indexed
            if fits(begun, self._bundle) and begun.sources == self._info.sources and has_texts >= self._ocr:
                try:
                    self._collection = self._store.resume(begun.name)
                except UnfitGeneration as error:
                    log.warning("the interrupted run cannot be resumed: %s", error)
                    return
                self._info, self._resumed = self._collection.info, True
                return

    def _begin(self) -> Collection:
        """The generation to fill, created by the first call."""
        if self._collection is None:
            base = self._found.base
            self._collection = self._store.create(self._info, base.name if base is not None else None, self._coming)
        return self._collection

    def _known(self) -> Iterable[Known]:
        """The images of the generation, or of its base if it is not created yet."""
        if self._collection is not None:
            return known_images(self._collection, resumed=True, metadata=self._metadata, ocr=self._ocr)
        return _base_images(self._found, self._store, self._metadata)

    def _described(self) -> CollectionInfo:
        """The record of the generation that this run may create."""
        manifest = self._bundle.manifest
        stamp = self._now.strftime("%Y%m%dT%H%M%S")
        return CollectionInfo(
            name=f"{manifest.fingerprints.image[:12]}-{stamp}-{secrets.token_hex(3)}",
            image_fingerprint=manifest.fingerprints.image,
            joint=manifest.dimensions.joint,
            head=manifest.dimensions.image_head,
            sources=self._found.sources.every,
            created=self._now.isoformat(timespec="microseconds"),
            indexed=self._fields(),
            mounts=self._found.mounts(),
            bundle=str(self._bundle.path.resolve()),
            search_ef=SEARCH_EF if self._found.base is None else self._found.base.search_ef,
        )

    def _fields(self) -> dict[str, FieldType]:
        """The payload fields to index: ours, those of the generation before, those of EXIF and of the metadata."""
        live = self._found.live
        described = self._metadata.fields if self._metadata else {}
        typed: dict[str, FieldType] = {name: kind for name, kind in described.items() if kind != "text"}
        fields = dict(itertools.islice(typed.items(), MAX_INDEXED))
        if len(typed) > len(fields):
            log.warning("the metadata has %d fields: filters on all but the first %d are slow", len(typed), len(fields))
        exif = {name: kind for name, kind in FIELDS.items() if name in self._options.exif}
        texts: dict[str, FieldType] = {json_path(TEXT_TOKENS): "keyword"} if self._ocr else {}
        return {**(live.indexed if live else {}), **INDEXED_FIELDS, **texts, **exif, **fields}

    def _report_path(self, plan: Plan) -> Path | None:
        """The path of the report; None for a run that changes nothing and has no `options.report`."""
        home = self._store.report_directory()
        if self._options.report is not None or home is None:
            return self._options.report
        return home / f"{self._info.name}.jsonl" if self._resumed or not plan.empty else None

    def _first_line(self) -> Line:
        fingerprints = self._bundle.manifest.fingerprints
        return {
            "kind": "run",
            "generation": self._info.name,
            "bundle": fingerprints.bundle,
            "image": fingerprints.image,
            "sources": [{"label": s.label, "folder": s.folder} for s in self._info.sources],
            "resumed": self._resumed,
            "started": self._now.isoformat(timespec="microseconds"),
        }

    def _fill(self, writing: Writing, plan: Plan, report_file: ReportFile) -> None:
        """Execute the plan."""
        writing.reuse(plan)
        writing.remove(plan.removed)
        writing.describe(plan.unchanged)
        if plan.encode:
            self._encode_all(plan.encode, writing, report_file)
        if self._metadata is not None:
            self._report.fields = self._metadata.fields
            self._report.undescribed = self._found.undescribed(self._metadata)
        if self._report.skipped and not (self._report.usable or self._report.removed):
            first = self._report.skipped[0]
            folders = ", ".join(str(folder) for folder in self._found.sources.read.values())
            raise SourceError(
                f"none of the {len(self._report.skipped):,} images in {folders} could be used "
                f"(the first, {path_fields(first.relative)['path']}: {first.what})",
                "name a folder of readable images",
            )

    def _encode_all(self, files: SizedIterable[ImageFile], writing: Writing, report_file: ReportFile) -> None:
        first_of: StoredMapping[str, ImageFile] = self._found.inventory.mapping()
        repeated: StoredMapping[Place, Reuse] = self._found.inventory.mapping()

        def is_first(image: Loaded) -> bool:
            """Whether this content is new in this run; further files of the same content reuse its vectors."""
            first = first_of.get(image.sha256)
            if first is None:
                first_of[image.sha256] = image.file
                return True
            origin = Known(
                writing.identity(first), first.source, first.relative, first.bytes, first.mtime_ns, image.sha256
            )
            repeated[place(image.file)] = Reuse(image.file, origin, "copied")
            return False

        def on_skipped(entry: Skipped) -> None:
            if entry.reason != UNREADABLE:
                writing.forget_content(entry)
            report_file.write([skipped_line("skipped", entry)])
            self._skip(entry)

        reader = self._reader()
        encoded = encode_files(
            files, self._bundle, self._options, self._seconds, is_first, on_skipped, reader, self._report.nodes
        )
        for images, vectors in encoded:
            start = time.perf_counter()
            writing.add(images, vectors)
            self._seconds["upsert"] += time.perf_counter() - start
        writing.reuse(Plan(reused=repeated.values()))

    def _reader(self) -> TextReader | None:
        if not self._ocr:
            return None
        from sceneseek_indexer.ocr import TextReader  # noqa: PLC0415 - an extra

        return TextReader(self._options.ocr_model)

    @functools.cached_property
    def _listed(self) -> int:
        """The number of files that were listed; counting them reads them all."""
        return len(self._found.inventory.files())

    def _skip(self, entry: Skipped) -> None:
        """Record a file that cannot be used; raise SourceError if there are too many."""
        self._report.skipped.append(entry)
        total = self._listed
        if len(self._report.skipped) > max(self._options.max_skipped * total, 100):
            raise SourceError(
                f"{len(self._report.skipped):,} of {total:,} images could not be used "
                f"(the last, {path_fields(entry.relative)['path']}: {entry.what})",
                "check the folder, or allow a larger share with --max-skipped",
            )

    def _finish(self, writing: Writing, plan: Plan) -> str:
        """Publish the new generation, if any; return the name of the live one."""
        if self._collection is None:
            return self._found.live.name if self._found.live is not None else ""
        collection, start = self._collection, time.perf_counter()
        collection.optimize()
        optimised = time.perf_counter()
        self._report.duplicates = mark_duplicates(collection, writing.written(plan))
        self._seconds |= {"optimise": optimised - start, "compare": time.perf_counter() - optimised}
        try:
            writing.check()
            if self._found.base is None:
                self._report.inspection = inspect(collection, self._bundle)
        except UnfitGeneration:
            self._store.discard(collection)  # not to be resumed
            raise
        captions, live = self._options.captions, self._found.live
        if captions is not None and live is not None:
            # If the comparison fails, the generation stays unfinished, so a run with a larger --max-loss can resume it.
            self._report.quality = compare(
                self._store, live, collection, self._bundle, captions, self._options.max_loss
            )
        self._before_publishing()
        self._store.publish(collection, Counter(entry.reason for entry in self._report.skipped))
        return collection.info.name

    def _last_line(self) -> Line:
        seconds = {stage: round(value, 3) for stage, value in self._report.seconds.items()}
        return {
            "kind": "end",
            "generation": self._report.generation,
            "counts": self._report.counts(),
            "seconds": seconds,
            **({"nodes": self._report.nodes} if self._report.nodes else {}),
        }
