"""Folders' way into the index: list -> plan -> take over, load, encode, write -> optimise -> check -> publish.

The run builds a generation that nobody searches yet: a copy of the live one where the same bundle filled
it, so that only what changed is encoded, else an empty one. The alias moves when the generation is complete
and checked; whatever happens before leaves the live one as it was.

A run that is killed leaves its generation unfinished, with every batch that was written; so does one that
fails or is stopped once it has encoded something. The next run with the same folders and image graph goes on with it:
it plans anew from what it finds there.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from indexer.duplicates import mark_duplicates
from indexer.encode import encode_files, hash_contents
from indexer.inspection import inspect
from indexer.known import Known, known_images
from indexer.load import Loaded
from indexer.options import BuildOptions
from indexer.plan import Place, Plan, Takeover, make_plan, place, questions
from indexer.preamble import preamble
from indexer.quality import Comparison, indexed, recall_at_5
from indexer.receipt import Receipt
from indexer.receipt_file import Line, ReceiptFile, earlier_lines, receipts_of, skipped_line, tidy
from indexer.sidecar import Sidecar, read_metadata
from indexer.sources import Folder, Sources, join_sources
from indexer.walk import UNREADABLE, ImageFile, Listing, Skipped, list_images
from indexer.writing import Writing
from sceneseek.bundle import Bundle
from sceneseek.captions import read_captions
from sceneseek.errors import DataError, IndexUnavailable, InvalidRequest, SourceError
from sceneseek.models import find_bundle
from sceneseek.payload import INDEXED_FIELDS, path_fields
from sceneseek.store import Collection, CollectionInfo, VectorStore
from sceneseek.store.base import FieldType
from sceneseek.store.edge import EdgeStore

log = logging.getLogger(__name__)

__all__ = ["BuildOptions", "foresee", "index_folder", "index_folders", "index_listing"]


def index_folder(folder: Path, bundle: Bundle, store: VectorStore, options: BuildOptions | None = None) -> Receipt:
    """`index_folders` for one folder."""
    return index_folders([Folder(folder)], bundle, store, options)


def index_folders(
    folders: Sequence[Folder],
    bundle: Bundle,
    store: VectorStore,
    options: BuildOptions | None = None,
    withheld: Mapping[str, set[str]] | None = None,
) -> Receipt:
    """Bring the live generation up to date with folders.

    Args:
        folders: those to read; others that the index knows stay as they are.
        bundle: whose image graph encodes.
        store: where the generations are.
        options: how the run works.
        withheld: images to leave for a later run: paths by folder, absolute.

    Raises:
        SourceError: a folder cannot be used, or too many of the images cannot.
        InvalidRequest: a label does not fit.
        IndexUnavailable: the index cannot be written, or another process writes it.
    """
    options = options or BuildOptions()
    sources = _join(folders, store, options)
    return _Run(sources, _list(sources, options, withheld or {}), bundle, store, options).execute()


def index_listing(
    folder: Path, listing: Listing, bundle: Bundle, store: VectorStore, options: BuildOptions | None = None
) -> Receipt:
    """`index_folder` for a listing of a store's first folder that was made (or chosen from) already."""
    options = options or BuildOptions()
    return _Run(_join([Folder(folder)], store, options), {0: listing}, bundle, store, options).execute()


def foresee(
    folders: Sequence[Folder], bundle: Bundle, store: VectorStore, options: BuildOptions | None = None
) -> Receipt:
    """What `index_folders` would do. Nothing is decoded and nothing in the index changes.

    Raises:
        SourceError, InvalidRequest, IndexUnavailable: as `index_folders` would.
    """
    options = options or BuildOptions()
    sources = _join(folders, store, options)
    listings = _list(sources, options, {})
    live = _live(store)
    known: dict[Place, Known] = {}
    if live is not None and _fits(live, bundle):
        collection = store.glance(live.name) if isinstance(store, EdgeStore) else store.open(live.name)
        try:
            known = {place(image): image for image in known_images(collection)}
        finally:
            collection.close()
    else:
        _check_none_is_left_out(sources)
    plan = _plan(sources, listings, known, options)
    receipt = _begun_receipt(listings)
    receipt.generation = live.name if live is not None else ""
    receipt.foresee(plan)
    return receipt


def _live(store: VectorStore) -> CollectionInfo | None:
    name = store.live()
    return next((info for info in store.generations() if info.name == name), None)


def _fits(live: CollectionInfo, bundle: Bundle) -> bool:
    """Whether a run with this bundle can go on from a copy of the live generation."""
    manifest = bundle.manifest
    ours = (manifest.fingerprints.image, manifest.dimensions.joint, manifest.dimensions.image_head)
    return (live.image_fingerprint, live.joint, live.head) == ours


def _join(folders: Sequence[Folder], store: VectorStore, options: BuildOptions) -> Sources:
    live = _live(store)
    return join_sources(live.sources if live is not None else (), folders, options.forget)


def _check_none_is_left_out(sources: Sources) -> None:
    """A generation that begins empty would lose the folders that are not read."""
    if left := [source.folder for source in sources.untouched()]:
        raise SourceError(
            f"another image graph filled the index, which also holds {', '.join(left)}",
            "name all its folders, let some go with --forget, or choose another --index",
        )


def _list(sources: Sources, options: BuildOptions, withheld: Mapping[str, set[str]]) -> dict[int, Listing]:
    listings = {}
    for number, folder in sources.read.items():
        listing = list_images(folder, options.patterns, number)
        if later := withheld.get(sources.every[number].folder):
            listing.files = [file for file in listing.files if file.relative not in later]
            listing.withheld = later
        listings[number] = listing
    return listings


def _plan(sources: Sources, listings: dict[int, Listing], known: Mapping[Place, Known], options: BuildOptions) -> Plan:
    every = {**listings, **{number: Listing() for number in sources.forgotten}}
    hashes = hash_contents(questions(listings.values(), known), options)
    return make_plan(every, known, hashes, [*sources.forgotten, *(listings if options.prune else ())])


def _read_metadata(sources: Sources, listings: Mapping[int, Listing], options: BuildOptions) -> Sidecar | None:
    """What `options.metadata` names, which is of one folder."""
    if options.metadata is None or isinstance(options.metadata, Sidecar):
        return options.metadata
    if len(listings) > 1:
        raise InvalidRequest("metadata is of one folder, and several are read", "index one folder at a time")
    ((number, listing),) = listings.items()
    return read_metadata(options.metadata, sources.read[number], [file.relative for file in listing.files])


def _begun_receipt(listings: Mapping[int, Listing]) -> Receipt:
    receipt = Receipt(skipped=[entry for listing in listings.values() for entry in listing.skipped])
    for listing in listings.values():
        receipt.ignore(listing.ignored)
    return receipt


class _Run:
    """One indexing run; `execute` is its whole story."""

    def __init__(
        self,
        sources: Sources,
        listings: dict[int, Listing],
        bundle: Bundle,
        store: VectorStore,
        options: BuildOptions,
    ) -> None:
        self._sources, self._listings, self._bundle = sources, listings, bundle
        self._store, self._options = store, options
        self._receipt = _begun_receipt(listings)
        self._seconds = {"load": 0.0, "encode": 0.0, "upsert": 0.0, "optimise": 0.0, "compare": 0.0}
        self._now = datetime.now(UTC)
        self._metadata = _read_metadata(sources, listings, options)
        self._resumed = self._settled = False

    def execute(self) -> Receipt:
        start = time.perf_counter()
        base = self._base()
        collection = self._collection(base)
        try:
            known = {place(image): image for image in known_images(collection)}
            plan = _plan(self._sources, self._listings, known, self._options)
            path = self._receipt_path(collection, plan)
            earlier = earlier_lines(path, collection.info.name) if self._resumed else {}
            with ReceiptFile(path) as told:
                writing = Writing(collection, known, self._receipt, told, self._now, self._metadata)
                told.write([self._first_line(collection)])
                present = writing.foreseen(plan)
                told.write(preamble(self._receipt, plan, self._listings.values(), earlier, present))
                self._fill(writing, plan, told)
                self._receipt.generation = self._finish(collection, writing, base)
                self._receipt.seconds = {**self._seconds, "total": time.perf_counter() - start}
                told.write([self._last_line()])
        except BaseException:
            self._let_go(collection)
            raise
        finally:
            tidy(self._store)
        return self._receipt

    def _base(self) -> str | None:
        """The live generation, if this run can go on from it."""
        live = _live(self._store)
        if live is not None and _fits(live, self._bundle) and not self._options.rebuild:
            return live.name
        _check_none_is_left_out(self._sources)
        return None

    def _collection(self, base: str | None) -> Collection:
        """The generation to fill: an interrupted run's, if it was to become the same, else a new one."""
        info = self._info()
        # What a run with the live generation's graph left may be a copy of it, which is not to be gone on with.
        anew = self._options.rebuild and (live := _live(self._store)) is not None and _fits(live, self._bundle)
        for begun in () if anew else self._store.unfinished():
            if _fits(begun, self._bundle) and begun.sources == info.sources:
                try:
                    collection = self._store.resume(begun.name)
                except IndexUnavailable as error:  # damaged, or another process builds: `create` then says so
                    log.warning("the interrupted run cannot be gone on with: %s", error)
                    break
                self._resumed = True
                return collection
        return self._store.create(info, base)

    def _info(self) -> CollectionInfo:
        manifest = self._bundle.manifest
        stamp = self._now.strftime("%Y%m%dT%H%M%S")
        return CollectionInfo(
            name=f"{manifest.fingerprints.image[:12]}-{stamp}-{secrets.token_hex(3)}",
            image_fingerprint=manifest.fingerprints.image,
            joint=manifest.dimensions.joint,
            head=manifest.dimensions.image_head,
            sources=self._sources.every,
            created=self._now.isoformat(timespec="microseconds"),
            indexed=self._fields(),
            bundle=str(self._bundle.path.resolve()),
        )

    def _fields(self) -> dict[str, FieldType]:
        """The payload fields to index: ours, those of the generation before, those of the metadata."""
        live = _live(self._store)
        described = self._metadata.fields if self._metadata else {}
        fields = {name: kind for name, kind in described.items() if kind != "text"}
        return {**(live.indexed if live else {}), **INDEXED_FIELDS, **fields}

    def _receipt_path(self, collection: Collection, plan: Plan) -> Path | None:
        """Where to tell every file's fate; a run that changes nothing leaves the store's own receipts alone."""
        home = receipts_of(self._store)
        if self._options.receipt is not None or home is None:
            return self._options.receipt
        return home / f"{collection.info.name}.jsonl" if self._resumed or not plan.empty else None

    def _first_line(self, collection: Collection) -> Line:
        fingerprints = self._bundle.manifest.fingerprints
        return {
            "kind": "run",
            "generation": collection.info.name,
            "bundle": fingerprints.bundle,
            "image": fingerprints.image,
            "sources": [{"label": s.label, "folder": s.folder} for s in collection.info.sources],
            "resumed": self._resumed,
            "started": self._now.isoformat(timespec="microseconds"),
        }

    def _fill(self, writing: Writing, plan: Plan, told: ReceiptFile) -> None:
        """Do what the plan says."""
        writing.take_over(plan)
        writing.remove(plan.removed)
        writing.describe(plan.unchanged)
        if plan.encode:
            self._encode_all(plan.encode, writing, told)
        if self._metadata is not None:
            files = [file.relative for listing in self._listings.values() for file in listing.files]
            self._receipt.undescribed = self._metadata.unmatched(files)
        if self._receipt.skipped and not self._receipt.usable:
            first = self._receipt.skipped[0]
            folders = ", ".join(str(folder) for folder in self._sources.read.values())
            raise SourceError(
                f"none of the {len(self._receipt.skipped):,} images in {folders} could be used "
                f"(the first, {path_fields(first.relative)['path']}: {first.what})",
                "name a folder of readable images",
            )

    def _encode_all(self, files: Sequence[ImageFile], writing: Writing, told: ReceiptFile) -> None:
        first_of: dict[str, ImageFile] = {}
        twins: list[Takeover] = []

        def is_first(image: Loaded) -> bool:
            """Whether this content comes for the first time in this run; other images of it take its vectors over."""
            first = first_of.setdefault(image.sha256, image.file)
            if first is image.file:
                return True
            origin = Known(
                writing.identity(first), first.source, first.relative, first.bytes, first.mtime_ns, image.sha256
            )
            twins.append(Takeover(image.file, origin, "copied"))
            return False

        def on_skipped(entry: Skipped) -> None:
            if entry.reason != UNREADABLE:
                writing.forget_content(entry)
            told.write([skipped_line("skipped", entry)])
            self._skip(entry)

        for images, vectors in encode_files(files, self._bundle, self._options, self._seconds, is_first, on_skipped):
            start = time.perf_counter()
            writing.add(images, vectors)
            self._seconds["upsert"] += time.perf_counter() - start
        writing.take_over(Plan(takeovers=twins))

    def _skip(self, entry: Skipped) -> None:
        """Note a file that cannot be used; too many of them end the run."""
        self._receipt.skipped.append(entry)
        total = sum(len(listing.files) for listing in self._listings.values())
        if len(self._receipt.skipped) > max(self._options.max_skipped * total, 100):
            raise SourceError(
                f"{len(self._receipt.skipped):,} of {total:,} images could not be used "
                f"(the last, {path_fields(entry.relative)['path']}: {entry.what})",
                "check the folder, or allow a larger share with --max-skipped",
            )

    def _finish(self, collection: Collection, writing: Writing, base: str | None) -> str:
        """Publish the generation if it differs from its base; the name of the one that is live then."""
        if not (writing.changed or self._resumed):
            self._settled = True
            self._store.discard(collection)
            return str(base)
        start = time.perf_counter()
        collection.optimize()
        optimised = time.perf_counter()
        self._receipt.duplicates = mark_duplicates(collection, writing.written)
        self._seconds |= {"optimise": optimised - start, "compare": time.perf_counter() - optimised}
        try:
            writing.check()
            if base is None:
                self._receipt.inspection = inspect(collection, self._bundle).to_json()
        except IndexUnavailable:
            self._settled = True
            self._store.discard(collection)  # not to be gone on with
            raise
        if self._options.captions is not None:
            self._compare(collection, self._options.captions)
        self._settled = True
        self._store.publish(collection)
        return collection.info.name

    def _compare(self, collection: Collection, file: Path) -> None:
        """Hold the new generation against the live one; whatever was encoded stays, so that a rerun may allow more."""
        live = _live(self._store)
        before = None if live is None else find_bundle(live, self._bundle.path)
        if live is None or before is None:
            log.warning("there is nothing to compare with: no generation, or its bundle is not at hand")
            return
        old = self._store.glance(live.name) if isinstance(self._store, EdgeStore) else self._store.open(live.name)
        try:
            captions = indexed(old, indexed(collection, read_captions(file)))
            if not captions:
                raise DataError(f"no image of {file} is indexed", "its image names are paths relative to the folder")
            recalls = recall_at_5(old, before, captions), recall_at_5(collection, self._bundle, captions)
        finally:
            old.close()
        found = Comparison(*recalls, len(captions))
        self._receipt.quality = found.to_json()
        if found.lost > self._options.max_loss:
            raise IndexUnavailable(
                f"recall@5 (x100) would fall by {found.lost:.2f} from {found.before:.2f} to {found.after:.2f}, "
                f"over {self._options.max_loss:g}; the live generation goes on",
                "allow more with --max-loss, which takes up what was encoded, or index with another bundle",
            )

    def _let_go(self, collection: Collection) -> None:
        """After a failure: keep the generation for the next run if work went into it, else remove it."""
        if self._settled or self._resumed or self._receipt.indexed:
            collection.close()
        else:
            self._store.discard(collection)

    def _last_line(self) -> Line:
        seconds = {stage: round(value, 3) for stage, value in self._receipt.seconds.items()}
        return {
            "kind": "end",
            "generation": self._receipt.generation,
            "counts": self._receipt.counts(),
            "seconds": seconds,
        }
