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
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import qdrant_edge as edge

from sceneseek.errors import IndexUnavailable, UnfitGeneration
from sceneseek.files import sync, write_atomic
from sceneseek.filters import Filter, field_path, json_path, typed
from sceneseek.store.base import (
    HEAD,
    JOINT,
    Collection,
    CollectionInfo,
    FieldType,
    Point,
    Record,
    Source,
    StoredVectors,
)
from sceneseek.store.edge_filter import edge_filter
from sceneseek.store.lease import take_lease, this_process
from sceneseek.store.vector_cache import DEFAULT_MEGABYTES, CandidateVectors
from sceneseek.vectors import Candidates, Floats

ALIAS = "images"
_BUILDING, _FINISHED = "building.json", "generation.json"

# Below this size in kilobytes of vectors a full scan answers in a few milliseconds and is exact.
_GRAPH_FROM_KILOBYTES = 40_000
_HNSW = edge.HnswIndexConfig(m=16, ef_construct=128, full_scan_threshold=10_000)
# What is over that size gets a copy in 8 bits beside its graph, which is built and walked twice as fast; twice as many
# candidates as asked for are then compared by their whole vectors, so similarities are exact and hardly any is missed.
_QUANTIZED = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8, always_ram=True)
_RESCORED = edge.SearchParams(quantization=edge.QuantizationSearchParams(rescore=True, oversampling=2.0))
_EXACT = edge.SearchParams(exact=True, quantization=edge.QuantizationSearchParams(ignore=True))
# One thread a search: queries come side by side, and handing one to a pool costs more, and far more in its tail.
_SEARCH_THREADS = 1
_FIELD_TYPES: dict[FieldType, edge.PayloadSchemaType] = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "datetime": edge.PayloadSchemaType.Datetime,
    "geo": edge.PayloadSchemaType.Geo,
    "bool": edge.PayloadSchemaType.Bool,
}
# Seconds for which a lock is waited for that another process holds for a moment only: while `building` looks at the
# writer's, or while an indexer reads the live generation's images.
_WRITER_PATIENCE, _OWNER_PATIENCE = 0.2, 0.5
_POLL_SECONDS = 0.2
_NO_HNSW = edge.HnswIndexConfig(m=0, ef_construct=16, full_scan_threshold=10_000)


class FileLock:
    """An exclusive lock on a file, held until `release` or the end of the process.

    Args:
        path: the file.
        patience: seconds to wait for its holder.

    Raises:
        Held: another process holds it.
    """

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        self._path = path
        until = time.monotonic() + patience
        while not self._take(until):
            pass
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{this_process()}\n".encode(), 0)

    def release(self, remove: bool = False) -> None:
        """Release it, and remove the file if wanted."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._handle)

    def _take(self, until: float) -> bool:
        """Lock the file; False where its holder has removed it meanwhile, so that the lock is of no use."""
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not _locked(self._handle):
                if time.monotonic() >= until:
                    raise Held(os.read(self._handle, 256).decode("utf-8", "replace").strip() or "another process")
                time.sleep(0.01)
            if self._path.exists() and os.path.samestat(os.fstat(self._handle), self._path.stat()):
                return True
        except BaseException:
            os.close(self._handle)
            raise
        os.close(self._handle)
        return False


class Held(Exception):
    """A lock is held; `holder` says by whom."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


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
        return _is_held(self.root / "writer.lock")

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
            _index_fields(shard, info)
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
            return edge.EdgeShard.create(str(home / "shard"), _config(info))
        _copy(self._home(base) / "shard", home / "shard")
        shard = edge.EdgeShard.load(str(home / "shard"), _config(info))
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
            shard = edge.EdgeShard.load(str(home / "shard"), _config(info))
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


class EdgeCollection:
    """One open shard; see `Collection`."""

    def __init__(
        self,
        info: CollectionInfo,
        shard: edge.EdgeShard,
        lock: FileLock,
        cache_bytes: int,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.info = info
        self._indexed = {field_path(name): kind for name, kind in info.indexed.items()}
        self._shard = shard
        self._lock = lock
        self._on_close = on_close
        self._closed = False
        self._candidates = CandidateVectors(info, cache_bytes)

    def upsert(self, points: Sequence[Point]) -> None:
        """See `Collection.upsert`; the engine's write-ahead log makes it durable."""
        self._candidates.clear()
        with_head = self.info.head > 0
        self._shard.update(
            edge.UpdateOperation.upsert_points(
                [
                    edge.Point(
                        p.id,
                        {JOINT: p.joint.tolist(), HEAD: p.head.tolist()} if with_head else {JOINT: p.joint.tolist()},
                        p.payload,
                    )
                    for p in points
                ]
            )
        )

    def delete(self, ids: Sequence[str]) -> None:
        """See `Collection.delete`."""
        self._candidates.clear()
        self._shard.update(edge.UpdateOperation.delete_points(list(ids)))

    def nearest(
        self,
        joint: Floats,
        limit: int,
        vectors: Sequence[str] = (),
        exact: bool = False,
        where: Filter | None = None,
        deadline: float | None = None,  # noqa: ARG002 - it answers at once
    ) -> Candidates:
        """See `Collection.nearest`."""
        hits = self._shard.query(
            edge.QueryRequest(
                limit=limit,
                query=edge.Query.Nearest(joint.tolist(), using=JOINT),
                params=_EXACT if exact else _RESCORED,
                filter=None if where is None else edge_filter(typed(where, self._indexed)),
            )
        )
        ids = [str(hit.id) for hit in hits]
        joints, heads = self._candidates.read(ids, vectors, self._read)
        return Candidates(ids, np.array([hit.score for hit in hits], dtype=np.float32), joints, heads)

    def retrieve(self, ids: Sequence[str], deadline: float | None = None) -> list[Record]:  # noqa: ARG002 - as above
        """See `Collection.retrieve`."""
        found = self._shard.retrieve(list(ids), with_payload=True, with_vector=False)
        by_id = {str(record.id): Record(str(record.id), dict(record.payload or {})) for record in found}
        return [by_id[i] for i in ids if i in by_id]

    def vectors(self, ids: Sequence[str], deadline: float | None = None) -> dict[str, StoredVectors]:  # noqa: ARG002 - as above
        """See `Collection.vectors`."""
        return self._read(ids, with_head=True)

    def _read(self, ids: Sequence[str], with_head: bool) -> dict[str, StoredVectors]:
        names = [JOINT, HEAD] if with_head and self.info.head else [JOINT]
        found = self._shard.retrieve(list(ids), with_payload=False, with_vector=names)
        read: list[tuple[str, Any]] = [(str(record.id), record.vector or {}) for record in found]
        return {
            identity: StoredVectors(
                np.asarray(vectors[JOINT], dtype=np.float32), np.asarray(vectors.get(HEAD, ()), dtype=np.float32)
            )
            for identity, vectors in read
        }

    def set_payload(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """See `Collection.set_payload`; points that get the same are written in one operation."""
        alike: dict[str, list[str]] = {}
        for identity, fields in changes.items():
            alike.setdefault(json.dumps(fields, sort_keys=True), []).append(identity)
        for ids in alike.values():
            fields = changes[ids[0]]
            there = {name: value for name, value in fields.items() if value is not None}
            if there:
                self._shard.update(edge.UpdateOperation.set_payload(list[Any](ids), there))
            if len(there) < len(fields):
                gone = [name for name in fields if name not in there]
                self._shard.update(edge.UpdateOperation.delete_payload(list[Any](ids), gone))

    def scroll(self, batch: int = 1024, deadline: float | None = None) -> Iterator[Record]:  # noqa: ARG002 - as above
        """See `Collection.scroll`."""
        offset = None
        while True:
            records, offset = self._shard.scroll(edge.ScrollRequest(offset=offset, limit=batch, with_payload=True))
            for record in records:
                yield Record(str(record.id), dict(record.payload or {}))
            if offset is None:
                return

    def count(self, deadline: float | None = None) -> int:  # noqa: ARG002 - as above
        """See `Collection.count`."""
        return self._shard.count(edge.CountRequest(exact=True))

    def optimize(self) -> None:
        """See `Collection.optimize`; holds the interpreter's lock throughout."""
        self._shard.optimize()

    def close(self) -> None:
        """See `Collection.close`; closing twice is no error."""
        if self._closed:
            return
        self._closed = True
        self._shard.flush()
        self._shard.close()
        self._lock.release()
        if self._on_close is not None:
            self._on_close()


def _config(info: CollectionInfo) -> edge.EdgeConfig:
    joint = edge.EdgeVectorParams(info.joint, edge.Distance.Cosine, hnsw_config=_HNSW, quantization_config=_QUANTIZED)
    vectors = {JOINT: joint}
    if info.head:
        vectors[HEAD] = edge.EdgeVectorParams(
            info.head,
            edge.Distance.Dot,
            datatype=edge.VectorStorageDatatype.Float16,
            hnsw_config=_NO_HNSW,
            memory=edge.Memory.Cold,
        )
    return edge.EdgeConfig(
        vectors=vectors,
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=_GRAPH_FROM_KILOBYTES),
        max_search_threads=_SEARCH_THREADS,
    )


def _index_fields(shard: edge.EdgeShard, info: CollectionInfo) -> None:
    """Give the shard exactly the payload indexes that the generation wants; a base's that fit are kept."""
    wanted = {json_path(field_path(name)): _FIELD_TYPES[kind] for name, kind in info.indexed.items()}
    there = {field: index.data_type for field, index in shard.info().payload_schema.items()}
    for field in there.keys() - {field for field, kind in wanted.items() if there.get(field) == kind}:
        shard.update(edge.UpdateOperation.delete_field_index(field))
        del there[field]
    for field in wanted.keys() - there.keys():
        shard.update(edge.UpdateOperation.create_field_index(field, wanted[field]))


def _locked(handle: int, how: int = fcntl.LOCK_EX) -> bool:
    """Whether the lock of an open file could be taken at once."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_held(path: Path) -> bool:
    """Whether a process holds the `FileLock` of a file; one that wants it in this moment must have some patience."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # nobody has ever locked it, or it is not ours to read
        return False
    try:
        return not _locked(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


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
