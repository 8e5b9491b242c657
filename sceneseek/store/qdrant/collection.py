"""One generation on a Qdrant server; see `Collection`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from qdrant_client import QdrantClient, models

from sceneseek.errors import IndexUnavailable
from sceneseek.filters import Filter, field_path, typed
from sceneseek.scorer import Candidates
from sceneseek.store.base import HEAD, JOINT, CollectionInfo, Point, Record, StoredVectors
from sceneseek.store.qdrant.connection import Connection
from sceneseek.store.qdrant.filters import qdrant_filter
from sceneseek.store.qdrant.lease import Lease
from sceneseek.store.qdrant.record import GenerationRecord
from sceneseek.vectors import Floats

log = logging.getLogger(__name__)
Result = TypeVar("Result")

GRAPH = models.HnswConfigDiff(m=16, ef_construct=128)
NO_GRAPH = models.HnswConfigDiff(m=0)
# A query is tried again only while somebody would still wait for it.
QUERY_PATIENCE = 1.0
# The server takes requests of 32 MB; smaller ones keep its pauses short. A number is some 12 bytes in JSON.
_UPSERT_POINTS, _UPSERT_BYTES, _NUMBER_BYTES = 256, 4_000_000, 12
# After an update the server may still call itself green for a moment, so green counts when it lasts.
_POLL_SECONDS, _GREEN_POLLS = 0.5, 4
_OVERSAMPLING = 2.0


class QdrantCollection:
    """One generation; `name` is the collection's on the server. Thread-safe.

    Args:
        info: see `Collection`.
        name: the collection's name on the server.
        connection: the way there.
        lease: of the store that opened it for writing, whose every request waits for the server; None of one that is
            searched only.
    """

    def __init__(self, info: CollectionInfo, name: str, connection: Connection, lease: Lease | None = None) -> None:
        self.info, self.name = info, name
        self._indexed = {field_path(field): kind for field, kind in info.indexed.items()}
        self._connection, self._lease = connection, lease
        self._patience = QUERY_PATIENCE if lease is None else None

    def upsert(self, points: Sequence[Point]) -> None:
        """See `Collection.upsert`; the server has applied the points, and has them in its log, when it answers."""
        numbers = self.info.joint + self.info.head
        step = max(1, min(_UPSERT_POINTS, _UPSERT_BYTES // (_NUMBER_BYTES * numbers)))
        for start in range(0, len(points), step):
            self._upsert([self._struct(point) for point in points[start : start + step]])

    def delete(self, ids: Sequence[str]) -> None:
        """See `Collection.delete`."""
        if ids:
            selector = models.PointIdsList(points=list(ids))
            self._write(lambda client: client.delete(self.name, selector, wait=True))

    def shortlist(
        self,
        joint: Floats,
        limit: int,
        vectors: Sequence[str] = (),
        exact: bool = False,
        where: Filter | None = None,
    ) -> Candidates:
        """See `Collection.shortlist`."""
        stored = [name for name in vectors if name == JOINT or self.info.head]
        query = joint.tolist()
        query_filter = None if where is None else qdrant_filter(typed(where, self._indexed))
        answer = self._connection.call(
            lambda client: client.query_points(
                self.name,
                query=query,
                using=JOINT,
                query_filter=query_filter,
                search_params=self._search_params(exact),
                limit=limit,
                with_payload=False,
                with_vectors=stored or False,
            ),
            self._patience,
        )
        hits = answer.points
        read: list[Any] = [hit.vector or {} for hit in hits] if vectors else []
        return Candidates(
            ids=[str(hit.id) for hit in hits],
            similarity=np.array([hit.score for hit in hits], dtype=np.float32),
            joint=_matrix([v[JOINT] for v in read], self.info.joint) if JOINT in vectors else None,
            head=_matrix([v.get(HEAD, ()) for v in read], self.info.head) if HEAD in vectors else None,
        )

    def retrieve(self, ids: Sequence[str]) -> list[Record]:
        """See `Collection.retrieve`."""
        if not ids:
            return []
        found = self._connection.call(
            lambda client: client.retrieve(self.name, list(ids), with_payload=True, with_vectors=False), self._patience
        )
        by_id = {str(record.id): Record(str(record.id), dict(record.payload or {})) for record in found}
        return [by_id[i] for i in ids if i in by_id]

    def vectors(self, ids: Sequence[str]) -> dict[str, StoredVectors]:
        """See `Collection.vectors`."""
        if not ids:
            return {}
        names = [JOINT, HEAD] if self.info.head else [JOINT]
        found = self._connection.call(
            lambda client: client.retrieve(self.name, list(ids), with_payload=False, with_vectors=names)
        )
        rows: list[tuple[str, Any]] = [(str(record.id), record.vector) for record in found]
        return {
            identity: StoredVectors(
                np.array(row[JOINT], dtype=np.float32), np.array(row.get(HEAD, ()), dtype=np.float32)
            )
            for identity, row in rows
        }

    def set_payload(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """See `Collection.set_payload`; all changes go in one request."""
        operations: list[Any] = []
        for identity, fields in changes.items():
            there = {name: value for name, value in fields.items() if value is not None}
            gone = [name for name in fields if name not in there]
            if there:
                change = models.SetPayload(payload=there, points=[identity])
                operations.append(models.SetPayloadOperation(set_payload=change))
            if gone:
                removal = models.DeletePayload(keys=gone, points=[identity])
                operations.append(models.DeletePayloadOperation(delete_payload=removal))
        if operations:
            self._write(lambda client: client.batch_update_points(self.name, operations, wait=True))

    def scroll(self, batch: int = 1024) -> Iterator[Record]:
        """See `Collection.scroll`."""
        offset: Any = None
        while True:
            records, offset = self._page(offset, batch)
            for record in records:
                yield Record(str(record.id), dict(record.payload or {}))
            if offset is None:
                return

    def count(self) -> int:
        """See `Collection.count`."""
        return self._connection.call(lambda client: client.count(self.name, exact=True), self._patience).count

    def optimize(self) -> None:
        """See `Collection.optimize`: has the server build the graph, and waits until it has.

        Raises:
            IndexUnavailable: the server reports that it cannot.
        """
        joint = models.VectorParamsDiff(hnsw_config=GRAPH, quantization_config=self._quantization())
        self._write(lambda client: client.update_collection(self.name, vectors_config={JOINT: joint}))
        if not self._connection.in_process:
            self._wait_for_green()

    def close(self) -> None:
        """See `Collection.close`; the server holds everything already."""

    def mark(self, record: GenerationRecord) -> None:
        """Write the generation's record."""
        self._write(lambda client: client.update_collection(self.name, metadata=record.to_metadata()))

    def _write(self, request: Callable[[QdrantClient], Result]) -> Result:
        """A request that changes something, made while the lease is ours: after a long wait it may not be."""
        lease = self._lease
        assert lease is not None, "open for reading"  # noqa: S101 - a bug, and no user's

        def checked(client: QdrantClient) -> Result:
            lease.check()
            return request(client)

        return self._connection.call(checked)

    def _upsert(self, structs: list[models.PointStruct]) -> None:
        self._write(lambda client: client.upsert(self.name, structs, wait=True))

    def _page(self, offset: Any, batch: int) -> tuple[list[models.Record], Any]:
        return self._connection.call(
            lambda client: client.scroll(self.name, limit=batch, offset=offset, with_payload=True, with_vectors=False)
        )

    def _struct(self, point: Point) -> models.PointStruct:
        vector = {JOINT: point.joint.tolist()}
        if self.info.head:
            vector[HEAD] = point.head.tolist()
        return models.PointStruct(id=point.id, vector=vector, payload=point.payload)

    def _search_params(self, exact: bool) -> models.SearchParams | None:
        if self._connection.in_process:  # it always searches exactly, and warns when told how
            return None
        if self._connection.settings.quantization == "none":
            return models.SearchParams(exact=True) if exact else None
        return models.SearchParams(
            exact=exact,
            quantization=models.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=_OVERSAMPLING),
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
                # It was started anew and waits for an update before it goes on.
                self._write(self._wake)
            green = green + 1 if found.status == models.CollectionStatus.GREEN else 0
            if (seconds := time.monotonic() - start) - reported > 60:
                reported = seconds
                log.info("the server has been building the graph for %.0f min", seconds / 60)

    def _wake(self, client: QdrantClient) -> bool:
        return client.update_collection(self.name, optimizers_config=models.OptimizersConfigDiff())


def _matrix(rows: list[Any], width: int) -> Floats:
    """(N, width), also where the rows or the width are none."""
    return np.array(rows, dtype=np.float32).reshape(len(rows), width)
