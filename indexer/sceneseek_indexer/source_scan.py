"""The state before a run: the live generation, the sources and their files.

A folder of the index keeps its number and label, so its images keep their ids. The first folder has no label; a later
one is labelled by its name, or as LABEL=DIR says.
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
from sceneseek_indexer.report import IndexReport, passed_by_place, why_passed
from sceneseek_indexer.sidecar import Sidecar, read_metadata
from sceneseek_indexer.sync_plan import Plan, files_to_hash, make_plan
from sceneseek_indexer.walk import ImageFile, Listing, list_images

log = logging.getLogger(__name__)

# Fewer images than this are removed from a folder without a question.
_ALWAYS_REMOVED = 20


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the command line, or a prefix of a bucket, with its label, if it was given one."""

    path: Root
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> Folder:
        """Parse DIR or LABEL=DIR, where DIR may be a URL; a text that is an existing path is a path.

        Raises:
            InvalidRequest: see `parse_root`.
        """
        label, equals, path = text.partition("=")
        if equals and label and path and "/" not in label and not Path(text).exists():
            return cls(parse_root(path), label)
        return cls(parse_root(text))


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a generation: all of them, those that the run reads (folders by number), those that it forgets."""

    every: tuple[Source, ...]
    read: dict[int, Root]
    forgotten: frozenset[int] = frozenset()


def every_folder(store: VectorStore) -> list[Folder]:
    """All folders of the live generation.

    Raises:
        IndexUnavailable: nothing is indexed.
    """
    live = _live(store)
    if live is None:
        raise IndexUnavailable(f"nothing is indexed in {store.url}", "name the folders to index")
    return [Folder(parse_root(source.folder)) for source in live.sources]


def _live(store: VectorStore) -> CollectionInfo | None:
    name = store.live()
    return next((info for info in store.generations() if info.name == name), None)


def join_sources(known: Sequence[Source], folders: Sequence[Folder], forget: Sequence[Root] = ()) -> Sources:
    """Assign every folder to read its number and label; the numbers of those to forget are not reused.

    Raises:
        SourceError: one folder contains another, so an image would be indexed twice; or one to forget is unknown.
        InvalidRequest: a label is taken or differs from the index.
    """
    every, read = list(known), {}
    forgotten = frozenset(_number(path, known) for path in forget)
    for folder in folders:
        resolved = str(folder.path.resolve())
        number = next((n for n, source in enumerate(every) if source.folder == resolved), None)
        if number in forgotten:
            raise InvalidRequest(f"{folder.path} is to be indexed and to be forgotten", "name it once")
        if number is None:
            _check_apart(resolved, [source for n, source in enumerate(every) if n not in forgotten])
            every.append(Source(_new_label(folder, every), resolved))
            number = len(every) - 1
        elif folder.label not in (None, every[number].label):
            name = every[number].label or "its first folder, without a label"
            raise InvalidRequest(f"the index knows {folder.path} as {name}", f"write {folder.path} alone")
        read[number] = folder.path
    return Sources(tuple(every), dict(sorted(read.items())), forgotten)


def _number(path: Root, known: Sequence[Source]) -> int:
    for number, source in enumerate(known):
        if source.folder in (str(path), str(path.resolve())):
            return number
    folders = ", ".join(source.folder for source in known) or "none"
    raise SourceError(f"the index knows no folder {path}", f"it knows {folders}")


def _new_label(folder: Folder, others: Sequence[Source]) -> str:
    if folder.label is None:
        return label_of(str(folder.path.resolve()), others)
    if folder.label in {source.label for source in others}:
        raise InvalidRequest(f"the label {folder.label} is another folder's", "choose another")
    return folder.label


def _check_apart(folder: str, others: Sequence[Source]) -> None:
    for other in others:
        inner, outer = Path(folder), Path(other.folder)
        if inner.is_relative_to(outer) or outer.is_relative_to(inner):
            raise SourceError(
                f"of {folder} and {other.folder} one lies in the other, so images would be indexed twice",
                "name the outer one, or choose another --index",
            )


@dataclass(frozen=True, slots=True)
class SourceScan:
    """The state before a run.

    Attributes:
        options: of the run.
        live: the live generation; None in an empty store.
        base: the live generation, if the new one can begin as its copy.
        sources: those of the generation to build.
        inventory: the files of the folders that are read.
        listings: all else of these folders, by the number of their source.
        changes: those that are pending in these folders, read before they were listed, by id.
    """

    options: BuildOptions
    live: CollectionInfo | None
    base: CollectionInfo | None
    sources: Sources
    inventory: Inventory
    listings: dict[int, Listing]
    changes: dict[int, dict[str, Change]]

    def plan(self) -> Plan:
        """Decide the outcome of every image of the inventory; hashes files where that needs it."""
        every = {**self.listings, **{number: Listing() for number in self.sources.forgotten}}
        self.inventory.add_hashes(hash_contents(files_to_hash(self.inventory), self.options))
        pruned = [*self.sources.forgotten, *(self.listings if self.options.prune else ())]
        plan = make_plan(self.inventory, every, pruned, self._deleted())
        if not self.options.remove_any:
            self._check_removals(plan)
        return plan

    def _deleted(self) -> set[Place]:
        """The places of the images that were deleted on purpose."""
        return {
            (number, change.path)
            for number, changes in self.changes.items()
            for change in changes.values()
            if change.action == "delete"
        }

    def settle(self, report: IndexReport, finished: bool) -> None:
        """Note what became of the pending changes in a run, and whether it came to its end."""
        passed = passed_by_place(self.listings.values(), report.skipped)
        for number, changes in self.changes.items():
            refused = {
                identity: entry.what
                for identity, change in changes.items()
                if change.action == "put" and (entry := why_passed(passed, (number, change.path))) is not None
            }
            folder = Path(self.sources.every[number].folder)
            try:
                PendingChanges(folder).settle(changes, refused, finished)
            except OSError as error:
                log.warning("what became of the pictures put into %s cannot be noted (%s)", folder, error.strerror)

    def _check_removals(self, plan: Plan) -> None:
        """Raise SourceError if too large a share of a folder's images would be pruned: it may not be mounted."""
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
        """The mount points to record: those that were found, those that are away, those of folders not read."""
        before = self.live.mounts if self.live is not None else {}
        found = {
            str(number): sorted(listing.mounts | listing.away.intersection(before.get(str(number), ())))
            for number, listing in self.listings.items()
        }
        return {number: points for number, points in {**before, **found}.items() if points}

    @property
    def reads_text(self) -> bool:
        """Whether the run reads the text in pictures."""
        if self.options.ocr is not None:
            return self.options.ocr
        return self.live is not None and json_path(TEXT_TOKENS) in self.live.indexed

    def metadata(self) -> Sidecar | None:
        """Read `options.metadata`, if it is given, which describes one folder.

        Raises:
            InvalidRequest: several folders are read.
            DataError: see `sceneseek_indexer.sidecar`.
        """
        if self.options.metadata is None:
            return None
        if len(self.listings) > 1:
            raise InvalidRequest("--metadata describes one folder, and several are named", "index one folder at a time")
        (folder,) = self.sources.read.values()
        return read_metadata(self.options.metadata, folder, self._paths())

    def undescribed(self, metadata: Sidecar) -> list[str]:
        """Paths in the metadata at which there is no image."""
        return metadata.unmatched(self._paths())

    def _paths(self) -> Iterator[str]:
        return (file.relative for file in self.inventory.files())

    def report(self) -> IndexReport:
        """A report with the skipped and ignored files of the listings."""
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
    """Read the state of the store and list the folders, whose files are added to the inventory.

    The other arguments are those of `build.index_folders`.

    Raises:
        SourceError: a folder cannot be used, or the new generation would lose one.
        InvalidRequest: a label is taken or differs from the index.
        UnfitGeneration: the live generation is missing or damaged.
    """
    live = _live(store)
    if live is None and (name := store.live()) is not None and not options.rebuild:
        raise UnfitGeneration(
            f"the live generation {name} of {store.url} is missing or damaged",
            "go back with `sceneseek index rollback`, or index all its folders again with --rebuild",
        )
    base = live if live is not None and fits(live, bundle) and not options.rebuild else None
    sources = join_sources(live.sources if live is not None else (), folders, options.forget)
    touched = {*sources.read, *sources.forgotten}
    left = [source.folder for number, source in enumerate(sources.every) if number not in touched]
    if base is None and left:
        # A generation that begins empty would lose their images.
        raise SourceError(
            f"a new generation begins empty, and the index also holds {', '.join(left)}",
            "name all its folders, remove some with --forget, or choose another --index",
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
    ours = (manifest.fingerprints.image, manifest.dimensions.joint, manifest.dimensions.image_head)
    return (info.image_fingerprint, info.joint, info.head) == ours


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
