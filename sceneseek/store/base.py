"""The seam between the product and a vector database.

A `VectorStore` holds generations: collections, each filled by one image graph. An alias points at the
live one. Whoever writes holds the store's lease, `writing`. Under it `create` begins a generation that nobody
searches yet, `publish` switches the alias to it in one atomic step. One that was begun and not published, because
its process was killed or closed it, is `unfinished` until `resume` goes on with it or the next `create` sweeps it
away. A `Collection` is one open generation.
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
FieldType: TypeAlias = Literal["keyword", "integer", "float", "datetime", "geo", "bool"]


@dataclass(frozen=True, slots=True)
class Source:
    """A folder that was indexed: its absolute path, and the label that tells its images from another's.

    The label of a generation's first folder is empty, unless the user gave it one.
    """

    label: str
    folder: str


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a generation records of itself.

    Attributes:
        name: the generation's name.
        image_fingerprint: that of the bundle that filled it.
        joint: width of the joint vectors.
        head: width of the head vectors; 0 where the head reads the joint space only.
        sources: the folders that were indexed; a point's payload names its folder by its number here.
        created: ISO 8601, UTC.
        bundle: the directory of the bundle that filled it, absolute; empty where that is not known.
        indexed: payload fields, named as in a filter, that get an index of their type. A condition on one
            with an index finds values of that type only.
        skipped: how many files the run that filled it could not use, by reason; known once it is published.
    """

    name: str
    image_fingerprint: str
    joint: int
    head: int
    sources: tuple[Source, ...]
    created: str
    bundle: str = ""
    indexed: dict[str, FieldType] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    def completed(self, skipped: Mapping[str, int] | None) -> CollectionInfo:
        """With what is known only once the generation is complete; see `VectorStore.publish`."""
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
    """What one point holds: `joint` (D,) and `head` (H,), H may be 0."""

    joint: Floats
    head: Floats


class Collection(Protocol):
    """One open generation."""

    info: CollectionInfo

    def upsert(self, points: Sequence[Point]) -> None:
        """Insert points, or replace those of the same id; durable when it returns."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points; ids that are not there are no error."""

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
            limit: how many at most.
            vectors: which of ``joint`` and ``head`` to bring along.
            exact: compare with every point instead of using the graph.
            where: only points that satisfy this.
            deadline: when the caller has no use for the answer any more, on the clock of `time.monotonic`.

        Raises:
            IndexUnavailable: a server does not answer, or not before the deadline.
            DeadlinePassed: the deadline is over.
        """

    def retrieve(self, ids: Sequence[str], deadline: float | None = None) -> list[Record]:
        """The records of these ids that exist, in the order of the ids; `deadline` as for `nearest`."""

    def vectors(self, ids: Sequence[str], deadline: float | None = None) -> dict[str, StoredVectors]:
        """The vectors of those ids that exist, so that a point can be written again without encoding its image."""

    def set_payload(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change fields of points' payloads; vectors and other fields stay as they are.

        Args:
            changes: by id of a point that exists, the fields to set; a field of None is removed.
        """

    def scroll(self, batch: int = 1024, deadline: float | None = None) -> Iterator[Record]:
        """Every record, so many at a time; `deadline` of each of these reads, as for `nearest`."""

    def count(self, deadline: float | None = None) -> int:
        """The exact number of points."""

    def optimize(self) -> None:
        """Build what makes search fast. May take minutes; call it before publishing, never while serving."""

    def close(self) -> None:
        """Make everything durable and release the generation; one that was not published stays `unfinished`."""


class VectorStore(Protocol):
    """The generations behind one URL, and the alias that points at the live one."""

    url: str

    def live(self) -> str | None:
        """The name of the generation that the alias points at. Cheap: a server asks at every query."""

    def generations(self) -> list[CollectionInfo]:
        """All generations that were published once and are still there, oldest first."""

    def writing(self, wait: bool = True) -> AbstractContextManager[None]:
        """Hold the store's lease in a block: one writer at a time, which ends with its process, however that ends.

        `create`, `resume`, `publish`, `switch` and `discard` are called inside such a block. A writer that was paused
        or cut off for so long that another one took the lease over gets an error at its next write.

        Args:
            wait: for another writer, after one line in the log that says whom; else fail at once.

        Raises:
            IndexUnavailable: another writer holds the lease (without `wait`), or the store cannot be written.
        """

    def create(self, info: CollectionInfo, base: str | None = None) -> Collection:
        """Begin a generation nobody searches yet, empty or as a copy of generation `base`.

        Unfinished generations are swept away.

        Raises:
            IndexUnavailable: the medium is full, or `base` is gone or damaged.
        """

    def unfinished(self) -> list[CollectionInfo]:
        """The generations that `create` began beside the live one of now and that nobody published."""

    def building(self) -> bool:
        """Whether a process holds the lease now. Cheap, and no hindrance to that process.

        A server's lease of a dead process counts for some seconds after the first look.
        """

    def resume(self, name: str) -> Collection:
        """Go on with an unfinished generation, which holds every point whose `upsert` returned; others are swept away.

        Raises:
            IndexUnavailable: the generation is gone or damaged.
        """

    def open(self, name: str) -> Collection:
        """Open a published generation for searching.

        Raises:
            IndexUnavailable: it is gone, damaged, or held by another process.
        """

    def glance(self, name: str) -> Collection:
        """Open a published generation to read it, also where another process holds it; nothing in the store changes.

        Raises:
            IndexUnavailable: it is gone or damaged.
        """

    def publish(self, collection: Collection, skipped: Mapping[str, int] | None = None) -> None:
        """Close a generation that `create` began and point the alias at it, atomically.

        The generation that was live before stays, for rollback; older ones that nobody searches go.

        Args:
            collection: the generation, complete.
            skipped: how many files could not be used, by reason, for it to record; as it was created if None.
        """

    def switch(self, name: str) -> None:
        """Point the alias at a generation that was published once, atomically: the way back.

        Raises:
            IndexUnavailable: it is gone.
        """

    def size(self, name: str) -> int:
        """How many points a published generation holds, without opening it.

        Raises:
            IndexUnavailable: it is gone.
        """

    def report_directory(self) -> Path | None:
        """Where reports of indexing runs are kept beside the generations; None where there is no such directory."""

    def discard(self, collection: Collection) -> None:
        """Close and remove a generation that `create` began and that will not be published."""
