"""One generation on a Qdrant server, see `Collection`, and its record in the metadata of its collection."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import numpy as np
from qdrant_client import QdrantClient, models

from sceneseek.errors import IndexUnavailable
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
from sceneseek.store.base import HEAD, JOINT, OVERSAMPLING, CollectionInfo, Point, Record, Source, StoredVectors
from sceneseek.store.qdrant.connection import Connection
from sceneseek.store.qdrant.lease import Lease
from sceneseek.store.vector_cache import CandidateVectors
from sceneseek.vectors import Candidates, Floats

log = logging.getLogger(__name__)
Result = TypeVar("Result")
State: TypeAlias = Literal["begun", "building", "published"]
KEY = "sceneseek"
FORMAT = 1

GRAPH = models.HnswConfigDiff(m=16, ef_construct=128)
NO_GRAPH = models.HnswConfigDiff(m=0)
# Seconds for retries of searches and of reading the alias.
QUERY_PATIENCE = 1.0
# The server accepts requests of 32 MB; smaller ones keep its pauses short. A number takes some 12 bytes of JSON.
_UPSERT_POINTS, _UPSERT_BYTES, _NUMBER_BYTES = 256, 4_000_000, 12
# Vectors are read in parts small enough for the timeout of a query on a loaded server.
_READ_BYTES = 4_000_000
# The server may still report green briefly after an update, so several polls in a row must be green.
_POLL_SECONDS, _GREEN_POLLS = 0.5, 4


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """The record of a generation, in the metadata of its collection.

        {"sceneseek": {"format": 1, "alias": ..., "state": "begun" | "building" | "published",
                       "beside": a generation, "base": a generation, "info": a CollectionInfo}}

    Attributes:
        alias: the alias that it belongs to.
        state: `begun` until its payload indexes exist and the copy of its base is complete, `building` until the alias
            has moved, then `published`.
        beside: the generation that was live when it began.
        base: the generation that it is a copy of; None if it began empty.
        info: see `CollectionInfo`.
    """

    alias: str
    state: State
    beside: str | None
    base: str | None
    info: CollectionInfo

    def to_metadata(self) -> dict[str, Any]:
        """The metadata of the collection."""
        return {KEY: {"format": FORMAT, **dataclasses.asdict(self)}}

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any] | None) -> GenerationRecord | None:
        """The record in the metadata of a collection; None if it is missing or has an unknown format."""
        try:
            raw = (metadata or {})[KEY]
            if raw["format"] != FORMAT:
                return None
            sources = tuple(Source(**source) for source in raw["info"]["sources"])
            known = {field.name for field in dataclasses.fields(CollectionInfo)}
            values = {name: value for name, value in raw["info"].items() if name in known}
            info = CollectionInfo(**{**values, "sources": sources})
            # Older programs also wrote "optimising", and no base.
            state: State = raw["state"] if raw["state"] in ("begun", "published") else "building"
            return cls(raw["alias"], state, raw["beside"], raw.get("base"), info)
        except (KeyError, TypeError, ValueError):
            return None


class QdrantCollection:
    """One generation. Thread-safe.

    Args:
        info: see `Collection`.
        name: the name of the collection on the server.
        connection: to the server.
        lease: the lease of the store, for writing, with long retries; None for searching.
        cache_bytes: size of the vector cache; 0 for a generation that changes.
    """

    def __init__(
        self,
        info: CollectionInfo,
        name: str,
        connection: Connection,
        lease: Lease | None = None,
        cache_bytes: int = 0,
    ) -> None:
        self.info, self.name = info, name
        self._indexed = {field_path(field): kind for field, kind in info.indexed.items()}
        self._connection, self._lease = connection, lease
        self._patience = QUERY_PATIENCE if lease is None else None
        self._candidates = CandidateVectors(info, cache_bytes)

    def upsert(self, points: Sequence[Point]) -> None:
        """See `Collection.upsert`; the server responds once it has logged and applied the points."""
        numbers = self.info.joint + self.info.head
        step = max(1, min(_UPSERT_POINTS, _UPSERT_BYTES // (_NUMBER_BYTES * numbers)))
        for start in range(0, len(points), step):
            self._upsert([self._struct(point) for point in points[start : start + step]])

    def delete(self, ids: Sequence[str]) -> None:
        """See `Collection.delete`."""
        if ids:
            selector = models.PointIdsList(points=list(ids))
            self._write(lambda client: client.delete(self.name, selector, wait=True))

    def nearest(
        self,
        joint: Floats,
        limit: int,
        vectors: Sequence[str] = (),
        exact: bool = False,
        where: Filter | None = None,
        deadline: float | None = None,
    ) -> Candidates:
        """See `Collection.nearest`; requests ids and scores only, and reads vectors through the cache.

        With the vectors in the same request, reading a hundred of them took ten of fourteen milliseconds.
        """
        params = _plain(self._search_params(exact))
        query = {"query": joint.tolist(), "using": JOINT, "limit": limit, "with_payload": False, "params": params}
        if where is not None:
            query["filter"] = _plain(_qdrant_filter(typed(where, self._indexed)))
        hits = self._ask("/query", query, deadline)["points"]
        ids = [str(hit["id"]) for hit in hits]
        joints, heads = self._candidates.read(
            ids, vectors, lambda missing, with_head: self._vectors(missing, with_head, deadline)
        )
        return Candidates(ids, np.array([hit["score"] for hit in hits], dtype=np.float32), joints, heads)

    def retrieve(self, ids: Sequence[str], deadline: float | None = None) -> list[Record]:
        """See `Collection.retrieve`."""
        if not ids:
            return []
        found = self._ask("", {"ids": list(ids), "with_payload": True, "with_vector": False}, deadline)
        by_id = {str(point["id"]): Record(str(point["id"]), point["payload"] or {}) for point in found}
        return [by_id[i] for i in ids if i in by_id]

    def vectors(self, ids: Sequence[str], deadline: float | None = None) -> dict[str, StoredVectors]:
        """See `Collection.vectors`."""
        return self._vectors(ids, with_head=True, deadline=deadline)

    def _vectors(self, ids: Sequence[str], with_head: bool, deadline: float | None) -> dict[str, StoredVectors]:
        names = [JOINT, HEAD] if with_head and self.info.head else [JOINT]
        numbers = self.info.joint + (self.info.head if HEAD in names else 0)
        step = max(1, _READ_BYTES // (_NUMBER_BYTES * numbers))
        found: dict[str, StoredVectors] = {}
        for start in range(0, len(ids), step):
            part = {"ids": list(ids[start : start + step]), "with_payload": False, "with_vector": names}
            for point in self._ask("", part, deadline):
                row = point["vector"]
                found[str(point["id"])] = StoredVectors(
                    np.array(row[JOINT], dtype=np.float32), np.array(row.get(HEAD, ()), dtype=np.float32)
                )
        return found

    def set_payload(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """See `Collection.set_payload`; all changes are sent in one request."""
        operations: list[Any] = []
        for identity, fields in changes.items():
            values = {name: value for name, value in fields.items() if value is not None}
            removed = [name for name in fields if name not in values]
            if values:
                change = models.SetPayload(payload=values, points=[identity])
                operations.append(models.SetPayloadOperation(set_payload=change))
            if removed:
                removal = models.DeletePayload(keys=removed, points=[identity])
                operations.append(models.DeletePayloadOperation(delete_payload=removal))
        if operations:
            self._write(lambda client: client.batch_update_points(self.name, operations, wait=True))

    def scroll(self, batch: int = 1024, deadline: float | None = None) -> Iterator[Record]:
        """See `Collection.scroll`."""
        page: dict[str, Any] = {"limit": batch, "with_payload": True, "with_vector": False}
        while True:
            found = self._ask("/scroll", page, deadline)
            for point in found["points"]:
                yield Record(str(point["id"]), point["payload"] or {})
            if (offset := found["next_page_offset"]) is None:
                return
            page["offset"] = offset

    def count(self, deadline: float | None = None) -> int:
        """See `Collection.count`."""
        return int(self._ask("/count", {"exact": True}, deadline)["count"])

    def optimize(self) -> None:
        """See `Collection.optimize`; enables the graph and waits until the server has built it.

        Raises:
            IndexUnavailable: the server cannot build it.
        """
        joint = models.VectorParamsDiff(hnsw_config=GRAPH, quantization_config=self._quantization())
        self._write(lambda client: client.update_collection(self.name, vectors_config={JOINT: joint}))
        self._wait_for_green()

    def close(self) -> None:
        """See `Collection.close`; does nothing."""

    def mark(self, record: GenerationRecord) -> None:
        """Write the record of the generation."""
        self._write(lambda client: client.update_collection(self.name, metadata=record.to_metadata()))

    def _write(self, request: Callable[[QdrantClient], Result]) -> Result:
        """Send a write, checking the lease before each attempt: it may be lost during a long wait."""
        lease = self._lease
        assert lease is not None, "open for reading"  # noqa: S101 - a bug, not a user's error

        def checked(client: QdrantClient) -> Result:
            lease.check()
            return request(client)

        return self._connection.call(checked)

    def _ask(self, operation: str, document: dict[str, Any], deadline: float | None) -> Any:
        path = f"/collections/{quote(self.name)}/points{operation}"
        return self._connection.request("POST", path, document, deadline, self._patience)

    def _upsert(self, structs: list[models.PointStruct]) -> None:
        self._write(lambda client: client.upsert(self.name, structs, wait=True))

    def _struct(self, point: Point) -> models.PointStruct:
        vector = {JOINT: point.joint.tolist()}
        if self.info.head:
            vector[HEAD] = point.head.tolist()
        return models.PointStruct(id=point.id, vector=vector, payload=point.payload)

    def _search_params(self, exact: bool) -> models.SearchParams:
        quantization = None
        if self._connection.settings.quantization != "none":
            quantization = models.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=OVERSAMPLING)
        return models.SearchParams(
            exact=exact, hnsw_ef=None if exact else self.info.search_ef, quantization=quantization
        )

    def _quantization(self) -> models.ScalarQuantization | None:
        if self._connection.settings.quantization == "none":
            return None
        return models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        )

    def _wait_for_green(self) -> None:
        green, start, reported = 0, time.monotonic(), 0.0
        while green < _GREEN_POLLS:
            time.sleep(_POLL_SECONDS)
            found = self._connection.call(lambda client: client.get_collection(self.name))
            if found.status == models.CollectionStatus.RED:
                reason = getattr(found.optimizer_status, "error", found.optimizer_status)
                raise IndexUnavailable(
                    f"the Qdrant server at {self._connection.url} cannot build the graph ({reason})",
                    "read its log, then run the same command again",
                )
            if found.status == models.CollectionStatus.GREY:
                # After a restart, the server does not continue before an update.
                self._write(self._wake)
            green = green + 1 if found.status == models.CollectionStatus.GREEN else 0
            if (seconds := time.monotonic() - start) - reported > 60:
                reported = seconds
                log.info("the server has been building the graph for %.0f min", seconds / 60)

    def _wake(self, client: QdrantClient) -> bool:
        return client.update_collection(self.name, optimizers_config=models.OptimizersConfigDiff())


def _plain(model: models.Filter | models.SearchParams) -> Any:
    """Convert a model to JSON values."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _qdrant_filter(where: Filter) -> models.Filter:
    """Translate a filter to the models of qdrant-client."""
    return models.Filter(must=[_condition(where)])


def _condition(where: Filter) -> Any:
    return _TRANSLATIONS[type(where)](where)


_TRANSLATIONS: dict[type, Callable[[Any], Any]] = {
    All: lambda w: models.Filter(must=[_condition(part) for part in w.parts]),
    AnyPart: lambda w: models.Filter(should=[_condition(part) for part in w.parts]),
    Not: lambda w: models.Filter(must_not=[_condition(w.part)]),
    Equals: lambda w: models.FieldCondition(key=json_path(w.field), match=models.MatchValue(value=w.value)),
    AnyOf: lambda w: models.FieldCondition(key=json_path(w.field), match=models.MatchAny(any=list(w.values))),
    HasValue: lambda w: models.Filter(
        must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=json_path(w.field)))]
    ),
    InFolder: lambda w: models.FieldCondition(key="folders", match=models.MatchValue(value=w.folder)),
    NumberRange: lambda w: models.FieldCondition(
        key=json_path(w.field), range=models.Range(gt=w.gt, gte=w.gte, lt=w.lt, lte=w.lte)
    ),
    DateRange: lambda w: models.FieldCondition(
        key=json_path(w.field), range=models.DatetimeRange(gt=w.gt, gte=w.gte, lt=w.lt, lte=w.lte)
    ),
    Near: lambda w: models.FieldCondition(
        key=json_path(w.field),
        geo_radius=models.GeoRadius(center=models.GeoPoint(lat=w.lat, lon=w.lon), radius=w.meters),
    ),
    Within: lambda w: models.FieldCondition(
        key=json_path(w.field),
        geo_bounding_box=models.GeoBoundingBox(
            top_left=models.GeoPoint(lat=w.north, lon=w.west), bottom_right=models.GeoPoint(lat=w.south, lon=w.east)
        ),
    ),
}
