"""A folder's way into the index: list -> load -> encode -> upsert -> optimise -> check -> publish.

The run builds a generation that nobody searches yet: a copy of the live one where the same bundle filled
it from the same folder, so that only what changed is encoded, else an empty one. The alias moves when
the generation is complete and checked; whatever happens before leaves the live one as it was.
"""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from indexer.duplicates import mark_duplicates
from indexer.load import Loaded, load
from indexer.pipeline import batched, bounded_map
from indexer.receipt import Receipt
from indexer.sidecar import Sidecar
from indexer.walk import ImageFile, Listing, Skipped, list_images
from sceneseek.bundle import Bundle
from sceneseek.decode import MAX_PIXELS
from sceneseek.encoders import ImageEncoder
from sceneseek.errors import IndexUnavailable, SourceError
from sceneseek.payload import path_fields, point_id, relative_path
from sceneseek.progress import Progress
from sceneseek.runtime import Device
from sceneseek.store import Collection, CollectionInfo, Point, Source, VectorStore
from sceneseek.vectors import Vectors


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a run works.

    Attributes:
        device: where the image graph runs.
        workers: threads that load and threads that encode; 0 is one a core.
        batch: images in one run of the graph.
        max_pixels: larger pictures are skipped.
        max_skipped: share of the image files that may be skipped before the run fails; up to 100 always may.
        metadata: what is known of the images; None leaves what the index knows as it is.
    """

    device: Device = "auto"
    workers: int = 0
    batch: int = 16
    max_pixels: int = MAX_PIXELS
    max_skipped: float = 0.5
    metadata: Sidecar | None = None


def index_folder(folder: Path, bundle: Bundle, store: VectorStore, options: BuildOptions | None = None) -> Receipt:
    """Bring the live generation up to date with a folder.

    Raises:
        SourceError: the folder cannot be used, or too many of its images cannot.
        IndexUnavailable: the index cannot be written, or another process writes it.
    """
    return index_listing(folder, list_images(folder), bundle, store, options)


def index_listing(
    folder: Path, listing: Listing, bundle: Bundle, store: VectorStore, options: BuildOptions | None = None
) -> Receipt:
    """`index_folder` for a listing that was made (or chosen from) already."""
    options = options or BuildOptions()
    run = _Run(folder.resolve(), listing, bundle, store, options)
    return run.execute()


class _Run:
    """One indexing run; `execute` is its whole story."""

    def __init__(self, root: Path, listing: Listing, bundle: Bundle, store: VectorStore, options: BuildOptions) -> None:
        self._root, self._listing, self._bundle = root, listing, bundle
        self._store, self._options = store, options
        self._workers = options.workers or os.cpu_count() or 1
        self._receipt = Receipt(skipped=list(listing.skipped), ignored=listing.ignored)
        self._seconds = {"load": 0.0, "encode": 0.0, "upsert": 0.0, "optimise": 0.0, "compare": 0.0}
        self._now = datetime.now(UTC)
        self._new: list[str] = []
        # What the index knew of images that are encoded again; written again where no metadata is given.
        self._known: dict[str, dict[str, Any]] = {}

    def execute(self) -> Receipt:
        start = time.perf_counter()
        base = self._base()
        collection = self._store.create(self._info(), base)
        try:
            changed = self._fill(collection, base is not None)
            if changed:
                self._optimise(collection)
            self._compare(collection)
            if changed:
                self._check(collection)
        except BaseException:
            self._store.discard(collection)
            raise
        if changed:
            self._store.publish(collection)
            self._receipt.generation = collection.info.name
        else:
            self._store.discard(collection)
            self._receipt.generation = str(base)
        self._receipt.seconds = {**self._seconds, "total": time.perf_counter() - start}
        return self._receipt

    def _base(self) -> str | None:
        """The live generation, if this run can go on from it."""
        live = self._store.live()
        for info in self._store.generations():
            same_graph = info.image_fingerprint == self._bundle.manifest.fingerprints.image
            if info.name == live and same_graph and info.sources == (Source("", str(self._root)),):
                head_fits = info.head == self._bundle.manifest.dimensions.image_head
                return info.name if head_fits else None
        return None

    def _info(self) -> CollectionInfo:
        manifest = self._bundle.manifest
        stamp = self._now.strftime("%Y%m%dT%H%M%S")
        return CollectionInfo(
            name=f"{manifest.fingerprints.image[:12]}-{stamp}-{secrets.token_hex(3)}",
            image_fingerprint=manifest.fingerprints.image,
            joint=manifest.dimensions.joint,
            head=manifest.dimensions.image_head,
            sources=(Source("", str(self._root)),),
            created=self._now.isoformat(timespec="microseconds"),
            bundle=str(self._bundle.path.resolve()),
        )

    def _fill(self, collection: Collection, known_before: bool) -> bool:
        """Encode what is new or changed, remove what is gone; False if there was nothing to do."""
        known: dict[str, tuple[str, tuple[int, int] | None, dict[str, Any]]] = {}
        if known_before:
            for record in collection.scroll():
                payload = record.payload
                as_it_was = (payload["bytes"], payload["mtime_ns"])
                known[relative_path(payload)] = (record.id, as_it_was, payload.get("metadata", {}))
        todo: list[ImageFile] = []
        described: dict[str, dict[str, Any]] = {}
        for file in self._listing.files:
            identity, stamp, metadata = known.pop(file.relative, ("", None, {}))
            if stamp == (file.bytes, file.mtime_ns):
                self._receipt.unchanged += 1
                if self._options.metadata and self._options.metadata.differs(file.relative, metadata):
                    described[identity] = {"metadata": self._options.metadata.metadata(file.relative)}
            else:
                todo.append(file)
                self._known[file.relative] = metadata
        self._describe(collection, described)
        gone = [identity for identity, *_ in known.values()]
        for ids in batched(gone, 1024):
            collection.delete(ids)
        self._receipt.removed = len(gone)
        if todo:
            self._encode_all(todo, collection)
        if not self._receipt.indexed + self._receipt.unchanged:
            first = self._receipt.skipped[0]
            raise SourceError(
                f"none of the {len(self._receipt.skipped):,} images in {self._root} could be used "
                f"(the first, {path_fields(first.relative)['path']}: {first.what})",
                "name a folder of readable images",
            )
        return bool(self._receipt.indexed or gone or described)

    def _describe(self, collection: Collection, described: dict[str, dict[str, Any]]) -> None:
        """Write metadata that changed beside images that did not."""
        for ids in batched(described, 1024):
            collection.set_payload({identity: described[identity] for identity in ids})
        self._receipt.described += len(described)
        if self._options.metadata:
            self._receipt.undescribed = self._options.metadata.unmatched(file.relative for file in self._listing.files)

    def _encode_all(self, files: Sequence[ImageFile], collection: Collection) -> None:
        encoder = ImageEncoder(self._bundle, self._options.device, threads=1)
        with (
            ThreadPoolExecutor(self._workers, "load") as loaders,
            ThreadPoolExecutor(self._workers, "encode") as encoders,
            Progress("indexing", len(files), "images") as progress,
        ):
            for images, vectors in self._encoded(files, encoder, loaders, encoders, progress):
                start = time.perf_counter()
                points = list(self._points(images, vectors))
                collection.upsert(points)
                self._new += [point.id for point in points]
                self._seconds["upsert"] += time.perf_counter() - start
                self._receipt.indexed += len(images)
                progress.advance(len(images))

    def _encoded(
        self,
        files: Sequence[ImageFile],
        encoder: ImageEncoder,
        loaders: ThreadPoolExecutor,
        encoders: ThreadPoolExecutor,
        progress: Progress,
    ) -> Iterator[tuple[list[Loaded], Vectors]]:
        batch, limit = self._options.batch, self._options.max_pixels
        load_one = functools.partial(load, inputs=encoder.inputs, max_pixels=limit)
        outcomes = bounded_map(load_one, files, loaders, window=2 * batch + self._workers)
        usable = self._usable(outcomes, progress)

        def encode(images: list[Loaded]) -> tuple[list[Loaded], Vectors, float]:
            start = time.perf_counter()
            vectors = encoder.encode([image.pixels for image in images])
            return images, vectors, time.perf_counter() - start

        for images, vectors, seconds in bounded_map(encode, batched(usable, batch), encoders, self._workers + 1):
            self._seconds["encode"] += seconds
            yield images, vectors

    def _usable(self, outcomes: Iterable[Loaded | Skipped], progress: Progress) -> Iterator[Loaded]:
        """The images that could be loaded; the others go to the receipt, and too many end the run."""
        allowed = self._options.max_skipped * len(self._listing.files)
        for outcome in outcomes:
            if isinstance(outcome, Loaded):
                self._seconds["load"] += outcome.seconds
                yield outcome
                continue
            self._receipt.skipped.append(outcome)
            progress.advance()
            if len(self._receipt.skipped) > max(allowed, 100):
                raise SourceError(
                    f"{len(self._receipt.skipped):,} of {len(self._listing.files):,} images could not be used "
                    f"(the last, {path_fields(outcome.relative)['path']}: {outcome.what})",
                    "check the folder, or allow a larger share with --max-skipped",
                )

    def _points(self, images: Sequence[Loaded], vectors: Vectors) -> Iterator[Point]:
        for image, joint, head in zip(images, vectors.joint, vectors.head, strict=True):
            metadata = self._metadata(image.file.relative)
            self._receipt.described += bool(metadata and self._options.metadata)
            yield Point(
                id=point_id(image.file.relative),
                joint=joint,
                head=head,
                payload={
                    **path_fields(image.file.relative),
                    "source": 0,
                    "sha256": image.sha256,
                    "width": image.width,
                    "height": image.height,
                    "format": image.format,
                    "bytes": image.file.bytes,
                    "mtime_ns": image.file.mtime_ns,
                    "indexed_at": self._now.isoformat(timespec="seconds"),
                    "metadata": metadata,
                    "dhash": image.dhash,
                },
            )

    def _metadata(self, relative: str) -> dict[str, Any]:
        if self._options.metadata is None:
            return self._known.get(relative, {})
        return self._options.metadata.metadata(relative)

    def _compare(self, collection: Collection) -> None:
        start = time.perf_counter()
        self._receipt.duplicates = mark_duplicates(collection, self._new)
        self._seconds["compare"] = time.perf_counter() - start

    def _optimise(self, collection: Collection) -> None:
        start = time.perf_counter()
        collection.optimize()
        self._seconds["optimise"] = time.perf_counter() - start

    def _check(self, collection: Collection) -> None:
        expected, found = self._receipt.indexed + self._receipt.unchanged, collection.count()
        if found != expected:
            raise IndexUnavailable(
                f"the new generation holds {found:,} images where {expected:,} were indexed",
                "index the folder again; the live generation was left as it is",
            )
