"""The embedded engine: Qdrant Edge, in process, with nothing else to install.

    DIR/
    ├── alias-images            the alias: the live generation's name, replaced atomically
    ├── writer.lock             held from `create` to `publish` or `discard`
    └── generations/NAME/
        ├── generation.json     a CollectionInfo; written by `publish`: a directory without it was never finished
        ├── owner.lock          held by the one process that has the shard open
        └── shard/              the engine's own files

The engine allows one owner a directory and damages the first owner's next flush when a second one
tries, so a lock of our own is taken before the engine is asked. A lock is a `flock`: it goes with its
process, however that ends. Every call of the engine holds the interpreter's lock, which is why
generations are built in the indexer's process, never in the server's.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import qdrant_edge as edge

from sceneseek.errors import IndexUnavailable
from sceneseek.files import write_atomic
from sceneseek.filters import Filter, field_path, json_path
from sceneseek.scorer import Candidates
from sceneseek.store.base import HEAD, JOINT, Collection, CollectionInfo, FieldType, Point, Record
from sceneseek.store.edge_filter import edge_filter
from sceneseek.vectors import Floats

ALIAS = "images"

# Below this size in kilobytes of vectors a full scan answers in a few milliseconds and is exact.
_GRAPH_FROM_KILOBYTES = 40_000
_HNSW = edge.HnswIndexConfig(m=16, ef_construct=128, full_scan_threshold=10_000)
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
_NO_HNSW = edge.HnswIndexConfig(m=0, ef_construct=16, full_scan_threshold=10_000)


class FileLock:
    """An exclusive lock on a file, held until `release` or the end of the process.

    Raises:
        IndexUnavailable: another process holds it; the message names that process.
    """

    def __init__(self, path: Path, what: str, hint: str) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._handle, 64).decode("ascii", "replace").strip() or "unknown"
            os.close(self._handle)
            raise IndexUnavailable(f"{what} by process {holder}", hint) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Let go; the file stays, so that nobody locks a name that a third process has just removed."""
        os.close(self._handle)


class EdgeStore:
    """The store of one directory; see `VectorStore` and the module's docstring."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
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
        directories = (self.root / "generations").glob("*/generation.json")
        infos = [_read_info(file) for file in directories]
        return sorted(infos, key=lambda info: (info.created, info.name))

    def create(self, info: CollectionInfo, base: str | None = None) -> EdgeCollection:
        """See `VectorStore.create`."""
        home = self._home(info.name)
        try:
            home.parent.mkdir(parents=True, exist_ok=True)
            # The lock comes before our directory: whoever holds it sweeps away directories of unfinished runs.
            self._writer = FileLock(
                self.root / "writer.lock",
                f"the index {self.root} is being written",
                "wait until that run has ended, or choose another --index",
            )
        except OSError as error:
            raise IndexUnavailable(
                f"the index {self.root} cannot be written ({error.strerror})", "choose another --index"
            ) from error
        try:
            self._sweep()
            home.mkdir()
            if base is None:
                (home / "shard").mkdir()
                shard = edge.EdgeShard.create(str(home / "shard"), _config(info))
            else:
                _copy(self._home(base) / "shard", home / "shard")
                shard = edge.EdgeShard.load(str(home / "shard"), _config(info))
            for name, kind in info.indexed.items():
                path = json_path(field_path(name))
                shard.update(edge.UpdateOperation.create_field_index(path, _FIELD_TYPES[kind]))
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            self._release_writer()
            raise
        return EdgeCollection(info, shard)

    def open(self, name: str) -> EdgeCollection:
        """See `VectorStore.open`."""
        home = self._home(name)
        try:
            info = _read_info(home / "generation.json")
            lock = FileLock(
                home / "owner.lock",
                f"the index {self.root} is held",
                "ask that process (a running `sceneseek serve` answers over HTTP), or stop it",
            )
        except FileNotFoundError:
            raise IndexUnavailable(
                f"the index {self.root} has lost its generation {name}", "index the folder again"
            ) from None
        try:
            shard = edge.EdgeShard.load(str(home / "shard"), _config(info))
        except Exception as error:
            lock.release()
            raise IndexUnavailable(f"the index {self.root} is damaged ({error})", "index the folder again") from error
        return EdgeCollection(info, shard, lock)

    def publish(self, collection: Collection) -> None:
        """See `VectorStore.publish`."""
        collection.close()
        info, previous = collection.info, self.live()
        finished = json.dumps(dataclasses.asdict(info), indent=2).encode("utf-8")
        write_atomic(self._home(info.name) / "generation.json", finished)
        write_atomic(self.root / f"alias-{ALIAS}", f"{info.name}\n".encode("ascii"))
        for other in self.generations():
            if other.name not in (info.name, previous):
                self._remove_if_free(self._home(other.name))
        self._release_writer()

    def discard(self, collection: Collection) -> None:
        """See `VectorStore.discard`."""
        collection.close()
        shutil.rmtree(self._home(collection.info.name), ignore_errors=True)
        self._release_writer()

    def _release_writer(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def _home(self, name: str) -> Path:
        return self.root / "generations" / name

    def _sweep(self) -> None:
        """Remove what killed runs left; called under the writer's lock, so nobody is building there."""
        for home in (self.root / "generations").iterdir():
            if not (home / "generation.json").exists():
                shutil.rmtree(home, ignore_errors=True)

    def _remove_if_free(self, home: Path) -> None:
        """Remove a generation unless some process still answers from it; the next run then does."""
        try:
            lock = FileLock(home / "owner.lock", "", "")
        except IndexUnavailable:
            return
        shutil.rmtree(home, ignore_errors=True)
        lock.release()


class EdgeCollection:
    """One open shard; see `Collection`."""

    def __init__(self, info: CollectionInfo, shard: edge.EdgeShard, lock: FileLock | None = None) -> None:
        self.info = info
        self._shard = shard
        self._lock = lock
        self._closed = False

    def upsert(self, points: Sequence[Point]) -> None:
        """See `Collection.upsert`; the engine's write-ahead log makes it durable."""
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
        self._shard.update(edge.UpdateOperation.delete_points(list(ids)))

    def shortlist(
        self,
        joint: Floats,
        limit: int,
        vectors: Sequence[str] = (),
        exact: bool = False,
        where: Filter | None = None,
    ) -> Candidates:
        """See `Collection.shortlist`."""
        # A head of no width (H_i = 0) is not stored; its rows come back without values.
        stored = [name for name in vectors if name == JOINT or self.info.head]
        hits = self._shard.query(
            edge.QueryRequest(
                limit=limit,
                query=edge.Query.Nearest(joint.tolist(), using=JOINT),
                with_vector=stored or None,
                filter=None if where is None else edge_filter(where),
                params=edge.SearchParams(exact=True) if exact else None,
            )
        )
        read: list[Any] = [hit.vector or {} for hit in hits] if vectors else []
        return Candidates(
            ids=[str(hit.id) for hit in hits],
            similarity=np.array([hit.score for hit in hits], dtype=np.float32),
            joint=_matrix([v[JOINT] for v in read], self.info.joint) if JOINT in vectors else None,
            head=_matrix([v.get(HEAD, ()) for v in read], self.info.head) if HEAD in vectors else None,
        )

    def retrieve(self, ids: Sequence[str]) -> list[Record]:
        """See `Collection.retrieve`."""
        found = self._shard.retrieve(list(ids), with_payload=True, with_vector=False)
        by_id = {str(record.id): Record(str(record.id), dict(record.payload or {})) for record in found}
        return [by_id[i] for i in ids if i in by_id]

    def scroll(self, batch: int = 1024) -> Iterator[Record]:
        """See `Collection.scroll`."""
        offset = None
        while True:
            records, offset = self._shard.scroll(edge.ScrollRequest(offset=offset, limit=batch, with_payload=True))
            for record in records:
                yield Record(str(record.id), dict(record.payload or {}))
            if offset is None:
                return

    def count(self) -> int:
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
        if self._lock is not None:
            self._lock.release()


def _config(info: CollectionInfo) -> edge.EdgeConfig:
    vectors = {JOINT: edge.EdgeVectorParams(info.joint, edge.Distance.Cosine, hnsw_config=_HNSW)}
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


def _matrix(rows: list[Any], width: int) -> Floats:
    """(N, width), also where the rows or the width are none."""
    return np.array(rows, dtype=np.float32).reshape(len(rows), width)


def _read_info(file: Path) -> CollectionInfo:
    raw = json.loads(file.read_text(encoding="utf-8"))
    return CollectionInfo(**{**raw, "sources": tuple(raw["sources"])})
