"""What a run has to do with, found before it touches the index: the live generation, the sources, their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sceneseek.bundle import Bundle
from sceneseek.errors import InvalidRequest, SourceError
from sceneseek.store import CollectionInfo, VectorStore
from sceneseek_indexer.encode import hash_contents
from sceneseek_indexer.known import Known
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.plan import Place, Plan, make_plan, questions
from sceneseek_indexer.receipt import Receipt
from sceneseek_indexer.sidecar import Sidecar, read_metadata
from sceneseek_indexer.sources import Folder, Sources, join_sources
from sceneseek_indexer.walk import Listing, list_images


@dataclass(frozen=True, slots=True)
class Survey:
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
        """Decide every image's fate; reads the files whose content must be hashed for it."""
        every = {**self.listings, **{number: Listing() for number in self.sources.forgotten}}
        hashes = hash_contents(questions(self.listings.values(), known), options)
        pruned = [*self.sources.forgotten, *(self.listings if options.prune else ())]
        return make_plan(every, known, hashes, pruned)

    def metadata(self, options: BuildOptions) -> Sidecar | None:
        """What `options.metadata` names, which is of one folder.

        Raises:
            InvalidRequest: several folders are read.
            DataError: see `sceneseek_indexer.sidecar`.
        """
        if options.metadata is None or isinstance(options.metadata, Sidecar):
            return options.metadata
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

    def receipt(self) -> Receipt:
        """A receipt that counts what the listings pass over."""
        receipt = Receipt(skipped=[entry for listing in self.listings.values() for entry in listing.skipped])
        for listing in self.listings.values():
            receipt.ignore(listing.ignored)
        return receipt


def survey(
    folders: Sequence[Folder],
    bundle: Bundle,
    store: VectorStore,
    options: BuildOptions,
    withheld: Mapping[str, set[str]] | None = None,
    listing: Listing | None = None,
) -> Survey:
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
        return Survey(live, base, sources, dict.fromkeys(sources.read, listing))
    return Survey(live, base, sources, _list(sources, options, withheld or {}))


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
