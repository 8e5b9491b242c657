"""The gRPC half of `tests.played_qdrant`: real sockets and Qdrant's protocol over the client's in-process mode."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as wire
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc


@dataclass
class PlayedGrpc:
    """What the server is told, and what it saw.

    Attributes:
        client: what answers; share it with a `PlayedQdrant` to play both halves of one server.
        key: the API key that it wants; None for none.
        failing: method to the statuses its next calls end with, each with its details.
        seen: methods called, in order.
    """

    client: QdrantClient
    guard: threading.RLock
    key: str | None = None
    failing: dict[str, list[tuple[grpc.StatusCode, str]]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    port: int = 0

    @contextlib.contextmanager
    def serving(self) -> Iterator[PlayedGrpc]:
        """Listen until the block ends."""
        server = grpc.server(ThreadPoolExecutor(8))
        for service, methods in _SERVICES.items():
            handlers = {name: self._handler(name, *method) for name, method in methods.items()}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield self
        finally:
            server.stop(None).wait()

    def _handler(self, name: str, request: Any, answer: Callable[[QdrantClient, Any], Any]) -> Any:
        def handle(asked: Any, context: grpc.ServicerContext) -> Any:
            self.seen.append(name)
            if self.key not in (None, dict(context.invocation_metadata()).get("api-key")):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key")
            if self.failing.get(name):
                context.abort(*self.failing[name].pop(0))
            with self.guard, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    return answer(self.client, asked)
                except ValueError as error:
                    lost = "not found" in str(error)
                    context.abort(grpc.StatusCode.NOT_FOUND if lost else grpc.StatusCode.INVALID_ARGUMENT, str(error))

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=request.FromString, response_serializer=lambda reply: reply.SerializeToString()
        )


def _done(_: Any) -> Any:
    return wire.CollectionOperationResponse(result=True)


def _updated(_: Any) -> Any:
    return wire.PointsOperationResponse(result=wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed))


def _id(point: Any) -> Any:
    return GrpcToRest.convert_point_id(point)


def _create(client: QdrantClient, asked: Any) -> Any:
    return _done(
        client.create_collection(
            asked.collection_name,
            vectors_config=GrpcToRest.convert_vectors_config(asked.vectors_config),
            metadata=GrpcToRest.convert_payload(asked.metadata),
        )
    )


def _update(client: QdrantClient, asked: Any) -> Any:
    metadata = GrpcToRest.convert_payload(asked.metadata) if asked.metadata else None
    return _done(client.update_collection(asked.collection_name, metadata=metadata))


def _get(client: QdrantClient, asked: Any) -> Any:
    found = client.get_collection(asked.collection_name)
    return wire.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(found))


def _switch(client: QdrantClient, asked: Any) -> Any:
    return _done(client.update_collection_aliases([GrpcToRest.convert_alias_operations(a) for a in asked.actions]))


def _points(found: Any) -> list[Any]:
    return [RestToGrpc.convert_record(record.model_copy(update={"payload": record.payload or {}})) for record in found]


def _scroll(client: QdrantClient, asked: Any) -> Any:
    offset = _id(asked.offset) if asked.HasField("offset") else None
    found, following = client.scroll(asked.collection_name, limit=asked.limit, offset=offset)
    after = RestToGrpc.convert_extended_point_id(following) if following is not None else None
    return wire.ScrollResponse(result=_points(found), next_page_offset=after)


def _vectors(asked: Any) -> Any:
    return GrpcToRest.convert_with_vectors_selector(asked.with_vectors) if asked.HasField("with_vectors") else False


def _query(client: QdrantClient, asked: Any) -> Any:
    where = GrpcToRest.convert_filter(asked.filter) if asked.HasField("filter") else None
    found = client.query_points(
        asked.collection_name,
        query=GrpcToRest.convert_query(asked.query),
        using=asked.using,
        query_filter=where,
        limit=asked.limit,
        with_payload=False,
        with_vectors=_vectors(asked),
    )
    hits = [hit.model_copy(update={"payload": {}}) for hit in found.points]
    return wire.QueryResponse(result=[RestToGrpc.convert_scored_point(hit) for hit in hits])


def _retrieve(client: QdrantClient, asked: Any) -> Any:
    found = client.retrieve(
        asked.collection_name,
        [_id(i) for i in asked.ids],
        with_payload=GrpcToRest.convert_with_payload_selector(asked.with_payload),
        with_vectors=_vectors(asked),
    )
    return wire.GetResponse(result=_points(found))


def _upsert(client: QdrantClient, asked: Any) -> Any:
    assert asked.wait
    points = [GrpcToRest.convert_point_struct(point) for point in asked.points]
    where = GrpcToRest.convert_filter(asked.update_filter) if asked.HasField("update_filter") else None
    return _updated(client.upsert(asked.collection_name, points, update_filter=where))


def _delete(client: QdrantClient, asked: Any) -> Any:
    gone = models.PointIdsList(points=[_id(i) for i in asked.points.points.ids])
    return _updated(client.delete(asked.collection_name, gone))


def _change(client: QdrantClient, asked: Any) -> Any:
    assert asked.wait
    for operation in asked.operations:
        if operation.HasField("set_payload"):
            change = operation.set_payload
            there = [_id(i) for i in change.points_selector.points.ids]
            client.set_payload(asked.collection_name, GrpcToRest.convert_payload(change.payload), there)
        else:
            removal = operation.delete_payload
            there = [_id(i) for i in removal.points_selector.points.ids]
            client.delete_payload(asked.collection_name, list(removal.keys), there)
    done = wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed)
    return wire.UpdateBatchResponse(result=[done for _ in asked.operations])


_SERVICES: dict[str, dict[str, tuple[Any, Callable[[QdrantClient, Any], Any]]]] = {
    "qdrant.Qdrant": {"HealthCheck": (wire.HealthCheckRequest, lambda *_: wire.HealthCheckReply(version="1.20.0"))},
    "qdrant.Collections": {
        "Create": (wire.CreateCollection, _create),
        "Update": (wire.UpdateCollection, _update),
        "Get": (wire.GetCollectionInfoRequest, _get),
        "Delete": (wire.DeleteCollection, lambda c, asked: _done(c.delete_collection(asked.collection_name))),
        "List": (
            wire.ListCollectionsRequest,
            lambda c, _: wire.ListCollectionsResponse(
                collections=[wire.CollectionDescription(name=f.name) for f in c.get_collections().collections]
            ),
        ),
        "UpdateAliases": (wire.ChangeAliases, _switch),
        "ListAliases": (
            wire.ListAliasesRequest,
            lambda c, _: wire.ListAliasesResponse(
                aliases=[RestToGrpc.convert_alias_description(a) for a in c.get_aliases().aliases]
            ),
        ),
    },
    "qdrant.Points": {
        "Upsert": (wire.UpsertPoints, _upsert),
        "Delete": (wire.DeletePoints, _delete),
        "UpdateBatch": (wire.UpdateBatchPoints, _change),
        "Query": (wire.QueryPoints, _query),
        "Get": (wire.GetPoints, _retrieve),
        "Scroll": (wire.ScrollPoints, _scroll),
        "Count": (
            wire.CountPoints,
            lambda c, asked: wire.CountResponse(result=wire.CountResult(count=c.count(asked.collection_name).count)),
        ),
        "CreateFieldIndex": (wire.CreateFieldIndexCollection, lambda *_: _updated(None)),
    },
}
