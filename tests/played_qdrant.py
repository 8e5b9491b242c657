"""A fake Qdrant server: the REST API over real sockets, backed by the in-process mode of qdrant-client.

It validates requests with the models of qdrant-client, so that they must match the API. It can be made to fail: see
`PlayedQdrant`. It tests how failures are handled, not how Qdrant works. Its error messages and kinds of failure are
those of a real server (1.19).
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models

Fault = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class PlayedQdrant:
    """A fake Qdrant server that can be made to fail and records the requests.

    Attributes:
        version: the version in the response to `GET /`.
        key: the required API key, or None.
        faults: called instead of responding to the next requests whose method and path match `failing`, one per
            request.
        forever: a fault for every such request.
        seen: the method and path of each request, in order.
        bodies: the method, path and body of each handled request.
        dead_node: the seconds for which writes to each collection hang and then fail, because a node has died and the
            cluster has not yet marked its replica as dead; the other replicas apply the writes. 0 if all nodes live.
        host: the address to listen on; it may change between calls of `serving`, as that of a recreated container.
        recovery: the operator's message in recovery mode, or an empty string.
    """

    version: str = "1.20.0"
    key: str | None = None
    faults: list[Fault] = field(default_factory=list)
    forever: Fault | None = None
    failing: str = ".*"
    seen: list[str] = field(default_factory=list)
    bodies: list[tuple[str, Any]] = field(default_factory=list)
    dead_node: float = 0.0
    client: QdrantClient = field(default_factory=lambda: QdrantClient(":memory:"))
    host: str = "127.0.0.1"
    port: int = 0
    recovery: str = ""
    guard: threading.RLock = field(default_factory=threading.RLock)
    _noticed: dict[str, float] = field(default_factory=dict)
    _runs: threading.Event = field(default_factory=threading.Event)
    _connections: set[socket.socket] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._runs.set()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Accept connections but send no responses until the block ends, like a paused container."""
        self._runs.clear()
        try:
            yield
        finally:
            self._runs.set()

    def reset_connections(self) -> None:
        """Reset open connections, like a killed server."""
        at_once = struct.pack("ii", 1, 0)
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                connection.shutdown(socket.SHUT_RDWR)

    def fail(self, *faults: Fault, at: str = ".*") -> None:
        """Make the next requests to `at` fail with these faults, then respond normally."""
        self.faults, self.forever, self.failing = list(faults), None, at

    def fail_always(self, fault: Fault, at: str = ".*") -> None:
        """Make every request to `at` fail with this fault, until `heal`."""
        self.faults, self.forever, self.failing = [], fault, at

    def heal(self) -> None:
        """Respond normally again."""
        self.fail()

    def hangs(self, path: str) -> float:
        """Return how many seconds a write hangs on the dead node; 0 or less once its replica is marked as dead."""
        if not self.dead_node or not (match := re.match(r"/collections/([^/]+)/points(\?|$|/delete|/batch)", path)):
            return 0.0
        return self._noticed.setdefault(match[1], time.monotonic() + self.dead_node) - time.monotonic()

    @contextlib.contextmanager
    def serving(self, tls: ssl.SSLContext | None = None) -> Iterator[PlayedQdrant]:
        """Listen until the block ends, on the previous port if there was one; then close all connections."""
        server = _Server((self.host, self.port), _Handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.played = self
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            self.reset_connections()
            thread.join()


def status(code: int, message: str, **headers: str) -> Fault:
    """Respond with an error in the format of Qdrant."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _answer(handler, code, {"status": {"error": message}, "time": 0.0}, headers)

    return answer


def hang(seconds: float) -> Fault:
    """Close the connection after a delay, without a response."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return answer


def drop(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a response."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


DEAD_NODE = status(
    500,
    "Service internal error: 1 of 2 replicas failed to apply the operation: "
    "Failed to update shard 0 on peer 3: tcp connect error",
)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Yield the URL of an unreachable server: connection attempts are neither accepted nor refused.

    The queue of its listener is full, so that the system ignores further attempts.
    """
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def after(fault: Fault) -> Fault:
    """Handle the request, then apply the fault instead of responding."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        assert isinstance(handler, _Handler)
        handler.handled()
        fault(handler)

    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    played: PlayedQdrant


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.played._connections.add(self.connection)

    def finish(self) -> None:
        self.server.played._connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the connection was reset
            super().handle()

    def do_GET(self) -> None:
        played, path = self.server.played, self.path.split("?")[0]
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        played._runs.wait()
        played.seen.append(f"{self.command} {path}")
        with contextlib.suppress(OSError):  # the client did not wait
            if re.search(played.failing, f"{self.command} {path}") and (played.faults or played.forever):
                fault = played.faults.pop(0) if played.faults else played.forever
                assert fault is not None
                fault(self)
            elif path not in ("", "/") and played.key not in (None, self.headers.get("api-key")):
                status(401, "Must provide an API key or an Authorization bearer token")(self)
            elif self.command == "PUT" and (seconds := played.hangs(path)) > 0:
                after(hang(seconds))(self)
                DEAD_NODE(self)
            else:
                self.answered()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def answered(self) -> None:
        """Handle the request and respond."""
        _answer(self, *self.handled())

    def handled(self) -> tuple[int, dict[str, Any]]:
        """Handle the request and return the status and body of the response."""
        played, path = self.server.played, self.path.split("?")[0].rstrip("/")
        if not path:
            return 200, {"title": "qdrant - vector search engine", "version": played.version}
        if path == "/telemetry":
            features = {"debug": False, "recovery_mode": bool(played.recovery), "gpu": False}
            app = {"version": played.version, "features": features}
            return 200, {"result": {"app": app}, "status": "ok", "time": 0.0}
        document = json.loads(self.body) if self.body else {}
        played.bodies.append((f"{self.command} {path}", document))
        if played.recovery and (action := _in_recovery(f"{self.command} {path}")):
            return 500, {"status": {"error": action.format(played.recovery)}, "time": 0.0}
        with played.guard, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for pattern, handle in _ROUTES:
                if match := re.fullmatch(pattern, f"{self.command} {path}"):
                    start = time.monotonic()
                    try:
                        result = handle(played.client, document, *match.groups())
                    except ValueError as error:
                        code = 404 if "not found" in str(error) else 409 if "already exists" in str(error) else 400
                        return code, {"status": {"error": str(error)}, "time": 0.0}
                    return 200, {"result": _plain(result), "status": "ok", "time": time.monotonic() - start}
        return 404, {"status": {"error": f"no such path {path}"}, "time": 0.0}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _answer(
    handler: BaseHTTPRequestHandler, code: int, document: dict[str, Any], headers: dict[str, str] | None = None
) -> None:
    content = json.dumps(document).encode()
    handler.send_response(code)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    for name, value in (headers or {}).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def _in_recovery(request: str) -> str | None:
    """Return the error for a request in recovery mode, as a format string for the operator's message."""
    if request.startswith("GET /collections/"):
        return "1 of 1 read operations failed:\n  Service internal error: Failed to Get Info, {}"
    if "/points" not in request:
        return None
    action = {"query": "Query", "count": "Count", "scroll": "Scroll"}.get(request.rpartition("/")[2])
    if action is None:
        action = "Retrieve" if request.startswith("POST") and request.endswith("/points") else "Update"
    return f"Service internal error: Failed to {action}, {{}}"


def _plain(result: Any) -> Any:
    return TypeAdapter(Any).dump_python(result, mode="json", by_alias=True)


def _create(client: QdrantClient, document: Any, name: str) -> bool:
    request = models.CreateCollection.model_validate(document)
    return client.create_collection(name, vectors_config=request.vectors, metadata=request.metadata)


def _update(client: QdrantClient, document: Any, name: str) -> bool:
    request = models.UpdateCollection.model_validate(document)
    if request.vectors:
        assert set(request.vectors) == {"joint"}
    return client.update_collection(name, metadata=request.metadata)


def _switch(client: QdrantClient, document: Any) -> bool:
    request = models.ChangeAliasesOperation.model_validate(document)
    return client.update_collection_aliases(request.actions)


def _upsert(client: QdrantClient, document: Any, name: str) -> Any:
    request = models.PointsList.model_validate(document)
    return client.upsert(name, request.points, update_filter=request.update_filter)


def _delete(client: QdrantClient, document: Any, name: str) -> Any:
    return client.delete(name, models.PointIdsList.model_validate(document))


def _change(client: QdrantClient, document: Any, name: str) -> Any:
    return client.batch_update_points(name, models.UpdateOperations.model_validate(document).operations)


def _query(client: QdrantClient, document: Any, name: str) -> Any:
    request = models.QueryRequest.model_validate(document)
    return client.query_points(
        name,
        query=request.query,
        using=request.using,
        query_filter=request.filter,
        search_params=request.params,
        limit=request.limit or 10,
        with_payload=bool(request.with_payload),
        with_vectors=request.with_vector or False,
    )


def _retrieve(client: QdrantClient, document: Any, name: str) -> Any:
    request = models.PointRequest.model_validate(document)
    return client.retrieve(
        name,
        request.ids,
        with_payload=bool(request.with_payload),
        with_vectors=request.with_vector or False,
    )


def _scroll(client: QdrantClient, document: Any, name: str) -> Any:
    request = models.ScrollRequest.model_validate(document)
    points, offset = client.scroll(name, limit=request.limit or 10, offset=request.offset)
    return {"points": points, "next_page_offset": offset}


_ROUTES: list[tuple[str, Callable[..., Any]]] = [
    (r"GET /collections", lambda client, _: client.get_collections()),
    (r"GET /aliases", lambda client, _: client.get_aliases()),
    (r"POST /collections/aliases", _switch),
    (r"GET /collections/([^/]+)", lambda client, _, name: client.get_collection(name)),
    (r"PUT /collections/([^/]+)", _create),
    (r"PATCH /collections/([^/]+)", _update),
    (r"DELETE /collections/([^/]+)", lambda client, _, name: client.delete_collection(name)),
    (r"PUT /collections/([^/]+)/index", lambda *_: {"operation_id": 0, "status": "completed"}),
    (r"PUT /collections/([^/]+)/points", _upsert),
    (r"POST /collections/([^/]+)/points", _retrieve),
    (r"POST /collections/([^/]+)/points/delete", _delete),
    (r"POST /collections/([^/]+)/points/batch", _change),
    (r"POST /collections/([^/]+)/points/query", _query),
    (r"POST /collections/([^/]+)/points/scroll", _scroll),
    (r"POST /collections/([^/]+)/points/count", lambda client, _, name: client.count(name)),
]
