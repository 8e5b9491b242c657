"""The state before a run: the live generation, the sources and their files.

A folder of the index keeps its number and label, so its images keep their ids. The first folder has no label; later
folders are labelled by their names, or by LABEL=DIR.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sceneseek.bundle import Bundle
from sceneseek.errors import IndexUnavailable, InvalidRequest, SourceError, UnfitGeneration
from sceneseek.filters.conditions import TEXT_TOKENS, json_path
from sceneseek.payload import label_of
from sceneseek.pending_changes import Change, PendingChanges, takes_pictures
from sceneseek.sources import Root, parse_root
from sceneseek.store import CollectionInfo, Source, VectorStore
from sceneseek_indexer.inventory import Inventory, Place, place
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.pipeline import hash_contents
from sceneseek_indexer.report import IndexReport, not_indexed_by_place, why_not_indexed
from sceneseek_indexer.sidecar import Sidecar, read_metadata
from sceneseek_indexer.sync_plan import Plan, files_to_hash, make_plan
from sceneseek_indexer.walk import ImageFile, Listing, list_images

log = logging.getLogger(__name__)

# Number of images per folder that may always be removed.
_ALWAYS_REMOVED = 20


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder or a prefix of a bucket to index, with its label, None if not given."""

    path: Root
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> Folder:
        """Parse DIR or LABEL=DIR, where DIR may be a URL; an existing path is always a DIR.

        Raises:
            InvalidRequest: see `parse_root`.
        """
        label, equals, path = text.partition("=")
        if equals and label and path and "/" not in label and not Path(text).exists():
            return cls(parse_root(path), label)
        return cls(parse_root(text))


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a generation: all sources, the folders to read by number, and the numbers of those to forget."""

    every: tuple[Source, ...]
    read: dict[int, Root]
    forgotten: frozenset[int] = frozenset()


def every_folder(store: VectorStore) -> list[Folder]:
    """Return all folders of the live generation.

    Raises:
        IndexUnavailable: nothing is indexed.
    """
    live = _live(store)
    if live is None:
        raise IndexUnavailable(f"nothing is indexed in {store.url}", "pass the folders to index")
    return [Folder(parse_root(source.folder)) for source in live.sources]


def _live(store: VectorStore) -> CollectionInfo | None:
    name = store.live()
    return next((info for info in store.generations() if info.name == name), None)


def join_sources(known: Sequence[Source], folders: Sequence[Folder], forget: Sequence[Root] = ()) -> Sources:
    """Assign every folder to read its number and label; the numbers of those to forget are not reused.

    Raises:
        SourceError: one folder contains another, so images would be indexed twice; or a folder to forget is not in the
            index.
        InvalidRequest: a label is already used or differs from the index.
    """
    every, read = list(known), {}
    forgotten = frozenset(_number(path, known) for path in forget)
    for folder in folders:
        resolved = str(folder.path.resolve())
        number = next((n for n, source in enumerate(every) if source.folder == resolved), None)
        if number in forgotten:
            raise InvalidRequest(f"{folder.path} is both a folder to index and to --forget", "choose one of them")
        if number is None:
            _check_apart(resolved, [source for n, source in enumerate(every) if n not in forgotten])
            every.append(Source(_new_label(folder, every), resolved))
            number = len(every) - 1
        elif folder.label not in (None, every[number].label):
            label = f"has the label {every[number].label}" if every[number].label else "has no label"
            raise InvalidRequest(f"{folder.path} {label} in the index", f"pass {folder.path} without a label")
        read[number] = folder.path
    return Sources(tuple(every), dict(sorted(read.items())), forgotten)


def _number(path: Root, known: Sequence[Source]) -> int:
    for number, source in enumerate(known):
        if source.folder in (str(path), str(path.resolve())):
            return number
    folders = ", ".join(source.folder for source in known) or "no folders"
    raise SourceError(f"the folder {path} is not in the index", f"it has {folders}")


def _new_label(folder: Folder, others: Sequence[Source]) -> str:
    if folder.label is None:
        return label_of(str(folder.path.resolve()), others)
    if folder.label in {source.label for source in others}:
        raise InvalidRequest(f"the label {folder.label} is used by another folder", "choose another label")
    return folder.label


def _check_apart(folder: str, others: Sequence[Source]) -> None:
    for other in others:
        inner, outer = Path(folder), Path(other.folder)
        if inner.is_relative_to(outer) or outer.is_relative_to(inner):
            raise SourceError(
                f"{folder} and {other.folder} overlap, so images would be indexed twice",
                "pass only the outer folder, or choose another --index",
            )


@dataclass(frozen=True, slots=True)
class SourceScan:
    """The state before a run.

    Attributes:
        options: of the run.
        live: the live generation; None in an empty store.
        base: the live generation, if the new one can start as its copy, else None.
        sources: of the generation to build.
        inventory: contains the files of the folders that are read.
        listings: the other entries of these folders, by source number.
        changes: the pending changes of these folders, by id; read before the folders were listed.
    """

    options: BuildOptions
    live: CollectionInfo | None
    base: CollectionInfo | None
    sources: Sources
    inventory: Inventory
    listings: dict[int, Listing]
    changes: dict[int, dict[str, Change]]

    def plan(self) -> Plan:
        """Decide the outcome of every image of the inventory; hashes files if necessary."""
        every = {**self.listings, **{number: Listing() for number in self.sources.forgotten}}
        self.inventory.add_hashes(hash_contents(files_to_hash(self.inventory), self.options))
        pruned = [*self.sources.forgotten, *(self.listings if self.options.prune else ())]
        plan = make_plan(self.inventory, every, pruned, self._deleted())
        if not self.options.remove_any:
            self._check_removals(plan)
        return plan

    def _deleted(self) -> set[Place]:
        """The places of the images that users deleted."""
        return {
            (number, change.path)
            for number, changes in self.changes.items()
            for change in changes.values()
            if change.action == "delete"
        }

    def settle(self, report: IndexReport, finished: bool) -> None:
        """Record the outcomes of the pending changes in a run, and whether the run finished."""
        not_indexed = not_indexed_by_place(self.listings.values(), report.skipped)
        for number, changes in self.changes.items():
            refused = {
                identity: entry.what
                for identity, change in changes.items()
                if change.action == "put" and (entry := why_not_indexed(not_indexed, (number, change.path))) is not None
            }
            folder = Path(self.sources.every[number].folder)
            try:
                PendingChanges(folder).settle(changes, refused, finished)
            except OSError as error:
                log.warning("the outcomes of uploads to %s cannot be written (%s)", folder, error.strerror)

    def _check_removals(self, plan: Plan) -> None:
        """Raise SourceError if --prune would remove too large a share of a folder: it may not be mounted."""
        deleted = self._deleted()
        removed = Counter(
            image.source for image in plan.removed if image.source in self.listings and place(image) not in deleted
        )
        for number, images in removed.items():
            before = self.inventory.count_images(number)
            if images > max(_ALWAYS_REMOVED, self.options.max_removed * before):
                raise SourceError(
                    f"--prune would remove {images:,} of the {before:,} images of {self.sources.read[number]}",
                    "check that everything in it is mounted; then pass --yes, or a larger share as --max-removed",
                )

    def mounts(self) -> dict[str, list[str]]:
        """The mount points to record: those found, those away, and those of folders that were not read."""
        before = self.live.mounts if self.live is not None else {}
        found = {
            str(number): sorted(listing.mounts | listing.away.intersection(before.get(str(number), ())))
            for number, listing in self.listings.items()
        }
        return {number: points for number, points in {**before, **found}.items() if points}

    @property
    def reads_text(self) -> bool:
        """Whether the run reads text in pictures."""
        if self.options.ocr is not None:
            return self.options.ocr
        return self.live is not None and json_path(TEXT_TOKENS) in self.live.indexed

    def metadata(self) -> Sidecar | None:
        """Read `options.metadata`, which is for one folder; None if it is not set.

        Raises:
            InvalidRequest: several folders are read.
            DataError: see `sceneseek_indexer.sidecar`.
        """
        if self.options.metadata is None:
            return None
        if len(self.listings) > 1:
            raise InvalidRequest("--metadata is for one folder, but several are given", "index one folder at a time")
        (folder,) = self.sources.read.values()
        return read_metadata(self.options.metadata, folder, self._paths())

    def undescribed(self, metadata: Sidecar) -> list[str]:
        """Return the paths in the metadata without an image."""
        return metadata.unmatched(self._paths())

    def _paths(self) -> Iterator[str]:
        return (file.relative for file in self.inventory.files())

    def report(self) -> IndexReport:
        """Create a report with the skipped and ignored files of the listings."""
        listings = self.listings.values()
        report = IndexReport(skipped=[entry for listing in listings for entry in listing.skipped])
        report.ignore([entry for listing in listings for entry in listing.ignored])
        return report


def scan_sources(
    inventory: Inventory,
    folders: Sequence[Folder],
    bundle: Bundle,
    store: VectorStore,
    options: BuildOptions,
    withheld: Mapping[str, set[str]] | None = None,
    listing: Listing | None = None,
) -> SourceScan:
    """Read the state of the store, list the folders, and add their files to the inventory.

    For the other arguments see `build.index_folders`.

    Raises:
        SourceError: a folder cannot be used, or would be missing in the new generation.
        InvalidRequest: a label is already used or differs from the index.
        UnfitGeneration: the live generation is missing or damaged.
    """
    live = _live(store)
    if live is None and (name := store.live()) is not None and not options.rebuild:
        raise UnfitGeneration(
            f"the live generation {name} of {store.url} is missing or damaged",
            "restore another one with `sceneseek index rollback`, or index all its folders again with --rebuild",
        )
    base = live if live is not None and fits(live, bundle) and not options.rebuild else None
    sources = join_sources(live.sources if live is not None else (), folders, options.forget)
    touched = {*sources.read, *sources.forgotten}
    left = [source.folder for number, source in enumerate(sources.every) if number not in touched]
    if base is None and left:
        # A generation that is created empty would lose their images.
        raise SourceError(
            f"a new generation is built from scratch, but the index also contains {', '.join(left)}",
            "pass all its folders, remove some with --forget, or choose another --index",
        )
    changes = {n: PendingChanges(folder).all() for n, folder in sources.read.items() if isinstance(folder, Path)}
    if listing is None:
        listings = {number: _list(sources, number, options, withheld or {}, inventory) for number in sources.read}
    else:
        listings = dict.fromkeys(sources.read, listing)
        for file in listing.files:
            inventory.add_file(file)
    if live is not None and not options.remove_any:
        for number, found in listings.items():
            found.away = found.empty | (set(live.mounts.get(str(number), ())) - found.mounts)
    for number, every in changes.items():
        later = listings[number].withheld
        changes[number] = {identity: change for identity, change in every.items() if change.path not in later}
    return SourceScan(options, live, base, sources, inventory, listings, changes)


def fits(info: CollectionInfo, bundle: Bundle) -> bool:
    """Whether a generation has the image fingerprint and dimensions of a bundle."""
    manifest = bundle.manifest
    expected = (manifest.fingerprints.image, manifest.dimensions.joint, manifest.dimensions.image_head)
    return (info.image_fingerprint, info.joint, info.head) == expected


def _list(
    sources: Sources, number: int, options: BuildOptions, withheld: Mapping[str, set[str]], inventory: Inventory
) -> Listing:
    folder, later = sources.read[number], withheld.get(sources.every[number].folder, set())

    def add(file: ImageFile) -> None:
        if file.relative not in later:
            inventory.add_file(file)

    listing = list_images(folder, options.patterns, number, takes_pictures(folder), add)
    listing.withheld = later
    return listing
