"""The gRPC part of the fake server in `tests.played_qdrant`, backed by the in-process mode of qdrant-client."""

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
    """A fake Qdrant gRPC server that can be made to fail and records the calls.

    Attributes:
        client: answers the calls; share it with a `PlayedQdrant` to make one server of both.
        key: the required API key, or None.
        failing: by method, the status and details that its next calls fail with.
        seen: the methods called, in order.
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
        def handle(message: Any, context: grpc.ServicerContext) -> Any:
            self.seen.append(name)
            if self.key not in (None, dict(context.invocation_metadata()).get("api-key")):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key")
            if self.failing.get(name):
                context.abort(*self.failing[name].pop(0))
            with self.guard, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    return answer(self.client, message)
                except ValueError as error:
                    not_found = "not found" in str(error)
                    context.abort(
                        grpc.StatusCode.NOT_FOUND if not_found else grpc.StatusCode.INVALID_ARGUMENT, str(error)
                    )

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=request.FromString, response_serializer=lambda reply: reply.SerializeToString()
        )


def _done(_: Any) -> Any:
    return wire.CollectionOperationResponse(result=True)


def _updated(_: Any) -> Any:
    return wire.PointsOperationResponse(result=wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed))


def _id(point: Any) -> Any:
    return GrpcToRest.convert_point_id(point)


def _create(client: QdrantClient, message: Any) -> Any:
    return _done(
        client.create_collection(
            message.collection_name,
            vectors_config=GrpcToRest.convert_vectors_config(message.vectors_config),
            metadata=GrpcToRest.convert_payload(message.metadata),
        )
    )


def _update(client: QdrantClient, message: Any) -> Any:
    metadata = GrpcToRest.convert_payload(message.metadata) if message.metadata else None
    return _done(client.update_collection(message.collection_name, metadata=metadata))


def _get(client: QdrantClient, message: Any) -> Any:
    info = client.get_collection(message.collection_name)
    return wire.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))


def _switch(client: QdrantClient, message: Any) -> Any:
    return _done(client.update_collection_aliases([GrpcToRest.convert_alias_operations(a) for a in message.actions]))


def _points(records: Any) -> list[Any]:
    return [
        RestToGrpc.convert_record(record.model_copy(update={"payload": record.payload or {}})) for record in records
    ]


def _scroll(client: QdrantClient, message: Any) -> Any:
    offset = _id(message.offset) if message.HasField("offset") else None
    records, next_id = client.scroll(message.collection_name, limit=message.limit, offset=offset)
    next_offset = RestToGrpc.convert_extended_point_id(next_id) if next_id is not None else None
    return wire.ScrollResponse(result=_points(records), next_page_offset=next_offset)


def _vectors(message: Any) -> Any:
    return GrpcToRest.convert_with_vectors_selector(message.with_vectors) if message.HasField("with_vectors") else False


def _query(client: QdrantClient, message: Any) -> Any:
    condition = GrpcToRest.convert_filter(message.filter) if message.HasField("filter") else None
    response = client.query_points(
        message.collection_name,
        query=GrpcToRest.convert_query(message.query),
        using=message.using,
        query_filter=condition,
        limit=message.limit,
        with_payload=False,
        with_vectors=_vectors(message),
    )
    hits = [hit.model_copy(update={"payload": {}}) for hit in response.points]
    return wire.QueryResponse(result=[RestToGrpc.convert_scored_point(hit) for hit in hits])


def _retrieve(client: QdrantClient, message: Any) -> Any:
    records = client.retrieve(
        message.collection_name,
        [_id(i) for i in message.ids],
        with_payload=GrpcToRest.convert_with_payload_selector(message.with_payload),
        with_vectors=_vectors(message),
    )
    return wire.GetResponse(result=_points(records))


def _upsert(client: QdrantClient, message: Any) -> Any:
    assert message.wait
    points = [GrpcToRest.convert_point_struct(point) for point in message.points]
    condition = GrpcToRest.convert_filter(message.update_filter) if message.HasField("update_filter") else None
    return _updated(client.upsert(message.collection_name, points, update_filter=condition))


def _delete(client: QdrantClient, message: Any) -> Any:
    selector = models.PointIdsList(points=[_id(i) for i in message.points.points.ids])
    return _updated(client.delete(message.collection_name, selector))


def _change(client: QdrantClient, message: Any) -> Any:
    assert message.wait
    for operation in message.operations:
        if operation.HasField("set_payload"):
            change = operation.set_payload
            ids = [_id(i) for i in change.points_selector.points.ids]
            client.set_payload(message.collection_name, GrpcToRest.convert_payload(change.payload), ids)
        else:
            removal = operation.delete_payload
            ids = [_id(i) for i in removal.points_selector.points.ids]
            client.delete_payload(message.collection_name, list(removal.keys), ids)
    completed = wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed)
    return wire.UpdateBatchResponse(result=[completed for _ in message.operations])


_SERVICES: dict[str, dict[str, tuple[Any, Callable[[QdrantClient, Any], Any]]]] = {
    "qdrant.Qdrant": {"HealthCheck": (wire.HealthCheckRequest, lambda *_: wire.HealthCheckReply(version="1.20.0"))},
    "qdrant.Collections": {
        "Create": (wire.CreateCollection, _create),
        "Update": (wire.UpdateCollection, _update),
        "Get": (wire.GetCollectionInfoRequest, _get),
        "Delete": (wire.DeleteCollection, lambda c, message: _done(c.delete_collection(message.collection_name))),
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
            lambda c, message: wire.CountResponse(
                result=wire.CountResult(count=c.count(message.collection_name).count)
            ),
        ),
        "CreateFieldIndex": (wire.CreateFieldIndexCollection, lambda *_: _updated(None)),
    },
}
