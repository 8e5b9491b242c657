"""The interface to a vector database.

A `VectorStore` contains generations: collections of vectors, each encoded by one image graph. An alias points at the
live generation. A writer holds the lease of the store, see `writing`. `create` begins a generation that is not searched
yet, and `publish` moves the alias to it atomically. A generation that was not published, because its process was killed
or closed it, is `unfinished` until `resume` opens it or the next `create` removes it. A `Collection` is one open
generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from sceneseek.filters.conditions import Filter
from sceneseek.vectors import Candidates, Floats

JOINT, HEAD = "joint", "head"
# The number of candidates of an approximate search (`ef` in the HNSW paper, https://arxiv.org/abs/1603.09320), and how
# many times the limit are rescored with their full vectors. The engines' default `ef`, the number of rescored
# candidates, suits queries distributed like the vectors. Texts are not: with 100,000 vectors, the default lost 2 % of
# their nearest hundred, 512 loses 0.3 %. A generation may need more: see `sceneseek_indexer.generation_check`.
SEARCH_EF, OVERSAMPLING = 512, 2.0
FieldType: TypeAlias = Literal["keyword", "integer", "float", "datetime", "geo", "bool"]


@dataclass(frozen=True, slots=True)
class Source:
    """A folder that was indexed: its absolute path or its URL, and the label that is part of its images' ids.

    The label of a generation's first folder is empty, unless the user gave it one.
    """

    label: str
    folder: str


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """The record of a generation.

    Attributes:
        name: the generation's name.
        image_fingerprint: the image fingerprint of the bundle that encoded it.
        joint: width of the joint vectors.
        head: width of the head vectors; 0 if the head reads the joint space only.
        sources: the folders that were indexed; a point's payload has the number of its folder.
        created: ISO 8601, UTC.
        bundle: the absolute directory of the bundle that encoded it; empty if unknown.
        indexed: the type of the payload index, by field name as in a filter. A condition on such a field matches
            values of this type only.
        mounts: mount points at and below each source, by its number as text; an empty path is the source itself.
        skipped: the number of files that could not be used, by reason; set when it is published.
        search_ef: the number of candidates of an approximate search.
    """

    name: str
    image_fingerprint: str
    joint: int
    head: int
    sources: tuple[Source, ...]
    created: str
    bundle: str = ""
    indexed: dict[str, FieldType] = field(default_factory=dict)
    mounts: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    search_ef: int = SEARCH_EF

    def completed(self, skipped: Mapping[str, int] | None) -> CollectionInfo:
        """The record to publish; see `VectorStore.publish`."""
        return self if skipped is None else replace(self, skipped=dict(skipped))


@dataclass(frozen=True, slots=True)
class Point:
    """One image: id (a UUID as text), `joint` (D,), `head` (H,) and payload (JSON values)."""

    id: str
    joint: Floats
    head: Floats
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """A stored point's id and payload."""

    id: str
    payload: dict[str, Any]


class StoredVectors(NamedTuple):
    """The vectors of one point: `joint` (D,) and `head` (H,), H may be 0."""

    joint: Floats
    head: Floats


class Collection(Protocol):
    """One open generation."""

    info: CollectionInfo

    def upsert(self, points: Sequence[Point]) -> None:
        """Insert points, or replace those with the same id; durable when it returns."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points; unknown ids are ignored."""

    def nearest(
        self,
        joint: Floats,
        limit: int,
        vectors: Sequence[str] = (),
        exact: bool = False,
        where: Filter | None = None,
        deadline: float | None = None,
    ) -> Candidates:
        """The nearest points by joint-space cosine, best first.

        Args:
            joint: (D,), of length 1.
            limit: the largest number of points.
            vectors: which of ``joint`` and ``head`` to return.
            exact: compare with every point instead of using the graph.
            where: restricts the search to points that satisfy this filter.
            deadline: when the caller stops waiting, on the clock of `time.monotonic`.

        Raises:
            IndexUnavailable: the server does not respond before the deadline.
            DeadlinePassed: the deadline has passed.
        """

    def retrieve(self, ids: Sequence[str], deadline: float | None = None) -> list[Record]:
        """The records of these ids that exist, in the order of the ids; `deadline` as for `nearest`."""

    def vectors(self, ids: Sequence[str], deadline: float | None = None) -> dict[str, StoredVectors]:
        """The vectors of these ids that exist."""

    def set_payload(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change payload fields of points; vectors and other fields are kept.

        Args:
            changes: the fields to set, by id of an existing point; None removes a field.
        """

    def scroll(self, batch: int = 1024, deadline: float | None = None) -> Iterator[Record]:
        """Every record, read in batches; `deadline` applies to each read, as for `nearest`."""

    def count(self, deadline: float | None = None) -> int:
        """The exact number of points."""

    def optimize(self) -> None:
        """Build the search graph. May take minutes; call it before publishing, never while serving."""

    def close(self) -> None:
        """Write everything to disk and release the generation; if not published, it stays `unfinished`."""


class VectorStore(Protocol):
    """The generations behind one URL, and the alias that points at the live one."""

    url: str

    def live(self) -> str | None:
        """The name of the live generation, which the alias points at; None if there is none. Cheap."""

    def generations(self) -> list[CollectionInfo]:
        """All published generations, oldest first."""

    def writing(self, wait: bool = True) -> AbstractContextManager[None]:
        """Hold the lease of the store for a block: one writer at a time. The lease ends with its process.

        Call `create`, `resume`, `publish`, `switch` and `discard` in such a block. If a writer is paused or
        disconnected and another one takes over its lease, its next write fails.

        Args:
            wait: log a warning and wait for another writer to end; if False, fail immediately.

        Raises:
            IndexUnavailable: another writer holds the lease and `wait` is False, or the store cannot be written.
        """

    def create(self, info: CollectionInfo, base: str | None = None, images: int = 0) -> Collection:
        """Begin a new generation, empty or as a copy of generation `base`; unfinished generations are removed.

        Args:
            info: of the new generation.
            base: the generation to copy.
            images: the number of images to write, to check for disk space if the engine can.

        Raises:
            IndexUnavailable: the disk is full, or `base` is missing or damaged.
        """

    def unfinished(self) -> list[CollectionInfo]:
        """The unpublished generations that were begun while the current live generation was live."""

    def building(self) -> bool:
        """Whether a process holds the lease now; cheap.

        On a server, the lease of a dead process counts for some seconds after the first call.
        """

    def resume(self, name: str) -> Collection:
        """Open an unfinished generation, with all points whose `upsert` returned, and remove the other unfinished ones.

        Raises:
            IndexUnavailable: the generation is missing or damaged.
        """

    def open(self, name: str, wait: bool = True) -> Collection:
        """Open a published generation for searching.

        Args:
            name: the generation.
            wait: if another process holds it, wait briefly; if False, fail immediately.

        Raises:
            IndexUnavailable: it is missing, damaged, or held by another process.
        """

    def glance(self, name: str) -> Collection:
        """Open a published generation for reading, even if another process holds it.

        Raises:
            IndexUnavailable: it is missing or damaged.
        """

    def publish(self, collection: Collection, skipped: Mapping[str, int] | None = None) -> None:
        """Close a generation that `create` began and point the alias at it, atomically.

        The previous live generation is kept for rollback; older ones that are not in use are removed.

        Args:
            collection: the complete generation.
            skipped: the number of files that could not be used, by reason; None keeps the value of its record.
        """

    def switch(self, name: str) -> None:
        """Point the alias at a published generation, atomically.

        Raises:
            IndexUnavailable: it is missing.
        """

    def verify(self, name: str) -> None:
        """Compare the files of a published generation with their checksums; a server checks its own files.

        Raises:
            UnfitGeneration: a file is missing or damaged.
            IndexUnavailable: the generation is missing.
        """

    def size(self, name: str) -> int:
        """The number of points of a published generation, without opening it.

        Raises:
            IndexUnavailable: it is missing.
        """

    def report_directory(self) -> Path | None:
        """The directory of the reports of indexing runs; None on a server."""

    def discard(self, collection: Collection) -> None:
        """Close and remove an unpublished generation."""
