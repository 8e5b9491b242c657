"""One generation of the embedded engine: an open shard, its configuration and its payload indexes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge

from sceneseek.filters.conditions import (
    All,
    AnyOf,
    AnyPart,
    DateRange,
    Equals,
    Filter,
    HasValue,
    InFolder,
    Near,
    Not,
    NumberRange,
    Within,
    field_path,
    json_path,
    typed,
)
from sceneseek.store.base import (
    HEAD,
    JOINT,
    OVERSAMPLING,
    CollectionInfo,
    FieldType,
    Point,
    Record,
    StoredVectors,
)
from sceneseek.store.edge_files import check_space, full_disk
from sceneseek.store.lease import FileLock
from sceneseek.store.vector_cache import CandidateVectors
from sceneseek.vectors import Candidates, Floats

# Kilobytes of vectors from which a graph is built; below, a full scan takes a few milliseconds and is exact.
_GRAPH_FROM_KILOBYTES = 40_000
_HNSW = edge.HnswIndexConfig(m=16, ef_construct=128, full_scan_threshold=10_000)
# The graph is built and searched over an 8-bit copy, which is twice as fast. More candidates than requested are then
# rescored with their full vectors, so similarities are exact and recall stays high. The engine memory-maps both and
# reads them page by page; the store reads them ahead.
_QUANTIZED = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8, memory=edge.Memory.Cold)
_RESCORED = edge.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
_EXACT = edge.SearchParams(exact=True, quantization=edge.QuantizationSearchParams(ignore=True))
# One thread per search: queries run in parallel, and a pool would increase latency.
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


class EdgeCollection:
    """One open shard below the directory `root` of an index; see `Collection`."""

    def __init__(
        self,
        info: CollectionInfo,
        shard: edge.EdgeShard,
        lock: FileLock,
        root: Path,
        cache_bytes: int,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.info = info
        self._indexed = {field_path(name): kind for name, kind in info.indexed.items()}
        self._shard = shard
        self._lock = lock
        self._root = root
        self._on_close = on_close
        self._closed = False
        self._candidates = CandidateVectors(info, cache_bytes)

    def upsert(self, points: Sequence[Point]) -> None:
        """See `Collection.upsert`; the engine's write-ahead log makes it durable."""
        self._candidates.clear()
        with_head = self.info.head > 0
        self._update(
            edge.UpdateOperation.upsert_points(
                [
                    edge.Point(
                        p.id,
                        {JOINT: p.joint.tolist(), HEAD: p.head.tolist()} if with_head else {JOINT: p.joint.tolist()},
                        p.payload,
                    )
                    for p in points
                ]
            ),
            len(points),
        )

    def delete(self, ids: Sequence[str]) -> None:
        """See `Collection.delete`."""
        self._candidates.clear()
        self._update(edge.UpdateOperation.delete_points(list(ids)))

    def _update(self, operation: edge.UpdateOperation, images: int = 0) -> None:
        check_space(self._root, self.info, images)
        with full_disk(self._root):
            self._shard.update(operation)

    def nearest(
        self,
        joint: Floats,
        limit: int,
        vectors: Sequence[str] = (),
        exact: bool = False,
        where: Filter | None = None,
        deadline: float | None = None,  # noqa: ARG002 - the engine takes no timeout
    ) -> Candidates:
        """See `Collection.nearest`."""
        hits = self._shard.query(
            edge.QueryRequest(
                limit=limit,
                query=edge.Query.Nearest(joint.tolist(), using=JOINT),
                params=_EXACT if exact else edge.SearchParams(hnsw_ef=self.info.search_ef, quantization=_RESCORED),
                filter=None if where is None else _edge_filter(typed(where, self._indexed)),
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
        """See `Collection.set_payload`; points with the same change are written in one operation."""
        alike: dict[str, list[str]] = {}
        for identity, fields in changes.items():
            alike.setdefault(json.dumps(fields, sort_keys=True), []).append(identity)
        for ids in alike.values():
            fields = changes[ids[0]]
            values = {name: value for name, value in fields.items() if value is not None}
            if values:
                self._update(edge.UpdateOperation.set_payload(list[Any](ids), values))
            if len(values) < len(fields):
                removed = [name for name in fields if name not in values]
                self._update(edge.UpdateOperation.delete_payload(list[Any](ids), removed))

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
        check_space(self._root, self.info, self.count())
        with full_disk(self._root):
            self._shard.optimize()

    def close(self) -> None:
        """See `Collection.close`; may be called twice."""
        if self._closed:
            return
        self._closed = True
        with full_disk(self._root):
            self._shard.flush()
        self._shard.close()
        self._lock.release()
        if self._on_close is not None:
            self._on_close()


def shard_config(info: CollectionInfo) -> edge.EdgeConfig:
    """The vectors of a generation, and the size from which the engine builds a graph."""
    joint = edge.EdgeVectorParams(
        info.joint,
        edge.Distance.Cosine,
        hnsw_config=_HNSW,
        quantization_config=_QUANTIZED,
        memory=edge.Memory.Cold,
    )
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


def index_fields(shard: edge.EdgeShard, info: CollectionInfo) -> None:
    """Create the payload indexes of the record, keep those with the same type, and delete all others."""
    wanted = {json_path(field_path(name)): _FIELD_TYPES[kind] for name, kind in info.indexed.items()}
    existing = {field: index.data_type for field, index in shard.info().payload_schema.items()}
    for field in existing.keys() - {field for field, kind in wanted.items() if existing.get(field) == kind}:
        shard.update(edge.UpdateOperation.delete_field_index(field))
        del existing[field]
    for field in wanted.keys() - existing.keys():
        shard.update(edge.UpdateOperation.create_field_index(field, wanted[field]))


def _edge_filter(where: Filter) -> edge.Filter:
    """Translate a filter to the objects of the engine."""
    return edge.Filter(must=[_condition(where)])


def _condition(where: Filter) -> Any:
    return _TRANSLATIONS[type(where)](where)


def _equals(where: Equals) -> edge.FieldCondition:
    # The binding treats Python's bool as the numbers 0 and 1, and numpy's as a bool.
    value: Any = np.bool_(where.value) if isinstance(where.value, bool) else where.value
    return edge.FieldCondition(json_path(where.field), match=edge.MatchValue(value))


def _dates(where: DateRange) -> edge.FieldCondition:
    bounds = {key: _text(getattr(where, key)) for key in ("gt", "gte", "lt", "lte")}
    return edge.FieldCondition(json_path(where.field), range=edge.RangeDateTime(**bounds))


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


_TRANSLATIONS: dict[type, Callable[[Any], Any]] = {
    All: lambda w: edge.Filter(must=[_condition(part) for part in w.parts]),
    AnyPart: lambda w: edge.Filter(should=[_condition(part) for part in w.parts]),
    Not: lambda w: edge.Filter(must_not=[_condition(w.part)]),
    Equals: _equals,
    AnyOf: lambda w: edge.FieldCondition(json_path(w.field), match=edge.MatchAny(list(w.values))),
    HasValue: lambda w: edge.Filter(must_not=[edge.IsEmptyCondition(json_path(w.field))]),
    InFolder: lambda w: edge.FieldCondition("folders", match=edge.MatchValue(w.folder)),
    NumberRange: lambda w: edge.FieldCondition(
        json_path(w.field), range=edge.RangeFloat(gt=w.gt, gte=w.gte, lt=w.lt, lte=w.lte)
    ),
    DateRange: _dates,
    Near: lambda w: edge.FieldCondition(
        json_path(w.field), geo_radius=edge.GeoRadius(edge.GeoPoint(w.lon, w.lat), w.meters)
    ),
    Within: lambda w: edge.FieldCondition(
        json_path(w.field),
        geo_bounding_box=edge.GeoBoundingBox(edge.GeoPoint(w.west, w.north), edge.GeoPoint(w.east, w.south)),
    ),
}
