"""The embedded engine: Qdrant Edge, in process, with nothing else to install.

    DIR/
    ├── alias-images            the alias: the live generation's name, replaced atomically
    ├── writer.lock             the lease: held in a `writing` block
    └── generations/NAME/
        ├── building.json       a CollectionInfo and the generation that was live then; goes after the alias has moved
        ├── generation.json     a CollectionInfo and the number of points; written just before the alias moves
        ├── owner.lock          held by the one process that has the shard open
        └── shard/              the engine's own files

What a directory is can be read off it whenever its process was killed: with neither JSON file it is
rubbish (a copy that was never completed, a removal that was), with `building.json` it is unfinished unless the
alias points at it, with `generation.json` alone it was published. So `building.json` comes when the
copy of the base is complete and synced, and a removal takes the JSON files first.

The engine allows one owner a directory and damages the first owner's next flush when a second one
tries, so a lock of our own is taken before the engine is asked. A lock is a `flock`: it goes with its
process, however that ends. Every call of the engine holds the interpreter's lock, which is why
generations are built in the indexer's process, never in the server's.
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
from sceneseek.store.file_lock import FileLock, Held, is_held
from sceneseek.store.lease import take_lease
from sceneseek.store.vector_cache import DEFAULT_MEGABYTES

ALIAS = "images"
_BUILDING, _FINISHED = "building.json", "generation.json"

# Seconds for which a lock is waited for that another process holds for a moment only: while `building` looks at the
# writer's, or while an indexer reads the live generation's images.
_WRITER_PATIENCE, _OWNER_PATIENCE = 0.2, 0.5
_POLL_SECONDS = 0.2


class EdgeStore:
    """The store of one directory; see `VectorStore` and the module's docstring.

    Args:
        root: the directory; need not exist.
        cache_bytes: how much of a generation's vectors is cached, see `vector_cache`.
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
        """See `VectorStore.building`: whether somebody holds the writer's lock."""
        return is_held(self.root / "writer.lock")

    @contextlib.contextmanager
    def writing(self, wait: bool = True) -> Iterator[None]:
        """See `VectorStore.writing`; the lease is a file's lock."""
        assert self._writer is None, "this store is being written already"  # noqa: S101 - a bug, and no user's
        self._writer = lock = self._lease(wait)
        try:
            yield
        finally:
            self._writer = None
            self._release(lock)

    def _release(self, lock: FileLock) -> None:
        """Release the lease; a directory in which nothing was begun goes, as it came with the lease."""
        generations = self.root / "generations"
        blank = not any(generations.iterdir()) and self.live() is None
        lock.release(remove=blank)
        if blank:
            with contextlib.suppress(OSError):  # another run has come, or something else lies in it
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
        # Half a manifest: it will be written again, with the number of points there are then.
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
            except FileNotFoundError:  # removed between the two lines
                return "a run that ends just now"
            except OSError as error:
                raise self._unwritable(error) from error
            return None

        hint = "wait until that run has ended, or choose another --index"
        take_lease(take, str(self.root), hint, wait, _POLL_SECONDS)
        return locks[0]

    def _check_lease(self) -> None:
        assert self._writer is not None, "call it in a `writing` block"  # noqa: S101 - a bug, and no user's

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
                "the engine must write there, even to read: let the folder belong to who runs this",
            ) from error
        try:
            shard = edge.EdgeShard.load(str(home / "shard"), shard_config(info))
        except Exception as error:
            lock.release()
            raise UnfitGeneration(f"the index {self.root} is damaged ({error})", "index the folder again") from error
        return EdgeCollection(info, shard, lock, self._cache_bytes, on_close)

    def _sweep(self, spare: str = "") -> None:
        """Tidy up after killed runs; called under the lease, so nobody is building there."""
        live = self.live()
        for home in self._homes():
            if home.name == live:
                (home / _BUILDING).unlink(missing_ok=True)
            elif home.name != spare and ((home / _BUILDING).exists() or not (home / _FINISHED).exists()):
                _remove(home)
        for beside in self.root.glob(f".alias-{ALIAS}.*"):
            beside.unlink(missing_ok=True)

    def _remove_if_free(self, home: Path) -> None:
        """Remove a generation unless some process still answers from it; the next run then does."""
        try:
            lock = FileLock(home / "owner.lock")
        except Held:
            return
        _remove(home)
        lock.release()


def _copy(source: Path, target: Path) -> None:
    """Copy a shard's files, leaving their holes: the engine sets room aside, which shutil would fill with zeros."""
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
    """Remove a generation's directory; killed half-way, it is rubbish and no generation."""
    for name in (_FINISHED, _BUILDING):
        (home / name).unlink(missing_ok=True)
    shutil.rmtree(home, ignore_errors=True)


def _read(file: Path) -> dict[str, Any] | None:
    """A generation's JSON; None where there is none, maybe since a moment ago."""
    try:
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise IndexUnavailable(f"{file} is damaged ({error})", "index the folder again into another --index") from error
    return raw


def _info(raw: dict[str, Any]) -> CollectionInfo:
    """A `CollectionInfo`; before there were labels, sources were folders."""
    sources = [Source("", source) if isinstance(source, str) else Source(**source) for source in raw["sources"]]
    known = {field.name: raw[field.name] for field in dataclasses.fields(CollectionInfo) if field.name in raw}
    return CollectionInfo(**{**known, "sources": tuple(sources)})
