"""The embedded engine: Qdrant Edge, which runs in the process.

    DIR/
    ├── alias-images            the alias: the name of the live generation, replaced atomically
    ├── writer.lock             the lease: held in a `writing` block
    ├── generations/glance-*    a read-only view of a generation that another process holds: links to its constant files
    └── generations/NAME/
        ├── building.json       a CollectionInfo and the previous live generation; removed after the alias has moved
        ├── generation.json     a CollectionInfo, the number of points, checksums; written just before the alias moves
        ├── owner.lock          held by the process that has the shard open
        └── shard/              the files of the engine

The files define the state of a generation, even after its process was killed. Without either JSON file it is an
incomplete copy or removal. With `building.json` it is unfinished, unless the alias points at it. With `generation.json`
alone it is published. So `building.json` is written once the copy of the base is complete and synced, and a removal
deletes the JSON files first.

The engine allows one owner per directory, and a second process that opens it corrupts the next flush of the first. So
the store takes its own lock first. All calls of the engine hold the interpreter's lock (GIL), so generations are built
in the indexer process, never in the server process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import qdrant_edge as edge

from sceneseek.errors import IndexUnavailable, UnfitGeneration, one_line
from sceneseek.files import sync, write_atomic
from sceneseek.store.base import (
    Collection,
    CollectionInfo,
)
from sceneseek.store.edge_collection import EdgeCollection, index_fields, shard_config
from sceneseek.store.edge_files import (
    BUILDING,
    FINISHED,
    RESTORE,
    Record,
    check_sizes,
    check_space,
    checksum,
    copy_shard,
    fixed_files,
    full_disk,
    link_shard,
    read_ahead,
    read_record,
    remove,
)
from sceneseek.store.lease import FileLock, Held, is_held, take_lease
from sceneseek.store.vector_cache import DEFAULT_MEGABYTES

log = logging.getLogger(__name__)

ALIAS = "images"
# Seconds to wait for a lock that another process holds briefly: `building` tests the writer's lock, and an indexer
# reads the images of the live generation.
_WRITER_PATIENCE, _OWNER_PATIENCE = 0.2, 0.5
_POLL_SECONDS = 0.2
# The largest file, in bytes, that is always read ahead for a single search.
_SMALL = 64 * 2**20

Reading = Literal["nothing", "graph", "everything"]


class EdgeStore:
    """The store of one directory; see `VectorStore` and the module's docstring.

    Args:
        root: the directory; it may not exist yet.
        cache_bytes: size of the vector cache, see `vector_cache`.
        reading: the files to read into the page cache when a generation is opened: ``nothing``; ``graph``, for a
            single search: all but large vector files, of which a search reads few pages; or ``everything``.
    """

    def __init__(self, root: Path, cache_bytes: int = DEFAULT_MEGABYTES * 2**20, reading: Reading = "nothing") -> None:
        self.root = root.absolute()
        self._reading = reading
        self._cache_bytes = cache_bytes
        self.url = f"file:{quote(str(root))}"
        self._writer: FileLock | None = None

    def live(self) -> str | None:
        """See `VectorStore.live`; one small file read."""
        alias = self.root / f"alias-{ALIAS}"
        try:
            name = alias.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except (IsADirectoryError, ValueError) as error:
            raise UnfitGeneration(f"the alias {alias} is damaged ({error})", RESTORE) from error
        except OSError as error:
            what = f"the index {self.root} cannot be read ({error.strerror})"
            raise IndexUnavailable(what, "check its path and its permissions") from error
        if "/" in name or name in (".", ".."):
            raise UnfitGeneration(f"the alias {alias} is damaged: it names no generation", RESTORE)
        return name or None

    def generations(self) -> list[CollectionInfo]:
        """See `VectorStore.generations`."""
        try:
            live = self.live()
        except UnfitGeneration:  # `live` reports it; the caller may need an older generation
            live = None
        published = [
            directory
            for directory in self._directories()
            if directory.name == live or not (directory / BUILDING).exists()
        ]
        found = []
        for directory in published:
            try:
                record = read_record(directory / FINISHED)
            except UnfitGeneration as error:
                log.warning("%s: it is ignored", error.what)
            else:
                found += [record.info] if record else []
        return sorted(found, key=lambda info: (info.created, info.name))

    def unfinished(self) -> list[CollectionInfo]:
        """See `VectorStore.unfinished`."""
        live = self.live()
        begun = []
        for directory in self._directories():
            with contextlib.suppress(UnfitGeneration):  # the next run removes it
                begun += [record] if directory.name != live and (record := read_record(directory / BUILDING)) else []
        return [record.info for record in begun if record.beside == live]

    def building(self) -> bool:
        """See `VectorStore.building`: whether a process holds the writer's lock."""
        return is_held(self.root / "writer.lock")

    @contextlib.contextmanager
    def writing(self, wait: bool = True) -> Iterator[None]:
        """See `VectorStore.writing`; the lease is a lock on a file."""
        assert self._writer is None, "this store is being written already"  # noqa: S101 - a bug, not a user's error
        self._writer = lock = self._lease(wait)
        try:
            yield
        finally:
            self._writer = None
            self._release(lock)

    def _release(self, lock: FileLock) -> None:
        """Release the lease, and remove the directories that were created for it if nothing was written."""
        generations = self.root / "generations"
        blank = not any(generations.iterdir()) and self.live() is None
        lock.release(remove=blank)
        if blank:
            with contextlib.suppress(OSError):  # another run has begun, or it contains other files
                generations.rmdir()
                self.root.rmdir()

    def create(self, info: CollectionInfo, base: str | None = None, images: int = 0) -> EdgeCollection:
        """See `VectorStore.create`."""
        self._check_lease()
        self._sweep()
        directory = self._directory(info.name)
        files = (self._directory(base) / "shard").rglob("*") if base is not None else ()
        check_space(self.root, info, images, sum(file.lstat().st_blocks * 512 for file in files))
        try:
            directory.mkdir()
            lock = FileLock(directory / "owner.lock")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            with full_disk(self.root):
                shard = self._create_shard(directory, info, base)
                index_fields(shard, info)
            begun = {**dataclasses.asdict(info), "beside": self.live()}
            write_atomic(directory / BUILDING, json.dumps(begun, indent=2).encode("utf-8"))
        except BaseException:
            lock.release()
            remove(directory)
            raise
        return EdgeCollection(info, shard, lock, self.root, self._cache_bytes)

    def resume(self, name: str) -> EdgeCollection:
        """See `VectorStore.resume`."""
        self._check_lease()
        directory = self._directory(name)
        record = read_record(directory / BUILDING)
        if record is None or name == self.live():
            raise IndexUnavailable(f"the index {self.root} has lost its unfinished {name}", "index again")
        self._sweep(name)
        # `publish` writes it again, with the final number of points.
        (directory / FINISHED).unlink(missing_ok=True)
        return self._open_collection(directory, record)

    def open(self, name: str, wait: bool = True) -> EdgeCollection:
        """See `VectorStore.open`."""
        directory = self._directory(name)
        return self._open_collection(directory, self._published(name), patience=_OWNER_PATIENCE if wait else 0.0)

    def glance(self, name: str) -> EdgeCollection:
        """See `VectorStore.glance`; reads links to the generation's constant files and copies of the others."""
        source = self._directory(name)
        record = self._published(name)
        check_sizes(source, record)
        directory = self._glance_directory()
        try:
            link_shard(source / "shard", directory / "shard", record.files)
            return self._open_collection(directory, record, lambda: shutil.rmtree(directory, ignore_errors=True))
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def _glance_directory(self) -> Path:
        """A directory on the disk of the index, where files can be linked; a temporary one if that is read-only."""
        try:
            return Path(tempfile.mkdtemp(prefix="glance-", dir=self.root / "generations"))
        except OSError:
            return Path(tempfile.mkdtemp(prefix="sceneseek-glance-"))

    def publish(self, collection: Collection, skipped: Mapping[str, int] | None = None) -> None:
        """See `VectorStore.publish`."""
        self._check_lease()
        info, previous = collection.info.completed(skipped), self.live()
        finished = {**dataclasses.asdict(info), "points": collection.count()}
        collection.close()
        directory = self._directory(info.name)
        # Opening it checks it, and brings the files of the engine to their constant state.
        _load(directory, Record(info, finished["points"], None, {})).close()
        finished["files"] = {name: checksum(directory / "shard" / name) for name in fixed_files(directory)}
        write_atomic(directory / FINISHED, json.dumps(finished, indent=2).encode("utf-8"))
        write_atomic(self.root / f"alias-{ALIAS}", f"{info.name}\n".encode("ascii"))
        (directory / BUILDING).unlink()
        sync(directory)
        for other in self.generations():
            if other.name not in (info.name, previous):
                self._remove_if_free(self._directory(other.name))

    def switch(self, name: str) -> None:
        """See `VectorStore.switch`."""
        self._check_lease()
        if read_record(self._directory(name) / FINISHED) is None:
            raise IndexUnavailable(
                f"the index {self.root} has no generation {name}",
                "`sceneseek index status` lists the generations",
            )
        write_atomic(self.root / f"alias-{ALIAS}", f"{name}\n".encode("ascii"))

    def size(self, name: str) -> int:
        """See `VectorStore.size`."""
        return self._published(name).points or 0

    def verify(self, name: str) -> None:
        """See `VectorStore.verify`."""
        record = self._published(name)
        directory = self._directory(name)
        check_sizes(directory, record)
        for file, expected in record.files.items():
            if checksum(directory / "shard" / file) != expected:
                raise UnfitGeneration(
                    f"the file {directory / 'shard' / file} is damaged: its checksum differs", RESTORE
                )

    def report_directory(self) -> Path:
        """See `VectorStore.report_directory`."""
        return self.root / "reports"

    def discard(self, collection: Collection) -> None:
        """See `VectorStore.discard`."""
        self._check_lease()
        collection.close()
        remove(self._directory(collection.info.name))

    def _lease(self, wait: bool) -> FileLock:
        locks: list[FileLock] = []

        def take() -> str | None:
            try:
                (self.root / "generations").mkdir(parents=True, exist_ok=True)
                locks.append(FileLock(self.root / "writer.lock", _WRITER_PATIENCE))
                (self.root / "generations").mkdir(exist_ok=True)  # a run that left nothing may just have removed it
            except Held as held:
                return held.holder
            except FileNotFoundError:  # another run removed the directory between the two lines
                return "a run that is ending"
            except OSError as error:
                raise self._unwritable(error) from error
            return None

        hint = "wait until that run has ended, or choose another --index"
        take_lease(take, str(self.root), hint, wait, _POLL_SECONDS)
        return locks[0]

    def _check_lease(self) -> None:
        assert self._writer is not None, "call it in a `writing` block"  # noqa: S101 - a bug, not a user's error

    def _unwritable(self, error: OSError) -> IndexUnavailable:
        return IndexUnavailable(f"the index {self.root} cannot be written ({error.strerror})", "choose another --index")

    def _directory(self, name: str) -> Path:
        return self.root / "generations" / name

    def _published(self, name: str) -> Record:
        record = read_record(self._directory(name) / FINISHED)
        if record is None:
            raise IndexUnavailable(f"the index {self.root} has lost its generation {name}", "index the folder again")
        return record

    def _directories(self) -> list[Path]:
        return sorted((self.root / "generations").glob("*"))

    def _create_shard(self, directory: Path, info: CollectionInfo, base: str | None) -> edge.EdgeShard:
        if base is None:
            (directory / "shard").mkdir()
            return edge.EdgeShard.create(str(directory / "shard"), shard_config(info))
        record = self._published(base)
        check_sizes(self._directory(base), record)
        copy_shard(self._directory(base) / "shard", directory / "shard")
        return _load(directory, replace(record, info=info, files={}))

    def _open_collection(
        self,
        directory: Path,
        record: Record,
        on_close: Callable[[], None] | None = None,
        patience: float = _OWNER_PATIENCE,
    ) -> EdgeCollection:
        try:
            lock = FileLock(directory / "owner.lock", patience)
        except Held as held:
            raise IndexUnavailable(
                f"the index {self.root} is held by {held.holder}",
                "ask that process (a running `sceneseek serve` answers over HTTP), or stop it",
            ) from None
        except FileNotFoundError:
            raise IndexUnavailable(
                f"the index {self.root} has lost its generation {record.info.name}", "index the folder again"
            ) from None
        except OSError as error:
            raise IndexUnavailable(
                f"the index {self.root} cannot be opened ({error.strerror})",
                "the engine writes there even to read: give this user write permission",
            ) from error
        try:
            if self._reading != "nothing":
                check_sizes(directory, record)
                # The 8-bit copy has a quarter of the bytes of the vectors.
                vectors = 4 * record.info.joint * (record.points or 0)
                whole = self._reading == "everything"
                read_ahead(directory, record, math.inf if whole else max(_SMALL, vectors / 2))
            shard = _load(directory, record)
        except BaseException:
            lock.release()
            raise
        return EdgeCollection(record.info, shard, lock, self.root, self._cache_bytes, on_close)

    def _sweep(self, spare: str = "") -> None:
        """Remove the leftovers of killed runs. Called under the lease, so no other run is writing."""
        live = self.live()
        for directory in self._directories():
            if directory.name == live:
                (directory / BUILDING).unlink(missing_ok=True)
            elif directory.name != spare and ((directory / BUILDING).exists() or not (directory / FINISHED).exists()):
                self._remove_if_free(directory)
        for beside in self.root.glob(f".alias-{ALIAS}.*"):
            beside.unlink(missing_ok=True)

    def _remove_if_free(self, directory: Path) -> None:
        """Remove a generation unless a process has it open; the next run tries again."""
        try:
            lock = FileLock(directory / "owner.lock")
        except (Held, FileNotFoundError):
            return
        remove(directory)
        lock.release()


def _load(directory: Path, record: Record) -> edge.EdgeShard:
    """Open a shard, which must contain the recorded number of points.

    Raises:
        UnfitGeneration: it is damaged.
    """
    check_sizes(directory, record)
    try:
        shard = edge.EdgeShard.load(str(directory / "shard"), shard_config(record.info))
        found = shard.count(edge.CountRequest(exact=True))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the engine panics with an exception that is not an Exception
        what = one_line(str(error).partition("\n")[0])
        raise UnfitGeneration(f"the generation {directory} is damaged ({what})", RESTORE) from error
    if record.points not in (None, found):
        shard.close()
        raise UnfitGeneration(
            f"the generation {directory} is damaged: it contains {found:,} of its {record.points:,} images", RESTORE
        )
    return shard
