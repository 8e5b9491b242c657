"""Failures of a Qdrant server: error messages, retries and resumed runs.

The server is a fake (`tests.played_qdrant`) behind real sockets.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from sceneseek.alias_follower import AliasFollower
from sceneseek.errors import IndexUnavailable, InvalidRequest
from sceneseek.filters.words import filter_from_words
from sceneseek.store import open_store
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek.store.qdrant.collection import GenerationRecord
from sceneseek.store.qdrant.connection import Connection
from tests.integration.test_alias_follower import SameGraph
from tests.integration.test_store_contract import INFO, ids, points, published
from tests.played_grpc import PlayedGrpc
from tests.played_qdrant import PlayedQdrant, after, drop, hang, status

POINTS = "PUT /collections/sceneseek-images-first/points"
QUICK = QdrantSettings(prefer_grpc="no", patience=0.0)
PATIENT = replace(QUICK, patience=10.0)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedQdrant]:
    monkeypatch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.01)
    monkeypatch.setattr("sceneseek.store.qdrant.connection._FIRST_WAIT", 0.02)
    with PlayedQdrant().serving() as server:
        yield server


def publish_error(store: QdrantStore) -> str:
    with pytest.raises(IndexUnavailable) as refusal:
        published(store, INFO, points(3))
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_unreachable_server_error_names_the_url_and_advice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    message = publish_error(QdrantStore(url, QUICK))
    assert message.startswith(f"no Qdrant server answers at {url} (")
    assert "start it or correct --index" in message


def test_unknown_host_error_names_the_url() -> None:
    assert "no Qdrant server answers at http://nowhere.invalid:6333" in publish_error(
        QdrantStore("http://nowhere.invalid:6333", QUICK)
    )


HTML = b"<!doctype html><title>Welcome to nginx!</title>"


@pytest.mark.parametrize("searching", [True, False])
@pytest.mark.parametrize(
    ("code", "body"),
    [
        *((200, body) for body in (HTML, b"", b"[]", b"{}", b"null", b'"hello"', b"\xff\xfe", b"[" * 10_000)),
        *((200, body) for body in (b'{"title": "other", "version": "hello"}', b'{"result": 1}', b'{"version": null}')),
        *((404, body) for body in (HTML, b"", b"[]", b'{"detail": "Not Found"}', b'{"status": "not found"}', b"\xff")),
        *((code, HTML) for code in (204, 301, 302, 308, 400, 405, 406, 409, 410, 411, 413, 415, 418, 421, 426)),
    ],
)
def test_other_web_servers_are_recognised_as_not_qdrant(code: int, body: bytes, searching: bool) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(code)
            self.send_header("Content-Length", str(len(body) * (code != 204)))
            self.end_headers()
            if code != 204:
                self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        store = QdrantStore(url, QUICK.for_searching() if searching else QUICK)
        try:
            with pytest.raises(IndexUnavailable) as refusal:
                store.live() if searching else published(store, INFO, points(3))
        finally:
            server.shutdown()
    assert str(refusal.value).startswith(f"the server at {url} ")
    assert str(refusal.value).endswith(": correct --index")


def test_outdated_server_is_rejected_before_any_write(played: PlayedQdrant) -> None:
    played.version = "1.15.4"
    message = publish_error(QdrantStore(played.url, QUICK))
    assert message == (
        f"the Qdrant server at {played.url} is version 1.15.4, too old for this index: update it to 1.16 or newer"
    )
    assert {request.split()[0] for request in played.seen} == {"GET"}


@pytest.mark.parametrize(("key", "words"), [(None, "requires an API key"), ("hunter2", "refuses the API key")])
def test_missing_and_wrong_keys_have_different_errors_without_the_key(
    played: PlayedQdrant, key: str | None, words: str
) -> None:
    played.key = "right"
    message = publish_error(QdrantStore(played.url, replace(PATIENT, api_key=key)))
    assert words in message
    assert "SCENESEEK_QDRANT_API_KEY" in message
    assert "hunter2" not in message
    assert len(played.seen) == 1  # no retry
    published(QdrantStore(played.url, replace(QUICK, api_key="right")), INFO, points(3))


def test_read_only_key_is_an_error(played: PlayedQdrant) -> None:
    played.fail_always(status(403, "Global manage access is required"), at="PUT")
    message = publish_error(QdrantStore(played.url, replace(PATIENT, api_key="reader")))
    assert "403: Global manage access is required" in message
    assert "indexing requires write access" in message


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(500, "Service internal error: No space left on device: WAL buffer size exceeds"), "is full"),
        (status(507, "disk"), "is full"),
        (status(500, "Service internal error: Qdrant is in recovery mode"), "is in recovery mode"),
        (status(403, "Write operations are forbidden: read-only mode"), "does not accept writes"),
        (status(400, "Wrong input: Vector dimension error"), "refuses the request (400: Wrong input: Vector dimension"),
    ],
)
def test_permanent_failures_are_not_retried(played: PlayedQdrant, fault: Any, words: str) -> None:
    played.fail_always(fault, at=POINTS)
    assert words in publish_error(QdrantStore(played.url, PATIENT))
    assert played.seen.count(POINTS) == 1


TRANSIENT = {
    "500": status(500, "Service internal error: 1 of 3 replicas failed"),
    "503": status(503, "not ready"),
    "429": status(429, "slow down", Retry_After="0"),
    "502": status(502, "bad gateway"),
    "dropped": drop,
    "applied, then dropped": after(drop),
    "applied, then 504": after(status(504, "gateway timeout")),
}


@pytest.mark.parametrize(("at", "fault"), [("GET /$", "503"), *((POINTS, name) for name in TRANSIENT)])
def test_transient_failures_are_retried_without_loss_or_duplicates(played: PlayedQdrant, at: str, fault: str) -> None:
    store = QdrantStore(played.url, PATIENT)
    played.fail(TRANSIENT[fault], TRANSIENT[fault], at=at)
    with store.writing():
        collection = store.create(INFO)
        collection.upsert(points(300))
        collection.optimize()
        store.publish(collection)
    live = store.open("first")
    assert len(live.nearest(points(1)[0].joint, 5)) == 5
    assert ids(live) == {p.id for p in points(300)}
    assert played.faults == []


def test_retries_end_after_the_patience(played: PlayedQdrant) -> None:
    played.fail_always(status(503, "not ready"), at=POINTS)
    message = publish_error(QdrantStore(played.url, replace(QUICK, patience=0.3)))
    assert "fails (503: not ready): see its log; run the same command again once it is back" in message
    assert played.seen.count(POINTS) >= 3


def test_retry_after_is_honoured_within_the_patience(played: PlayedQdrant) -> None:
    hasty, store = QdrantStore(played.url, replace(PATIENT, patience=0.5)), QdrantStore(played.url, PATIENT)
    with hasty.writing():
        building = hasty.create(INFO)
        played.fail(status(429, "slow down", Retry_After="1"), at=POINTS)
        with pytest.raises(IndexUnavailable, match="overloaded"):
            building.upsert(points(3))
    with store.writing():
        again = store.resume("first")
        played.fail(status(429, "slow down", Retry_After="1"), at=POINTS)
        again.upsert(points(3))
        assert again.count() == 3


def test_hanging_server_is_abandoned_after_the_timeout(played: PlayedQdrant) -> None:
    played.fail_always(hang(3), at=POINTS)
    message = publish_error(QdrantStore(played.url, replace(QUICK, timeout=1)))
    assert f"the Qdrant server at {played.url} does not answer within 1 s" in message
    assert "SCENESEEK_QDRANT_TIMEOUT" in message


def test_https_to_a_server_without_tls_is_an_error(played: PlayedQdrant) -> None:
    url = played.url.replace("http:", "https:")
    message = publish_error(QdrantStore(url, QUICK))
    assert f"the TLS connection to {url} fails" in message
    assert "use http: if it has no TLS" in message


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_unknown_certificate_is_rejected_unless_its_ca_is_configured(tmp_path: Path) -> None:
    key, pem = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *request.split(), "-keyout", key, "-out", pem], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem, key)
    played = PlayedQdrant()
    with played.serving(tls):
        url = played.url.replace("http:", "https:")
        assert "SCENESEEK_QDRANT_CA_CERT" in publish_error(QdrantStore(url, QUICK))
        published(QdrantStore(url, replace(QUICK, ca_cert=pem)), INFO, points(3))
        assert "certificate" in publish_error(QdrantStore(url, QUICK)).lower()


def test_interrupted_run_resumes_when_the_server_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.lease.FREE_AFTER", 0.2)
    monkeypatch.setattr("sceneseek.store.qdrant.lease._POLL_SECONDS", 0.02)
    played = PlayedQdrant()
    with ExitStack() as lease:
        with played.serving():
            store = QdrantStore(played.url, QUICK)
            lease.enter_context(store.writing())
            building = store.create(INFO)
            building.upsert(points(10))
        with pytest.raises(IndexUnavailable, match="no Qdrant server answers"):
            building.upsert(points(20))
    with played.serving():
        assert store.unfinished() == [INFO]
        with store.writing():
            again = store.resume("first")
            again.upsert(points(20))
            assert again.count() == 20
            store.publish(again)
        assert ids(store.open("first")) == {p.id for p in points(20)}


def test_generation_is_live_if_the_run_died_after_the_alias_switch(played: PlayedQdrant) -> None:
    published(QdrantStore(played.url, QUICK), replace(INFO, name="old"), points(2))
    store = QdrantStore(played.url, QUICK)
    with store.writing():
        building = store.create(INFO)
        played.fail_always(status(400, "as if killed"), at="PATCH")
        with pytest.raises(IndexUnavailable, match="as if killed"):
            store.publish(building)
    played.heal()
    assert (store.live(), store.unfinished()) == ("first", [])
    assert {info.name for info in store.generations()} == {"old", "first"}
    assert store.open("first").count() == 0
    published(store, replace(INFO, name="next"), points(2))
    assert {info.name for info in store.generations()} == {"first", "next"}


def test_collection_requests_reflect_the_settings(played: PlayedQdrant) -> None:
    settings = replace(QUICK, shards=6, replicas=2, write_consistency=2, quantization="int8")
    store = QdrantStore(played.url, settings)
    with store.writing():
        building = store.create(replace(INFO, indexed={"folders": "keyword", "year": "integer"}))
        building.upsert(points(5))
        building.optimize()
        building.nearest(points(1)[0].joint, 3)
        building.nearest(points(1)[0].joint, 3, exact=True)
        store.discard(building)
    place = "/collections/sceneseek-images-first"
    sent = played.bodies
    create = next(body for request, body in sent if request == f"PUT {place}")
    assert {key: create[key] for key in ("shard_number", "replication_factor", "write_consistency_factor")} == {
        "shard_number": 6,
        "replication_factor": 2,
        "write_consistency_factor": 2,
    }
    assert create["vectors"]["joint"]["hnsw_config"]["m"] == 0
    assert (create["vectors"]["head"]["datatype"], create["vectors"]["head"]["on_disk"]) == ("float16", True)
    requests = [request for request, _ in sent]
    assert requests.index(f"PUT {place}/index") < requests.index(f"PUT {place}/points")
    assert [body for request, body in sent if request == f"PUT {place}/index"] == [
        {"field_name": "folders", "field_schema": "keyword"},
        {"field_name": "metadata.year", "field_schema": "integer"},
    ]
    graph = next(b["vectors"]["joint"] for request, b in sent if request == f"PATCH {place}" and b.get("vectors"))
    assert graph["hnsw_config"]["m"] == 16
    assert graph["quantization_config"]["scalar"]["type"] == "int8"
    searched = [body["params"] for request, body in sent if request.endswith("/query")]
    assert [params["quantization"]["ignore"] for params in searched] == [False, True]
    assert searched[0]["quantization"]["rescore"] is True
    assert searched[0]["quantization"]["oversampling"] == 2.0
    assert [params.get("hnsw_ef") for params in searched] == [512, None]


@pytest.mark.parametrize("metadata", [None, {}, {"sceneseek": {}}, {"sceneseek": {"format": 2}}, {"sceneseek": 5}])
def test_foreign_collection_metadata_is_ignored(metadata: Any) -> None:
    assert GenerationRecord.from_metadata(metadata) is None


def test_generation_record_reads_other_versions() -> None:
    record = GenerationRecord("images", "building", "before", None, INFO)
    metadata = record.to_metadata()
    metadata["sceneseek"]["info"]["known_later"] = 1
    metadata["sceneseek"] |= {"state": "optimising", "host": "elsewhere", "pid": 7}
    del metadata["sceneseek"]["info"]["skipped"], metadata["sceneseek"]["base"]
    assert GenerationRecord.from_metadata(metadata) == record


def test_alias_follower_recovers_after_an_outage(played: PlayedQdrant) -> None:
    store = QdrantStore(played.url, QUICK)
    published(store, INFO, points(5))
    live = AliasFollower(QdrantStore(played.url, QUICK), SameGraph(INFO.image_fingerprint))
    live.follow(every=0.02)
    played.fail_always(drop)
    _until(lambda: live.problem is not None)
    assert "no Qdrant server answers" in str(live.problem)
    with live.borrow() as snapshot, pytest.raises(IndexUnavailable):
        snapshot.collection.nearest(points(1)[0].joint, 3)
    played.heal()
    _until(lambda: live.problem is None)
    published(store, replace(INFO, name="second"), points(7))
    _until(lambda: live.name == "second")
    assert live.watching()
    live.close()


def test_queries_succeed_during_repeated_alias_switches(played: PlayedQdrant) -> None:
    store = QdrantStore(played.url, QUICK)
    published(store, INFO, points(20))
    live = AliasFollower(QdrantStore(played.url, QUICK), SameGraph(INFO.image_fingerprint))
    live.follow(every=0.02)
    stop, failures, answered = threading.Event(), [], [0]

    def ask() -> None:
        while not stop.is_set():
            try:
                with live.borrow() as snapshot:
                    nearest = snapshot.collection.nearest(points(1)[0].joint, 10)
                    assert len(snapshot.collection.retrieve(nearest.ids)) == 10
                answered[0] += 1
            except Exception as error:  # noqa: BLE001 - asserted on below
                failures.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(5):
        published(store, replace(INFO, name=f"next{number}"), points(20, seed=number))
        _until(lambda name=f"next{number}": live.name == name)
    stop.set()
    for thread in threads:
        thread.join()
    live.close()
    assert failures == []
    assert answered[0] > 10


def _until(condition: Any) -> None:
    wait = threading.Event()
    for _ in range(500):
        if condition():
            return
        wait.wait(0.02)
    raise AssertionError("the condition did not become true within 10 s")


@pytest.fixture
def grpc_server(played: PlayedQdrant) -> Iterator[PlayedGrpc]:
    """The gRPC endpoint of `played`."""
    with PlayedGrpc(played.client, played.guard).serving() as server:
        yield server


def over_grpc(played: PlayedQdrant, grpc_server: PlayedGrpc, **settings: Any) -> QdrantStore:
    return QdrantStore(played.url, replace(PATIENT, prefer_grpc="yes", grpc_port=grpc_server.port, **settings))


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"])
def test_transient_grpc_failures_are_retried(played: PlayedQdrant, grpc_server: PlayedGrpc, code: str) -> None:
    fault = (grpc.StatusCode[code], "for a moment")
    grpc_server.failing = {name: [fault, fault] for name in ("Upsert", "Create", "UpdateAliases", "Update")}
    store = over_grpc(played, grpc_server)
    published(store, INFO, points(20))
    assert len(store.open("first").nearest(points(1)[0].joint, 5)) == 5
    assert not any(grpc_server.failing.values())
    # Reads use HTTP.
    assert not [seen for seen in played.seen if not seen.startswith("GET ") and not seen.endswith("/points/query")]


@pytest.mark.parametrize(
    ("code", "details", "words"),
    [
        ("UNAUTHENTICATED", "Must provide an API key", "requires an API key (UNAUTHENTICATED: Must provide"),
        ("PERMISSION_DENIED", "Write access is required", "requires an API key (PERMISSION_DENIED"),
        ("INTERNAL", "Service internal error: No space left on device", "is full (INTERNAL: Service internal"),
        ("INVALID_ARGUMENT", "Wrong input", "refuses the request (INVALID_ARGUMENT: Wrong input)"),
        ("UNAVAILABLE", "Ssl handshake failed: SSL_ERROR_SSL", "the TLS connection to"),
    ],
)
def test_permanent_grpc_failures_have_the_http_error_messages(
    played: PlayedQdrant, grpc_server: PlayedGrpc, code: str, details: str, words: str
) -> None:
    grpc_server.failing = {"Upsert": [(grpc.StatusCode[code], details)]}
    assert words in publish_error(over_grpc(played, grpc_server))


def test_api_key_is_sent_over_grpc(played: PlayedQdrant, grpc_server: PlayedGrpc) -> None:
    played.key = grpc_server.key = "right"
    published(over_grpc(played, grpc_server, api_key="right"), INFO, points(3))
    assert "refuses the API key" in publish_error(over_grpc(played, grpc_server, api_key="wrong"))


def test_grpc_is_used_if_its_port_answers_and_http_otherwise(
    played: PlayedQdrant, grpc_server: PlayedGrpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.connection._GRPC_PROBE_SECONDS", 0.2)
    auto = replace(QUICK, prefer_grpc="auto", grpc_port=grpc_server.port)

    def ask(settings: QdrantSettings) -> None:
        connection = Connection(played.url, settings)
        connection.call(lambda client: client.get_collections())
        connection.close()

    ask(auto)
    assert (grpc_server.seen, played.seen) == (["List"], ["GET /"])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        ask(replace(auto, grpc_port=port))
        assert played.seen[1:] == ["GET /", "GET /collections"]
        with pytest.raises(IndexUnavailable, match=rf"does not answer gRPC at port {port}"):
            ask(replace(auto, prefer_grpc="yes", grpc_port=port))


def test_foreign_collection_or_alias_is_detected_before_indexing(played: PlayedQdrant) -> None:
    played.client.create_collection("images", vectors_config={})
    assert "the name images is a collection that sceneseek did not create: set SCENESEEK_QDRANT_ALIAS" in publish_error(
        QdrantStore(played.url, QUICK)
    )
    published(QdrantStore(played.url, replace(QUICK, alias="photos")), INFO, points(3))
    played.client.delete_collection("images")
    played.client.create_collection("theirs", vectors_config={})
    from qdrant_client import models  # noqa: PLC0415

    theirs = models.CreateAlias(collection_name="theirs", alias_name="images")
    played.client.update_collection_aliases([models.CreateAliasOperation(create_alias=theirs)])
    assert "an alias of the collection theirs" in publish_error(QdrantStore(played.url, QUICK))
    assert QdrantStore(played.url, QUICK).live() is None


def test_two_aliases_on_one_server_are_independent(played: PlayedQdrant) -> None:
    one, other = (QdrantStore(played.url, replace(QUICK, alias=alias)) for alias in ("images", "images-2"))
    published(one, INFO, points(3))
    published(other, replace(INFO, name="x"), points(4))
    assert (one.live(), other.live()) == ("first", "x")
    assert [i.name for i in one.generations()] == ["first"]
    with other.writing():
        building = other.create(replace(INFO, name="y"))
        published(one, replace(INFO, name="second"), points(3))
        other.discard(building)


def test_filter_is_sent_to_the_server(played: PlayedQdrant) -> None:
    store = QdrantStore(played.url, QUICK)
    published(store, INFO, points(50))
    nearest = store.open("first").nearest(points(1)[0].joint, 5, where=filter_from_words(["path=7.jpg|8.jpg"]))
    assert set(nearest.ids) == {points(50)[7].id, points(50)[8].id}


@pytest.mark.parametrize(
    "url", ["http://me:secret@host:6333", "https://host?api_key=secret", "http://", "http://host:x", "http://h#secret"]
)
def test_url_with_credentials_is_rejected_without_showing_them(url: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        open_store(url)
    assert "secret" not in str(refusal.value)


def test_url_is_normalised() -> None:
    assert open_store("http://host:6333/").url == "http://host:6333"
    assert open_store("HTTPS://Host/prefix").url == "https://host/prefix"


def test_invalid_ca_certificate_is_an_error(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("no certificate")
    with pytest.raises(InvalidRequest, match=r"SCENESEEK_QDRANT_CA_CERT contains no certificate"):
        QdrantStore("https://127.0.0.1:1", replace(QUICK, ca_cert=pem)).live()
