"""An indexing run: list -> plan -> reuse, load, encode, write -> optimise -> check -> publish.

A run holds the store's lease and compares the folders with the live generation. Its first change creates a new
generation: a copy of the live generation if that was built with the same image graph, so that only changes are
encoded; otherwise an empty one. The alias is switched once the generation is complete and checked. If anything fails
before that, the live generation is unchanged. A run without changes creates no generation.

A run that is killed, fails or is stopped leaves an unfinished generation with all batches written so far. The next
run with the same folders and image graph resumes it with a new plan. Only a generation that fails its check is removed.
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

# Maximum number of indexed metadata fields: the embedded engine took 40 s to create 400 indexes, and 1.4 s for 50.
MAX_INDEXED = 64

__all__ = ["BuildOptions", "index_folder", "index_folders"]


def index_folder(
    folder: Root,
    bundle: Bundle,
    store: VectorStore,
    options: BuildOptions | None = None,
    listing: Listing | None = None,
) -> IndexReport:
    """Call `index_folders` for one folder; `listing` replaces the walk through it."""
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
    """Update the index with the current content of folders.

    Args:
        folders: the folders to read; other folders of the index are unchanged.
        bundle: the bundle with the image graph.
        store: the vector store.
        options: of the run.
        withheld: images to leave to a later run: relative paths by absolute folder.
        before_publishing: called just before the new generation becomes live.
        listing: replaces the walk, if there is a single folder.

    Raises:
        SourceError: a folder, or too many of the images, cannot be used.
        InvalidRequest: a label is already used or differs from the index.
        IndexUnavailable: the index or the run's temporary database cannot be written, or another process writes the
            index and `options.wait` is False.
    """
    options = options or BuildOptions()
    with store.writing(options.wait), open_inventory() as inventory:
        scan = scan_sources(inventory, folders, bundle, store, options, withheld, listing)
        return _Run(scan, bundle, store, before_publishing).execute()


def dry_run_folders(
    folders: Sequence[Folder], bundle: Bundle, store: VectorStore, options: BuildOptions | None = None
) -> IndexReport:
    """Report what `index_folders` would do, without decoding or writing.

    Raises:
        SourceError, InvalidRequest, IndexUnavailable: as `index_folders` would.
    """
    options = options or BuildOptions()
    with open_inventory() as inventory:
        scan = scan_sources(inventory, folders, bundle, store, options)
        metadata = scan.metadata()
        inventory.add_images(_base_images(scan, store, metadata))
        report = scan.report()
        report.generation = scan.live.name if scan.live is not None else ""
        plan = scan.plan()
        report.count_plan(plan)
        if metadata is not None:
            _check_loss(metadata, plan, _carried_metadata(scan, store), options)
            report.described = sum(image.outdated for image in plan.unchanged)
            for file in itertools.chain(plan.encode, (reuse.file for reuse in plan.reused)):
                report.described += bool(metadata.metadata(file.relative))
            report.fields, report.undescribed = metadata.fields, scan.undescribed(metadata)
        return report


def _base_images(scan: SourceScan, store: VectorStore, metadata: Sidecar | None) -> Iterable[Known]:
    """The images that a new generation is created with."""
    return images_of(store, scan.base.name, metadata, scan.reads_text) if scan.base is not None else ()


def _carried_metadata(scan: SourceScan, store: VectorStore) -> Metadata:
    """The user's metadata of the live generation, if the new generation is created empty."""
    carried: Metadata = scan.inventory.mapping()
    if scan.live is not None and scan.base is None:
        for key, metadata in metadata_of(store, scan.live.name):
            carried[key] = metadata
    return carried


def _check_loss(metadata: Sidecar, plan: Plan, carried: Metadata, options: BuildOptions) -> None:
    """Raise DataError if more images would lose their metadata than `options` allow."""
    lost = (file.relative for file in plan.encode if carried.get(place(file)) is not None)
    described = itertools.chain(plan.described, lost)
    metadata.check_loss(described, 1.0 if options.remove_any else options.max_removed)


class _Run:
    """One indexing run, from `execute` to its report."""

    def __init__(
        self,
        scan: SourceScan,
        bundle: Bundle,
        store: VectorStore,
        before_publishing: Callable[[], None],
    ) -> None:
        self._scan, self._bundle, self._before_publishing = scan, bundle, before_publishing
        self._store, self._options = store, scan.options
        self._report = scan.report()
        self._seconds = {"load": 0.0, "encode": 0.0, "upsert": 0.0, "optimise": 0.0, "compare": 0.0}
        self._now = datetime.now(UTC)
        self._metadata = scan.metadata()
        self._ocr = scan.reads_text
        self._info = self._new_info()
        self._collection: Collection | None = None
        self._resumed, self._expected = False, 0

    def execute(self) -> IndexReport:
        start, finished = time.perf_counter(), False
        try:
            self._resume()
            inventory = self._scan.inventory
            inventory.add_images(self._known())
            carried = _carried_metadata(self._scan, self._store)
            plan = self._scan.plan()
            if self._metadata is not None:
                _check_loss(self._metadata, plan, carried, self._options)
            self._expected = len(plan.encode) + len(plan.reused)
            path = self._report_path(plan)
            earlier: StoredMapping[str, Line] = inventory.mapping()
            for identity, line in earlier_lines(path, self._info.name) if self._resumed else ():
                earlier[identity] = line
            with ReportFile(path) as report_file:
                writing = Writing(
                    self._info, self._begin, inventory, self._report, report_file, self._now, self._metadata, carried
                )
                report_file.write([self._start_line()])
                report_file.write(
                    opening_lines(self._report, plan, self._scan.listings.values(), earlier, inventory.has)
                )
                self._fill(writing, plan, report_file)
                self._report.generation = self._finish(writing, plan)
                self._report.seconds = {**self._seconds, "total": time.perf_counter() - start}
                report_file.write([self._end_line()])
            finished = True
        finally:
            if self._collection is not None:
                self._collection.close()  # if it is not published, the next run can resume it
            remove_old_reports(self._store)
            self._scan.settle(self._report, finished)
        return self._report

    def _resume(self) -> None:
        """Open the generation of an interrupted run, if it has the same image graph and sources."""
        live = self._scan.live
        # An unfinished generation with the same graph may be a copy of the live one, which a rebuild must not resume.
        start_empty = self._options.rebuild and live is not None and fits(live, self._bundle)
        for unfinished in () if start_empty else self._store.unfinished():
            has_texts = json_path(TEXT_TOKENS) in unfinished.indexed
            same_sources = unfinished.sources == self._info.sources
            if fits(unfinished, self._bundle) and same_sources and has_texts >= self._ocr:
                try:
                    self._collection = self._store.resume(unfinished.name)
                except UnfitGeneration as error:
                    log.warning("the interrupted run cannot be resumed: %s", error)
                    return
                self._info, self._resumed = self._collection.info, True
                return

    def _begin(self) -> Collection:
        """The generation to fill, created by the first call."""
        if self._collection is None:
            base = self._scan.base
            self._collection = self._store.create(self._info, base.name if base is not None else None, self._expected)
        return self._collection

    def _known(self) -> Iterable[Known]:
        """The images of the generation, or of its base if it does not exist yet."""
        if self._collection is not None:
            return known_images(self._collection, resumed=True, metadata=self._metadata, ocr=self._ocr)
        return _base_images(self._scan, self._store, self._metadata)

    def _new_info(self) -> CollectionInfo:
        """The record of the generation that this run may create."""
        manifest = self._bundle.manifest
        stamp = self._now.strftime("%Y%m%dT%H%M%S")
        return CollectionInfo(
            name=f"{manifest.fingerprints.image[:12]}-{stamp}-{secrets.token_hex(3)}",
            image_fingerprint=manifest.fingerprints.image,
            joint=manifest.dimensions.joint,
            head=manifest.dimensions.image_head,
            sources=self._scan.sources.every,
            created=self._now.isoformat(timespec="microseconds"),
            indexed=self._fields(),
            mounts=self._scan.mounts(),
            bundle=str(self._bundle.path.resolve()),
            search_ef=SEARCH_EF if self._scan.base is None else self._scan.base.search_ef,
        )

    def _fields(self) -> dict[str, FieldType]:
        """The payload fields to index: built-in fields, those of the live generation, of EXIF and of the metadata."""
        live = self._scan.live
        declared = self._metadata.fields if self._metadata else {}
        indexable: dict[str, FieldType] = {name: kind for name, kind in declared.items() if kind != "text"}
        fields = dict(itertools.islice(indexable.items(), MAX_INDEXED))
        if len(indexable) > len(fields):
            log.warning(
                "the metadata has %d fields: filters on all but the first %d are slow", len(indexable), len(fields)
            )
        exif = {name: kind for name, kind in FIELDS.items() if name in self._options.exif}
        texts: dict[str, FieldType] = {json_path(TEXT_TOKENS): "keyword"} if self._ocr else {}
        return {**(live.indexed if live else {}), **INDEXED_FIELDS, **texts, **exif, **fields}

    def _report_path(self, plan: Plan) -> Path | None:
        """The path of the report; None if nothing changes and `options.report` is not set."""
        directory = self._store.report_directory()
        if self._options.report is not None or directory is None:
            return self._options.report
        return directory / f"{self._info.name}.jsonl" if self._resumed or not plan.empty else None

    def _start_line(self) -> Line:
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
            self._report.undescribed = self._scan.undescribed(self._metadata)
        if self._report.skipped and not (self._report.usable or self._report.removed):
            first = self._report.skipped[0]
            folders = ", ".join(str(folder) for folder in self._scan.sources.read.values())
            raise SourceError(
                f"none of the {len(self._report.skipped):,} images in {folders} could be used "
                f"(the first, {path_fields(first.relative)['path']}: {first.what})",
                "choose a folder of readable images",
            )

    def _encode_all(self, files: SizedIterable[ImageFile], writing: Writing, report_file: ReportFile) -> None:
        first_of: StoredMapping[str, ImageFile] = self._scan.inventory.mapping()
        repeated: StoredMapping[Place, Reuse] = self._scan.inventory.mapping()

        def is_first(image: Loaded) -> bool:
            """Whether this content is new in this run; other files with the same content reuse its vectors."""
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
        """The number of listed files, cached because it takes a full scan of the table."""
        return len(self._scan.inventory.files())

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
            return self._scan.live.name if self._scan.live is not None else ""
        collection, start = self._collection, time.perf_counter()
        collection.optimize()
        optimised = time.perf_counter()
        self._report.duplicates = mark_duplicates(collection, writing.written(plan))
        self._seconds |= {"optimise": optimised - start, "compare": time.perf_counter() - optimised}
        try:
            writing.check()
            if self._scan.base is None:
                self._report.inspection = inspect(collection, self._bundle)
        except UnfitGeneration:
            self._store.discard(collection)  # must not be resumed
            raise
        captions, live = self._options.captions, self._scan.live
        if captions is not None and live is not None:
            # If the comparison fails, the generation stays unfinished, so a run with a larger --max-loss can resume it.
            self._report.quality = compare(
                self._store, live, collection, self._bundle, captions, self._options.max_loss
            )
        self._before_publishing()
        self._store.publish(collection, Counter(entry.reason for entry in self._report.skipped))
        return collection.info.name

    def _end_line(self) -> Line:
        seconds = {stage: round(value, 3) for stage, value in self._report.seconds.items()}
        return {
            "kind": "end",
            "generation": self._report.generation,
            "counts": self._report.counts(),
            "seconds": seconds,
            **({"nodes": self._report.nodes} if self._report.nodes else {}),
        }
