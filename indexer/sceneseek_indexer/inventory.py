"""The inventory of a run: the listed files and the images of the index, in a temporary database.

So memory does not grow with their number. The database takes up to 500 bytes per image. Paths are stored as bytes,
since they may contain surrogate escapes, in an encoding that sorts like Python strings.
"""

from __future__ import annotations

import contextlib
import pickle
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from sceneseek.errors import IndexUnavailable
from sceneseek.payload import relative_path, user_metadata
from sceneseek.sources import Root
from sceneseek.store import Collection, VectorStore
from sceneseek_indexer.sidecar import Sidecar
from sceneseek_indexer.temporary_database import Row, View, temporary_database
from sceneseek_indexer.walk import ImageFile, Skipped

Item_co = TypeVar("Item_co", covariant=True)
Key = TypeVar("Key")
Value = TypeVar("Value")
Place = tuple[int, str]
"""The number of an image's source, and its path relative to the source."""


class SizedIterable(Protocol[Item_co]):
    """Items that can be counted and iterated repeatedly, not necessarily in memory."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item_co]: ...


class Known(NamedTuple):
    """An image of the index: its place, and the state of its file when it was indexed.

    Attributes:
        fresh: whether an interrupted run wrote it; False if it was copied from the live generation.
        described: whether it has user metadata.
        outdated: whether this metadata differs from that of the run.
        unread: whether the run reads text in pictures, and the text of this image has not been read.
    """

    id: str
    source: int
    relative: str
    bytes: int
    mtime_ns: int
    sha256: str
    fresh: bool = False
    described: bool = False
    outdated: bool = False
    ctime_ns: int = 0
    unread: bool = False


def place(image: ImageFile | Known | Skipped) -> Place:
    """Return the place of an image."""
    return image.source, image.relative


def known_images(
    collection: Collection, resumed: bool = False, metadata: Sidecar | None = None, ocr: bool = False
) -> Iterator[Known]:
    """Yield every image of a generation, compared with the metadata of the run, if any.

    Args:
        collection: the generation.
        resumed: whether it was created by an interrupted run.
        metadata: of the run.
        ocr: whether the run reads text in pictures.
    """
    for record in collection.scroll():
        payload, relative = record.payload, relative_path(record.payload)
        yield Known(
            record.id,
            payload["source"],
            relative,
            payload["bytes"],
            payload["mtime_ns"],
            payload["sha256"],
            # Both are start times of runs; copied images were indexed by an earlier run.
            resumed and payload["indexed_at"] >= collection.info.created,
            bool(user_metadata(payload)),
            metadata is not None and metadata.differs(relative, payload),
            payload.get("ctime_ns", 0),
            ocr and "ocr" not in payload,
        )


def images_of(store: VectorStore, name: str, metadata: Sidecar | None = None, ocr: bool = False) -> Iterator[Known]:
    """Yield every image of a published generation, even if another process has locked it; see `known_images`.

    Raises:
        IndexUnavailable: it does not exist or is damaged.
    """
    with contextlib.closing(_published(store, name)) as collection:
        yield from known_images(collection, metadata=metadata, ocr=ocr)


def metadata_of(store: VectorStore, name: str) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the place and the user metadata of each image of a published generation that has any.

    Raises:
        IndexUnavailable: it does not exist or is damaged.
    """
    with contextlib.closing(_published(store, name)) as collection:
        for record in collection.scroll():
            if own := user_metadata(record.payload):
                yield (record.payload["source"], relative_path(record.payload)), own


def _published(store: VectorStore, name: str) -> Collection:
    try:
        return store.open(name, wait=False)
    except IndexUnavailable:
        return store.glance(name)  # another process has locked it


_SCHEMA = """
CREATE TABLE file (source INT, relative, bytes INT, mtime_ns, ctime_ns, number INTEGER PRIMARY KEY);
CREATE TABLE image (
    id, source INT, relative, bytes INT, mtime_ns, sha256, fresh, described, outdated, ctime_ns, unread,
    number INTEGER PRIMARY KEY
);
CREATE TABLE pair (file INTEGER PRIMARY KEY, image INT, outcome, origin INT);
CREATE TABLE hash (file INTEGER PRIMARY KEY, sha256);
CREATE TABLE item (number INTEGER PRIMARY KEY, mapping INT, key, value, UNIQUE (mapping, key));
"""
# Executed once files and images are added. The ctime reveals edits that restore the mtime.
_COMPARE = (
    "CREATE INDEX file_at ON file (source, relative)",
    "CREATE INDEX image_at ON image (source, relative, bytes, mtime_ns, ctime_ns, unread, fresh)",
    """
    INSERT INTO pair (file, image, outcome)
    SELECT file.number, image.number, CASE
        WHEN (file.bytes, file.mtime_ns, file.ctime_ns) = (image.bytes, image.mtime_ns, image.ctime_ns)
        THEN CASE WHEN unread THEN 'unread' WHEN fresh THEN 'resumed' ELSE 'unchanged' END END
    FROM file LEFT JOIN image USING (source, relative) ORDER BY file.number
    """,
)


@contextlib.contextmanager
def open_inventory() -> Iterator[Inventory]:
    """Create an empty inventory for the block.

    Raises:
        IndexUnavailable: see `temporary_database`.
    """
    with temporary_database(_SCHEMA) as database:
        yield Inventory(database)


class Inventory:
    """The files and the images of one run.

    Attributes:
        database: has the tables `file`, in listing order; `image`, in index order; `pair`: for each file, the image at
            its place, and the outcome `unchanged`, `resumed` (unchanged and fresh) or `unread` if size and times are
            the same; and `hash`: the sha256 of the files that were hashed.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        self._adding = database.cursor()
        self._roots: dict[int, Root] = {}
        self._mappings = 0

    def add_file(self, file: ImageFile) -> None:
        """Add a listed file. All files must be added before the images."""
        self._roots[file.source] = file.folder
        row = (file.source, _as_bytes(file.relative), file.bytes, _number(file.mtime_ns), _number(file.ctime_ns))
        self._adding.execute("INSERT INTO file VALUES (?, ?, ?, ?, ?, NULL)", row)

    def add_images(self, images: Iterable[Known]) -> None:
        """Add all images of the index; must be called exactly once."""
        rows = (
            (identity, source, _as_bytes(relative), size, _number(mtime_ns), *facts, _number(ctime_ns), unread)
            for identity, source, relative, size, mtime_ns, *facts, ctime_ns, unread in images
        )
        self.database.executemany("INSERT INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", rows)
        for statement in _COMPARE:
            self.database.execute(statement)

    def add_hashes(self, hashes: Iterable[tuple[ImageFile, str]]) -> None:
        """Add the sha256 of files."""
        rows = ((sha256, file.source, _as_bytes(file.relative)) for file, sha256 in hashes)
        self.database.executemany("INSERT INTO hash SELECT number, ? FROM file WHERE source = ? AND relative = ?", rows)

    def files(self) -> View[ImageFile]:
        """All files."""
        return View(self.database, self.as_file, "SELECT * FROM file ORDER BY number")

    def images(self) -> View[Known]:
        """All images."""
        return View(self.database, as_image, "SELECT * FROM image ORDER BY number")

    def fresh(self) -> View[Known]:
        """The images that an interrupted run wrote."""
        return View(self.database, as_image, "SELECT * FROM image WHERE fresh ORDER BY number")

    def count_images(self, source: int) -> int:
        """The number of images of a source."""
        return len(View(self.database, as_image, "SELECT * FROM image WHERE source = ?", (source,)))

    def has_image(self, at: Place) -> bool:
        """Whether the index has an image at a place."""
        return self._has("SELECT 1 FROM image WHERE source = ? AND relative = ?", at)

    def has(self, at: Place) -> bool:
        """Whether a file or an image exists at a place."""
        return self.has_image(at) or self._has("SELECT 1 FROM file WHERE source = ? AND relative = ?", at)

    def _has(self, query: str, at: Place) -> bool:
        return self.database.execute(query, (at[0], _as_bytes(at[1]))).fetchone() is not None

    def mapping(self) -> StoredMapping[Any, Any]:
        """Create a mapping that is stored in the database."""
        self._mappings += 1
        return StoredMapping(self.database, self._mappings)

    def as_file(self, row: Row) -> ImageFile:
        """Convert a row of `file`."""
        source, relative, size, mtime_ns, ctime_ns = row[:5]
        return ImageFile(as_path(relative), self._roots[source], size, int(mtime_ns), source, int(ctime_ns))


def as_image(row: Row) -> Known:
    """Convert a row of `image`."""
    return Known._make((*row[:2], as_path(row[2]), row[3], int(row[4]), *row[5:9], int(row[9]), row[10]))


class StoredMapping(Generic[Key, Value]):
    """A mapping of keys with distinct `repr` to picklable values."""

    def __init__(self, database: sqlite3.Connection, number: int) -> None:
        self._database, self._number = database, number

    def __setitem__(self, key: Key, value: Value) -> None:
        self._database.execute(
            "INSERT INTO item (mapping, key, value) VALUES (?, ?, ?) "
            "ON CONFLICT (mapping, key) DO UPDATE SET value = excluded.value",
            (self._number, repr(key), pickle.dumps(value)),
        )

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, or None."""
        query = "SELECT value FROM item WHERE mapping = ? AND key = ?"
        return next(iter(View(self._database, _unpickled, query, (self._number, repr(key)))), None)

    def values(self) -> View[Value]:
        """All values, in the order in which their keys were first set."""
        query = "SELECT value FROM item WHERE mapping = ? ORDER BY number"
        return View(self._database, _unpickled, query, (self._number,))


def _unpickled(row: Row) -> Any:
    return pickle.loads(row[0])  # noqa: S301 - pickled by this process, in a file that no other process can open


def _as_bytes(relative: str) -> bytes:
    return relative.encode("utf-8", "surrogatepass")


def as_path(stored: bytes) -> str:
    """Convert the bytes of a path in the database."""
    return stored.decode("utf-8", "surrogatepass")


def _number(time_ns: int) -> int | str:
    """Convert a time for the database: from the year 2262 on, it does not fit in 63 bits."""
    return time_ns if time_ns < 1 << 63 else str(time_ns)
