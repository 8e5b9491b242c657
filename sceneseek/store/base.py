"""The interface to a vector database.

A `VectorStore` contains generations: collections, each filled by one image graph. An alias points at the live one. A
writer holds the store's lease, `writing`. `create` begins a generation that is not searched yet, and `publish` moves
the alias to it atomically. A generation that was begun and not published, because its process was killed or closed it,
is `unfinished` until `resume` opens it or the next `create` removes it. A `Collection` is one open generation.
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
# An approximate search keeps so many candidates (`ef` in HNSW's paper, https://arxiv.org/abs/1603.09320) and compares
# so many times the limit by their full vectors. The engines' own `ef`, as large as what is compared, is for queries
# distributed as the vectors are; texts are not: with 100,000 vectors it lost 2 % of their nearest hundred, this 0.3 %.
# A generation may need more: see `sceneseek_indexer.generation_check`.
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
        image_fingerprint: of the bundle that filled it.
        joint: width of the joint vectors.
        head: width of the head vectors; 0 if the head reads the joint space only.
        sources: the folders that were indexed; a point's payload has the number of its folder.
        created: ISO 8601, UTC.
        bundle: the directory of the bundle that filled it, absolute; empty if unknown.
        indexed: payload fields, named as in a filter, that have an index of this type. A condition on such a field
            finds values of its type only.
        mounts: mount points at and below each source, by its number as text; an empty path is the source itself.
        skipped: the number of files that could not be used, by reason; known once it is published.
        search_ef: how many candidates an approximate search of it keeps.
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
        """The record of the published generation; see `VectorStore.publish`."""
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
        """Insert points, or replace those of the same id; durable when it returns."""

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
            where: only points that satisfy this.
            deadline: when the caller stops waiting, on the clock of `time.monotonic`.

        Raises:
            IndexUnavailable: a server does not answer, or not before the deadline.
            DeadlinePassed: the deadline has passed.
        """

    def retrieve(self, ids: Sequence[str], deadline: float | None = None) -> list[Record]:
        """The records of these ids that exist, in the order of the ids; `deadline` as for `nearest`."""

    def vectors(self, ids: Sequence[str], deadline: float | None = None) -> dict[str, StoredVectors]:
        """The vectors of those ids that exist."""

    def set_payload(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change fields of points' payloads; vectors and other fields stay as they are.

        Args:
            changes: the fields to set, by id of an existing point; a field of None is removed.
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
        """The name of the generation that the alias points at; cheap."""

    def generations(self) -> list[CollectionInfo]:
        """All published generations, oldest first."""

    def writing(self, wait: bool = True) -> AbstractContextManager[None]:
        """Hold the store's lease for a block: one writer at a time. The lease ends with its process.

        `create`, `resume`, `publish`, `switch` and `discard` are called inside such a block. A writer that was paused
        or disconnected until another one took over the lease gets an error at its next write.

        Args:
            wait: wait for another writer, after one line in the log; else fail at once.

        Raises:
            IndexUnavailable: another writer holds the lease and `wait` is False, or the store cannot be written.
        """

    def create(self, info: CollectionInfo, base: str | None = None, images: int = 0) -> Collection:
        """Begin a new generation, empty or as a copy of generation `base`; unfinished generations are removed.

        Args:
            info: of the new generation.
            base: the generation to copy.
            images: how many will be written, for which there must be space on the disk where the store can tell.

        Raises:
            IndexUnavailable: the disk is full, or `base` is missing or damaged.
        """

    def unfinished(self) -> list[CollectionInfo]:
        """The generations that were begun while the present live one was live, and not published."""

    def building(self) -> bool:
        """Whether a process holds the lease now; cheap.

        On a server, the lease of a dead process counts for some seconds after the first call.
        """

    def resume(self, name: str) -> Collection:
        """Open an unfinished generation, which has every point whose `upsert` returned; others are removed.

        Raises:
            IndexUnavailable: the generation is missing or damaged.
        """

    def open(self, name: str, wait: bool = True) -> Collection:
        """Open a published generation for searching.

        Args:
            name: the generation.
            wait: wait a moment for another process that holds it; else fail at once.

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

        The previous live generation stays, for rollback; older ones that are not in use are removed.

        Args:
            collection: the complete generation.
            skipped: the number of files that could not be used, by reason; None keeps that of its record.
        """

    def switch(self, name: str) -> None:
        """Point the alias at a published generation, atomically.

        Raises:
            IndexUnavailable: it is missing.
        """

    def verify(self, name: str) -> None:
        """Compare the files of a published generation with their checksums; a server answers for its own files.

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
        """Close and remove a generation that was begun and not published."""
