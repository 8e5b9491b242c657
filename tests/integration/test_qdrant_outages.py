"""Searches meet their deadline while a Qdrant server hangs, moves, is unreachable or recovers, and then work again.

`tests.played_qdrant` is a fake server over real sockets. Time limits are generous: a defect here would be a wait for a
system timeout or a write timeout, which take ten seconds or more.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from sceneseek.errors import DeadlinePassed, IndexUnavailable
from sceneseek.store import Collection
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek.store.qdrant.connection import Connection, crosses_open_network
from sceneseek.store.qdrant.failure import Outage
from sceneseek.vectors import Candidates
from tests.integration.test_store_contract import INFO, points, published
from tests.played_grpc import PlayedGrpc
from tests.played_qdrant import PlayedQdrant, black_hole, drop, hang

WRITING = QdrantSettings(prefer_grpc="no", patience=10.0)
SEARCHING = replace(QdrantSettings(query_timeout=1).for_searching(), patience=0.3)
# Tolerance for a machine that is busy with other tests.
SLACK = 4.0


@pytest.fixture
def played() -> Iterator[PlayedQdrant]:
    with PlayedQdrant().serving() as server:
        published(QdrantStore(server.url, WRITING), INFO, points(50))
        yield server


@pytest.fixture
def collection(played: PlayedQdrant) -> Collection:
    """The generation as a service opens it, over a connection that was already used."""
    opened = QdrantStore(played.url, SEARCHING).open("first")
    assert len(search(opened)) == 5
    return opened


def search(collection: Collection, seconds: float | None = None) -> Candidates:
    deadline = None if seconds is None else time.monotonic() + seconds
    return collection.nearest(points(1)[0].joint, 5, ("joint",), deadline=deadline)


def refused(collection: Collection, within: float, seconds: float | None = None) -> IndexUnavailable:
    """Assert that a search fails within a time limit; return the error."""
    start = time.monotonic()
    with pytest.raises(IndexUnavailable) as error:
        search(collection, seconds)
    assert time.monotonic() - start < within + SLACK
    assert error.value.retry_after is not None
    assert error.value.retry_after >= 1
    return error.value


CALLS: dict[str, Callable[[Collection, float], Any]] = {
    "shortlist": lambda c, end: c.nearest(points(1)[0].joint, 5, deadline=end),
    "retrieve": lambda c, end: c.retrieve([points(1)[0].id], end),
    "vectors": lambda c, end: c.vectors([points(1)[0].id], end),
    "count": lambda c, end: c.count(end),
}


@pytest.mark.parametrize("call", CALLS)
def test_call_to_hanging_server_fails_by_deadline(played: PlayedQdrant, collection: Collection, call: str) -> None:
    with played.paused():
        deadline = time.monotonic() + 0.8
        with pytest.raises(IndexUnavailable, match="does not answer within"):
            CALLS[call](collection, deadline)
        assert time.monotonic() < deadline + SLACK
    assert CALLS[call](collection, time.monotonic() + 10)


def test_search_without_deadline_retries_once_after_query_timeout(played: PlayedQdrant, collection: Collection) -> None:
    with played.paused():
        assert "QUERY_TIMEOUT" in str(refused(collection, within=2.0))
    assert len(search(collection)) == 5


def test_expired_deadline_sends_no_request(played: PlayedQdrant, collection: Collection) -> None:
    before = len(played.seen)
    with pytest.raises(DeadlinePassed):
        search(collection, 0.0)
    assert len(played.seen) == before


def test_search_retries_on_another_node_if_one_hangs(played: PlayedQdrant, collection: Collection) -> None:
    played.fail(hang(20.0), at="/query$")
    assert len(search(collection, 8.0)) == 5


@pytest.mark.parametrize("calls", [1, 3])
def test_search_survives_connection_resets(played: PlayedQdrant, collection: Collection, calls: int) -> None:
    for _ in range(calls):
        played.reset_connections()
        assert len(search(collection)) == 5
    played.fail(drop, at="/query$")
    assert len(search(collection)) == 5


def test_search_works_as_soon_as_server_is_recreated(played: PlayedQdrant) -> None:
    restarted = PlayedQdrant(client=played.client, guard=played.guard)
    with restarted.serving():
        collection = QdrantStore(restarted.url, SEARCHING).open("first")
        assert len(search(collection)) == 5
    assert "no Qdrant server answers" in refused(collection, within=0.3).what
    with restarted.serving():
        assert len(search(collection)) == 5


def test_search_waits_for_server_that_returns_within_a_second(played: PlayedQdrant) -> None:
    restarted = PlayedQdrant(client=played.client, guard=played.guard)
    with restarted.serving():
        collection = QdrantStore(restarted.url, replace(SEARCHING, patience=20.0)).open("first")
    results: list[Candidates] = []
    searching = threading.Thread(target=lambda: results.append(search(collection, 30.0)))
    searching.start()
    time.sleep(0.3)
    with restarted.serving():
        searching.join()
    assert len(results[0]) == 5


def test_unreachable_server_fails_within_timeout(played: PlayedQdrant) -> None:
    with black_hole() as url:
        store = QdrantStore(url, SEARCHING)
        start = time.monotonic()
        with pytest.raises(IndexUnavailable, match="no Qdrant server answers") as refusal:
            store.live()
        assert time.monotonic() - start < 2.0 + SLACK
        assert refusal.value.retry_after == 1.0


class FakeResolver:
    """A fake `socket.getaddrinfo` that also resolves the host `qdrant`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = "127.0.0.1"
        self.answers = threading.Event()
        self.answers.set()
        self._lookup = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, *arguments: Any, **options: Any) -> Any:
        if host != "qdrant":
            return self._lookup(host, *arguments, **options)
        self.answers.wait(30)
        if not self.address:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._lookup(self.address, *arguments, **options)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> FakeResolver:
    return FakeResolver(monkeypatch)


def test_search_follows_dns_change_of_restarted_server(played: PlayedQdrant, resolver: FakeResolver) -> None:
    server = PlayedQdrant(client=played.client, guard=played.guard)
    with server.serving():
        collection = QdrantStore(f"http://qdrant:{server.port}", SEARCHING).open("first")
        assert len(search(collection)) == 5
    resolver.address = ""
    assert "Name or service not known" in refused(collection, within=0.3).what
    resolver.address = server.host = "127.0.0.2"
    with server.serving():
        assert len(search(collection)) == 5


def test_search_follows_dns_change_while_old_address_hangs(played: PlayedQdrant, resolver: FakeResolver) -> None:
    collection = QdrantStore(f"http://qdrant:{played.port}", SEARCHING).open("first")
    assert len(search(collection)) == 5
    new = PlayedQdrant(client=played.client, guard=played.guard, host="127.0.0.2", port=played.port)
    with played.paused(), new.serving():
        resolver.address = new.host
        assert len(search(collection, 8.0)) == 5


def test_hanging_dns_lookup_does_not_exceed_search_deadline(
    played: PlayedQdrant, collection: Collection, resolver: FakeResolver
) -> None:
    store = QdrantStore(f"http://qdrant:{played.port}", SEARCHING)
    opened = store.open("first")
    store.close()
    resolver.answers.clear()
    try:
        refused(opened, within=1.0, seconds=1.0)
    finally:
        resolver.answers.set()
    assert len(search(opened)) == 5


MESSAGES = [
    "Qdrant was killed during initialization. Most likely it's Out-of-Memory.\nPlease check memory consumption",
    "closed for repairs",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_recovery_mode_is_detected_for_any_message_and_not_retried(
    played: PlayedQdrant, collection: Collection, message: str
) -> None:
    played.recovery = message
    for _ in range(2):
        error = refused(collection, within=0.0)
        assert "is in recovery mode" in error.what
        assert message.split("\n", maxsplit=1)[0] in error.what
        assert "give it more" in error.hint
    with pytest.raises(IndexUnavailable, match="is in recovery mode"):
        QdrantStore(played.url, WRITING).open("first")
    with pytest.raises(IndexUnavailable, match="is in recovery mode"):
        published(QdrantStore(played.url, WRITING), replace(INFO, name="second"), points(3))


def test_recovery_mode_counts_as_outage_although_aliases_are_listed(
    played: PlayedQdrant, caplog: pytest.LogCaptureFixture
) -> None:
    store = QdrantStore(played.url, SEARCHING)
    opened = store.open("first")
    played.recovery = "closed for repairs"
    for _ in range(4):
        refused(opened, within=0.0)
        assert store.live() == "first"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    played.recovery = ""
    assert len(search(opened)) == 5
    assert ["in recovery mode" in caplog.messages[0], "answers again" in caplog.messages[1]] == [True, True]


def test_recovery_mode_is_detected_over_grpc(played: PlayedQdrant) -> None:
    played.recovery = "closed for repairs"
    message = "1 of 1 read operations failed:\n  Service internal error: Failed to Get Info, closed for repairs"
    with PlayedGrpc(played.client, played.guard).serving() as grpc_server:
        grpc_server.failing = {"Get": [(grpc.StatusCode.INTERNAL, message)] * 20}
        connection = Connection(played.url, replace(WRITING, prefer_grpc="yes", grpc_port=grpc_server.port))
        with pytest.raises(IndexUnavailable, match="is in recovery mode"):
            connection.call(lambda client: client.get_collection("first"))
        assert grpc_server.seen == ["Get"]
        connection.close()


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ("last error: UNKNOWN: ipv4:172.18.0.2:6334: tcp handshaker shutdown", "no Qdrant server answers"),
        ("ipv4:10.0.0.2:6334: Handshake read failed", "no Qdrant server answers"),
        ("Socket closed", "no Qdrant server answers"),
        ("ipv4:10.0.0.2:6334: Ssl handshake failed: SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED", "the TLS connection to"),
    ],
)
def test_lost_grpc_connection_is_not_reported_as_tls_error(played: PlayedQdrant, details: str, message: str) -> None:
    with PlayedGrpc(played.client, played.guard).serving() as grpc_server:
        grpc_server.failing = {"List": [(grpc.StatusCode.UNAVAILABLE, details)]}
        connection = Connection(
            played.url, replace(WRITING, prefer_grpc="yes", grpc_port=grpc_server.port, patience=0.0)
        )
        with pytest.raises(IndexUnavailable, match=message):
            connection.call(lambda client: client.get_collections())
        connection.close()


def test_outage_is_logged_at_start_at_intervals_and_at_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage("http://qdrant:6333")
    with caplog.at_level(logging.INFO):
        outage.refused("it is away")
        outage.failed("it is away", 1.0)
        outage.answered()
        assert caplog.records == [], "a single failed request is reported by its caller"
        for _ in range(100):
            outage.refused("it is away")
            outage.failed("it is away", 1.0)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        monkeypatch.setattr("sceneseek.store.qdrant.failure.REPORT_EVERY", 0.0)
        outage.refused("it is still away")
        outage.answered()
        outage.answered()
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "WARNING"]
    assert "it is still away; failing for" in caplog.messages[1]
    assert caplog.messages[2].startswith("the Qdrant server at http://qdrant:6333 answers again, after 0.")
    assert caplog.messages[2].endswith(" s; 101 requests failed")


def test_long_wait_for_server_is_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    outage = Outage("http://qdrant:6333")
    with caplog.at_level(logging.INFO):
        outage.failed("it is away", 600.0)
        assert caplog.records == []
        monkeypatch.setattr("sceneseek.store.qdrant.failure.QUIET_SECONDS", 0.0)
        for _ in range(10):
            outage.failed("it is away", 600.0)
        outage.answered()
    assert caplog.messages[0].startswith("it is away: trying again for up to 600 s")
    assert "answers again" in caplog.messages[1]
    assert len(caplog.messages) == 2


def test_outage_is_logged_once_for_many_searches(
    played: PlayedQdrant, collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        played.fail_always(drop)
        for _ in range(5):
            refused(collection, within=0.3)
        played.heal()
        search(collection)
        search(collection)
    first, last = caplog.messages
    assert first.startswith(f"no Qdrant server answers at {played.url}")
    assert "answers again" in last


@pytest.mark.parametrize(
    ("url", "crosses"),
    [
        ("http://search.example.org:6333", True),
        ("http://8.8.8.8:6333", True),
        ("http://[2606:4700::1111]:6333", True),
        ("https://search.example.org", False),
        ("http://qdrant:6333", False),
        ("http://localhost:6333", False),
        ("http://127.0.0.1:6333", False),
        ("http://[::1]:6333", False),
        ("http://10.1.2.3:6333", False),
        ("http://qdrant.internal:6333", False),
    ],
)
def test_crosses_open_network(url: str, crosses: bool) -> None:
    assert crosses_open_network(url) is crosses


def test_api_key_without_tls_logs_one_warning_per_process(
    played: PlayedQdrant, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.connection._warned", threading.Event())
    for crosses in (False, True, True):
        monkeypatch.setattr("sceneseek.store.qdrant.connection.crosses_open_network", lambda _, found=crosses: found)
        QdrantStore(played.url, replace(SEARCHING, api_key="hunter2")).open("first")
        assert len(caplog.messages) == int(crosses)
    assert "without TLS" in caplog.messages[0]
    assert "hunter2" not in caplog.messages[0]
