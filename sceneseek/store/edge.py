"""The embedded engine: Qdrant Edge, which runs in the process.

    DIR/
    ├── alias-images            the alias: the name of the live generation, replaced atomically
    ├── writer.lock             the lease: held in a `writing` block
    └── generations/NAME/
        ├── building.json       a CollectionInfo and the then live generation; removed after the alias has moved
        ├── generation.json     a CollectionInfo and the number of points; written just before the alias moves
        ├── owner.lock          held by the process that has the shard open
        └── shard/              the engine's own files

The files show the state of a generation, also after its process was killed. Without either JSON file it is an
incomplete copy or removal; with `building.json` it is unfinished, unless the alias points at it; with `generation.json`
alone it was published. So `building.json` is written when the copy of the base is complete and synced, and a removal
deletes the JSON files first.

The engine allows one owner per directory, and a second one that tries damages the first one's next flush. So the store
takes a lock of its own first. Every call of the engine holds the interpreter's lock, so generations are built in the
process of the indexer, never in that of the server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import qdrant_edge as edge

from sceneseek.errors import IndexUnavailable, UnfitGeneration
from sceneseek.files import sync, write_atomic
from sceneseek.store.base import (
    Collection,
    CollectionInfo,
    Source,
)
from sceneseek.store.edge_collection import EdgeCollection, index_fields, shard_config
from sceneseek.store.lease import FileLock, Held, is_held, take_lease
from sceneseek.store.vector_cache import DEFAULT_MEGABYTES

ALIAS = "images"
_BUILDING, _FINISHED = "building.json", "generation.json"

# Seconds to wait for a lock that another process holds briefly: `building` looks at the writer's, an indexer reads the
# images of the live generation.
_WRITER_PATIENCE, _OWNER_PATIENCE = 0.2, 0.5
_POLL_SECONDS = 0.2


class EdgeStore:
    """The store of one directory; see `VectorStore` and the module's docstring.

    Args:
        root: the directory; need not exist.
        cache_bytes: size of the cache of vectors, see `vector_cache`.
    """

    def __init__(self, root: Path, cache_bytes: int = DEFAULT_MEGABYTES * 2**20) -> None:
        self.root = root.absolute()
        self._cache_bytes = cache_bytes
        self.url = f"file:{quote(str(root))}"
        self._writer: FileLock | None = None

    def live(self) -> str | None:
        """See `VectorStore.live`; one small file read."""
        try:
            return (self.root / f"alias-{ALIAS}").read_text(encoding="ascii").strip() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IndexUnavailable(
                f"the index {self.root} cannot be read ({error.strerror})", "check its path and its permissions"
            ) from error

    def generations(self) -> list[CollectionInfo]:
        """See `VectorStore.generations`."""
        live = self.live()
        published = [home for home in self._homes() if home.name == live or not (home / _BUILDING).exists()]
        found = [raw for home in published if (raw := _read(home / _FINISHED))]
        return sorted((_info(raw) for raw in found), key=lambda info: (info.created, info.name))

    def unfinished(self) -> list[CollectionInfo]:
        """See `VectorStore.unfinished`."""
        live = self.live()
        begun = [raw for home in self._homes() if home.name != live and (raw := _read(home / _BUILDING))]
        return [_info(raw) for raw in begun if raw.get("beside") == live]

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
        """Release the lease, and remove the directories that it created if nothing was written."""
        generations = self.root / "generations"
        blank = not any(generations.iterdir()) and self.live() is None
        lock.release(remove=blank)
        if blank:
            with contextlib.suppress(OSError):  # another run has begun, or it contains other files
                generations.rmdir()
                self.root.rmdir()

    def create(self, info: CollectionInfo, base: str | None = None) -> EdgeCollection:
        """See `VectorStore.create`."""
        self._check_lease()
        self._sweep()
        home = self._home(info.name)
        try:
            home.mkdir()
            lock = FileLock(home / "owner.lock")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            shard = self._begin(home, info, base)
            index_fields(shard, info)
            begun = {**dataclasses.asdict(info), "beside": self.live()}
            write_atomic(home / _BUILDING, json.dumps(begun, indent=2).encode("utf-8"))
        except BaseException:
            lock.release()
            _remove(home)
            raise
        return EdgeCollection(info, shard, lock, self._cache_bytes)

    def resume(self, name: str) -> EdgeCollection:
        """See `VectorStore.resume`."""
        self._check_lease()
        home = self._home(name)
        raw = _read(home / _BUILDING)
        if raw is None or name == self.live():
            raise IndexUnavailable(f"the index {self.root} has lost its unfinished {name}", "index again")
        self._sweep(name)
        # `publish` writes it again, with the number of points at that time.
        (home / _FINISHED).unlink(missing_ok=True)
        return self._opened(home, _info(raw))

    def open(self, name: str) -> EdgeCollection:
        """See `VectorStore.open`."""
        home = self._home(name)
        raw = _read(home / _FINISHED)
        if raw is None:
            raise IndexUnavailable(f"the index {self.root} has lost its generation {name}", "index the folder again")
        return self._opened(home, _info(raw))

    def glance(self, name: str) -> EdgeCollection:
        """See `VectorStore.glance`; reads a copy of the generation's files."""
        source = self._home(name)
        raw = _read(source / _FINISHED)
        if raw is None:
            raise IndexUnavailable(f"the index {self.root} has lost its generation {name}", "index the folder again")
        home = Path(tempfile.mkdtemp(prefix="sceneseek-glance-"))
        try:
            _copy(source / "shard", home / "shard")
            return self._opened(home, _info(raw), lambda: shutil.rmtree(home, ignore_errors=True))
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise

    def publish(self, collection: Collection, skipped: Mapping[str, int] | None = None) -> None:
        """See `VectorStore.publish`."""
        self._check_lease()
        info, previous = collection.info.completed(skipped), self.live()
        finished = {**dataclasses.asdict(info), "points": collection.count()}
        collection.close()
        home = self._home(info.name)
        write_atomic(home / _FINISHED, json.dumps(finished, indent=2).encode("utf-8"))
        write_atomic(self.root / f"alias-{ALIAS}", f"{info.name}\n".encode("ascii"))
        (home / _BUILDING).unlink()
        sync(home)
        for other in self.generations():
            if other.name not in (info.name, previous):
                self._remove_if_free(self._home(other.name))

    def switch(self, name: str) -> None:
        """See `VectorStore.switch`."""
        self._check_lease()
        if _read(self._home(name) / _FINISHED) is None:
            raise IndexUnavailable(
                f"the index {self.root} has no generation {name}",
                "see `sceneseek index status` for those there are",
            )
        write_atomic(self.root / f"alias-{ALIAS}", f"{name}\n".encode("ascii"))

    def size(self, name: str) -> int:
        """See `VectorStore.size`."""
        raw = _read(self._home(name) / _FINISHED)
        if raw is None:
            raise IndexUnavailable(f"the index {self.root} has lost its generation {name}", "index the folder again")
        return int(raw["points"])

    def report_directory(self) -> Path:
        """See `VectorStore.report_directory`."""
        return self.root / "reports"

    def discard(self, collection: Collection) -> None:
        """See `VectorStore.discard`."""
        self._check_lease()
        collection.close()
        _remove(self._home(collection.info.name))

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

    def _home(self, name: str) -> Path:
        return self.root / "generations" / name

    def _homes(self) -> list[Path]:
        return sorted((self.root / "generations").glob("*"))

    def _begin(self, home: Path, info: CollectionInfo, base: str | None) -> edge.EdgeShard:
        if base is None:
            (home / "shard").mkdir()
            return edge.EdgeShard.create(str(home / "shard"), shard_config(info))
        _copy(self._home(base) / "shard", home / "shard")
        shard = edge.EdgeShard.load(str(home / "shard"), shard_config(info))
        expected = (_read(self._home(base) / _FINISHED) or {}).get("points")
        found = shard.count(edge.CountRequest(exact=True))
        if expected not in (None, found):
            raise IndexUnavailable(
                f"a copy of the live generation holds {found:,} of its {expected:,} images",
                "index again; if it stays so, the index is damaged: choose another --index",
            )
        return shard

    def _opened(self, home: Path, info: CollectionInfo, on_close: Callable[[], None] | None = None) -> EdgeCollection:
        try:
            lock = FileLock(home / "owner.lock", _OWNER_PATIENCE)
        except Held as held:
            raise IndexUnavailable(
                f"the index {self.root} is held by {held.holder}",
                "ask that process (a running `sceneseek serve` answers over HTTP), or stop it",
            ) from None
        except FileNotFoundError:
            raise IndexUnavailable(
                f"the index {self.root} has lost its generation {info.name}", "index the folder again"
            ) from None
        except OSError as error:
            raise IndexUnavailable(
                f"the index {self.root} cannot be opened ({error.strerror})",
                "the engine writes there even to read: give this user write permission",
            ) from error
        try:
            shard = edge.EdgeShard.load(str(home / "shard"), shard_config(info))
        except Exception as error:
            lock.release()
            raise UnfitGeneration(f"the index {self.root} is damaged ({error})", "index the folder again") from error
        return EdgeCollection(info, shard, lock, self._cache_bytes, on_close)

    def _sweep(self, spare: str = "") -> None:
        """Remove what killed runs left; called under the lease, so no other run is writing."""
        live = self.live()
        for home in self._homes():
            if home.name == live:
                (home / _BUILDING).unlink(missing_ok=True)
            elif home.name != spare and ((home / _BUILDING).exists() or not (home / _FINISHED).exists()):
                _remove(home)
        for beside in self.root.glob(f".alias-{ALIAS}.*"):
            beside.unlink(missing_ok=True)

    def _remove_if_free(self, home: Path) -> None:
        """Remove a generation unless a process has it open; the next run tries again."""
        try:
            lock = FileLock(home / "owner.lock")
        except Held:
            return
        _remove(home)
        lock.release()


def _copy(source: Path, target: Path) -> None:
    """Copy a shard as sparse files: the engine preallocates space, which shutil would fill with zeros."""
    done = subprocess.run(
        ["cp", "--recursive", "--reflink=auto", "--sparse=always", str(source), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise IndexUnavailable(
            f"the live generation cannot be copied ({done.stderr.strip()})", "make room, or choose another --index"
        )
    for path in (target, *target.rglob("*")):
        sync(path)


def _remove(home: Path) -> None:
    """Remove a generation; the JSON files first, so that an interrupted removal leaves no generation."""
    for name in (_FINISHED, _BUILDING):
        (home / name).unlink(missing_ok=True)
    shutil.rmtree(home, ignore_errors=True)


def _read(file: Path) -> dict[str, Any] | None:
    """A JSON file of a generation; None if it does not exist."""
    try:
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise IndexUnavailable(f"{file} is damaged ({error})", "index the folder again into another --index") from error
    return raw


def _info(raw: dict[str, Any]) -> CollectionInfo:
    """A `CollectionInfo`; older programs wrote sources as plain folders."""
    sources = [Source("", source) if isinstance(source, str) else Source(**source) for source in raw["sources"]]
    known = {field.name: raw[field.name] for field in dataclasses.fields(CollectionInfo) if field.name in raw}
    return CollectionInfo(**{**known, "sources": tuple(sources)})
