"""What a run has to do with, found before it touches the index: the live generation, the sources, their files.

A folder that the index knows keeps its number and its label, so its images keep their ids. The first folder has no
label; a later one is labelled by its name, or as the user wrote it: LABEL=DIR.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from sceneseek.bundle import Bundle
from sceneseek.errors import IndexUnavailable, InvalidRequest, SourceError
from sceneseek.store import CollectionInfo, Source, VectorStore
from sceneseek_indexer.encode import hash_contents
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.report import IndexReport
from sceneseek_indexer.sidecar import Sidecar, read_metadata
from sceneseek_indexer.sync_plan import Known, Place, Plan, files_to_hash, make_plan
from sceneseek_indexer.walk import Listing, list_images


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that the user named, with the label that was given to it, if one was."""

    path: Path
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> Folder:
        """DIR or LABEL=DIR; what is a path as it stands is a path."""
        label, equals, path = text.partition("=")
        if equals and label and path and "/" not in label and not Path(text).exists():
            return cls(Path(path), label)
        return cls(Path(text))


@dataclass(frozen=True, slots=True)
class Sources:
    """A generation's sources: all of them, those that a run reads (folders by number), and those it forgets."""

    every: tuple[Source, ...]
    read: dict[int, Path]
    forgotten: frozenset[int] = frozenset()

    def untouched(self) -> list[Source]:
        """Those whose images stay as they are."""
        return [source for n, source in enumerate(self.every) if n not in self.read and n not in self.forgotten]


def every_folder(store: VectorStore) -> list[Folder]:
    """All folders of the live generation.

    Raises:
        IndexUnavailable: nothing is indexed there.
    """
    live = store.live()
    for info in store.generations():
        if info.name == live:
            return [Folder(Path(source.folder)) for source in info.sources]
    raise IndexUnavailable(f"nothing is indexed in {store.url}", "name the folders to index")


def join_sources(known: Sequence[Source], folders: Sequence[Folder], forget: Sequence[Path] = ()) -> Sources:
    """Give every named folder its number and label.

    Args:
        known: the sources of the generation that the run goes on from.
        folders: those to read.
        forget: folders whose images are to leave the index; their numbers are not given away.

    Raises:
        SourceError: folders lie in one another, so that an image would be indexed twice; or one to forget is unknown.
        InvalidRequest: a label is taken, or is another than the index knows.
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


def _number(path: Path, known: Sequence[Source]) -> int:
    for number, source in enumerate(known):
        if source.folder in (str(path), str(path.resolve())):
            return number
    folders = ", ".join(source.folder for source in known) or "none"
    raise SourceError(f"the index knows no folder {path}", f"it knows {folders}")


def _new_label(folder: Folder, others: Sequence[Source]) -> str:
    taken = {source.label for source in others}
    if folder.label is not None:
        if folder.label in taken:
            raise InvalidRequest(f"the label {folder.label} is another folder's", "choose another")
        return folder.label
    if not others:
        return ""
    name = folder.path.resolve().name or "folder"
    return next(label for label in chain([name], _numbered(name)) if label not in taken)


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}-{i}" for i in count(2))


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
    """What was found.

    Attributes:
        live: the live generation; None in an empty store.
        base: the same, if the run can go on from its copy.
        sources: those of the generation to build.
        listings: what the folders hold that are read, by the number of their source.
    """

    live: CollectionInfo | None
    base: CollectionInfo | None
    sources: Sources
    listings: dict[int, Listing]

    def plan(self, known: Mapping[Place, Known], options: BuildOptions) -> Plan:
        """Decide every image's outcome; reads the files whose content must be hashed for it."""
        every = {**self.listings, **{number: Listing() for number in self.sources.forgotten}}
        hashes = hash_contents(files_to_hash(self.listings.values(), known), options)
        pruned = [*self.sources.forgotten, *(self.listings if options.prune else ())]
        return make_plan(every, known, hashes, pruned)

    def metadata(self, options: BuildOptions) -> Sidecar | None:
        """What `options.metadata` names, which is of one folder.

        Raises:
            InvalidRequest: several folders are read.
            DataError: see `sceneseek_indexer.sidecar`.
        """
        if options.metadata is None:
            return None
        if len(self.listings) > 1:
            raise InvalidRequest("metadata is of one folder, and several are read", "index one folder at a time")
        ((number, listing),) = self.listings.items()
        return read_metadata(options.metadata, self.sources.read[number], self._paths(listing))

    def undescribed(self, metadata: Sidecar) -> list[str]:
        """Paths in the metadata at which there is no image."""
        return metadata.unmatched(path for listing in self.listings.values() for path in self._paths(listing))

    @staticmethod
    def _paths(listing: Listing) -> list[str]:
        return [file.relative for file in listing.files]

    def report(self) -> IndexReport:
        """A report that counts what the listings pass over."""
        report = IndexReport(skipped=[entry for listing in self.listings.values() for entry in listing.skipped])
        for listing in self.listings.values():
            report.ignore(listing.ignored)
        return report


def scan_sources(
    folders: Sequence[Folder],
    bundle: Bundle,
    store: VectorStore,
    options: BuildOptions,
    withheld: Mapping[str, set[str]] | None = None,
    listing: Listing | None = None,
) -> SourceScan:
    """Look at the store and at the folders.

    Args:
        folders: those to read.
        bundle: whose image graph is to fill the index.
        store: where the generations are.
        options: how the run works.
        withheld: images to leave for a later run: paths by folder, absolute.
        listing: the one folder's, where it was made (or chosen from) already.

    Raises:
        SourceError: a folder cannot be used, or one that the index knows would be lost.
        InvalidRequest: a label does not fit.
    """
    name = store.live()
    live = next((info for info in store.generations() if info.name == name), None)
    base = live if live is not None and fits(live, bundle) and not options.rebuild else None
    sources = join_sources(live.sources if live is not None else (), folders, options.forget)
    if base is None and (left := sources.untouched()):
        # A generation that begins empty would lose them.
        raise SourceError(
            f"a new generation begins empty, and the index also holds {', '.join(source.folder for source in left)}",
            "name all its folders, let some go with --forget, or choose another --index",
        )
    if listing is not None:
        return SourceScan(live, base, sources, dict.fromkeys(sources.read, listing))
    return SourceScan(live, base, sources, _list(sources, options, withheld or {}))


def fits(info: CollectionInfo, bundle: Bundle) -> bool:
    """Whether a bundle's image graph filled a generation, or would fill it alike."""
    manifest = bundle.manifest
    ours = (manifest.fingerprints.image, manifest.dimensions.joint, manifest.dimensions.image_head)
    return (info.image_fingerprint, info.joint, info.head) == ours


def _list(sources: Sources, options: BuildOptions, withheld: Mapping[str, set[str]]) -> dict[int, Listing]:
    listings = {}
    for number, folder in sources.read.items():
        listing = list_images(folder, options.patterns, number)
        if later := withheld.get(sources.every[number].folder):
            listing.files = [file for file in listing.files if file.relative not in later]
            listing.withheld = later
        listings[number] = listing
    return listings
