"""A search through a Qdrant server that hangs, moves, is cut off or recovers ends in time, and works at once after.

The server is played (`tests.played_qdrant`), over real sockets. Times are bounded generously: what would break a
promise here is a wait for a timeout of the system's or of a batch of writes, which are ten seconds and more.
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
# Beyond what was promised, for a machine that is busy with other tests.
SLACK = 4.0


@pytest.fixture
def played() -> Iterator[PlayedQdrant]:
    with PlayedQdrant().serving() as server:
        published(QdrantStore(server.url, WRITING), INFO, points(50))
        yield server


@pytest.fixture
def collection(played: PlayedQdrant) -> Collection:
    """The played server's generation, as a service has it open, with a connection that was used."""
    opened = QdrantStore(played.url, SEARCHING).open("first")
    assert len(search(opened)) == 5
    return opened


def search(collection: Collection, seconds: float | None = None) -> Candidates:
    deadline = None if seconds is None else time.monotonic() + seconds
    return collection.nearest(points(1)[0].joint, 5, ("joint",), deadline=deadline)


def refused(collection: Collection, within: float, seconds: float | None = None) -> IndexUnavailable:
    """The error of a search, which must come in so many seconds."""
    begun = time.monotonic()
    with pytest.raises(IndexUnavailable) as refusal:
        search(collection, seconds)
    assert time.monotonic() - begun < within + SLACK
    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after >= 1
    return refusal.value


CALLS: dict[str, Callable[[Collection, float], Any]] = {
    "shortlist": lambda c, end: c.nearest(points(1)[0].joint, 5, deadline=end),
    "retrieve": lambda c, end: c.retrieve([points(1)[0].id], end),
    "vectors": lambda c, end: c.vectors([points(1)[0].id], end),
    "count": lambda c, end: c.count(end),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_to_a_server_that_hangs_ends_before_its_deadline(
    played: PlayedQdrant, collection: Collection, call: str
) -> None:
    with played.paused():
        deadline = time.monotonic() + 0.8
        with pytest.raises(IndexUnavailable, match="does not answer within"):
            CALLS[call](collection, deadline)
        assert time.monotonic() < deadline + SLACK
    assert CALLS[call](collection, time.monotonic() + 10)


def test_a_search_without_a_deadline_takes_two_tries_of_the_querys_own_timeout(
    played: PlayedQdrant, collection: Collection
) -> None:
    with played.paused():
        assert "QUERY_TIMEOUT" in str(refused(collection, within=2.0))
    assert len(search(collection)) == 5


def test_a_deadline_that_is_over_asks_nothing(played: PlayedQdrant, collection: Collection) -> None:
    asked = len(played.seen)
    with pytest.raises(DeadlinePassed):
        search(collection, 0.0)
    assert len(played.seen) == asked


def test_a_node_that_hangs_is_left_for_another_one_behind_the_same_address(
    played: PlayedQdrant, collection: Collection
) -> None:
    played.fail(hang(20.0), at="/query$")
    assert len(search(collection, 8.0)) == 5


@pytest.mark.parametrize("calls", [1, 3])
def test_connections_that_a_restarted_server_resets_fail_no_search(
    played: PlayedQdrant, collection: Collection, calls: int
) -> None:
    for _ in range(calls):
        played.reset_connections()
        assert len(search(collection)) == 5
    played.fail(drop, at="/query$")
    assert len(search(collection)) == 5


def test_a_recreated_server_is_searched_as_soon_as_it_is_there(played: PlayedQdrant) -> None:
    again = PlayedQdrant(client=played.client, guard=played.guard)
    with again.serving():
        collection = QdrantStore(again.url, SEARCHING).open("first")
        assert len(search(collection)) == 5
    assert "no Qdrant server answers" in refused(collection, within=0.3).what
    with again.serving():
        assert len(search(collection)) == 5


def test_a_server_that_is_back_within_a_second_fails_no_search(played: PlayedQdrant) -> None:
    again = PlayedQdrant(client=played.client, guard=played.guard)
    with again.serving():
        collection = QdrantStore(again.url, replace(SEARCHING, patience=20.0)).open("first")
    found: list[Candidates] = []
    searching = threading.Thread(target=lambda: found.append(search(collection, 30.0)))
    searching.start()
    time.sleep(0.3)
    with again.serving():
        searching.join()
    assert len(found[0]) == 5


def test_a_server_that_is_cut_off_the_network_is_given_up_in_time(played: PlayedQdrant) -> None:
    with black_hole() as url:
        store = QdrantStore(url, SEARCHING)
        begun = time.monotonic()
        with pytest.raises(IndexUnavailable, match="no Qdrant server answers") as refusal:
            store.live()
        assert time.monotonic() - begun < 2.0 + SLACK
        assert refusal.value.retry_after == 1.0


class Names:
    """The system's lookup of names, with one name more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = "127.0.0.1"
        self.answers = threading.Event()
        self.answers.set()
        self._lookup = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, *more: Any, **named: Any) -> Any:
        if host != "qdrant":
            return self._lookup(host, *more, **named)
        self.answers.wait(30)
        if not self.address:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._lookup(self.address, *more, **named)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def test_a_server_whose_address_changes_is_found_under_its_name(played: PlayedQdrant, names: Names) -> None:
    moving = PlayedQdrant(client=played.client, guard=played.guard)
    with moving.serving():
        collection = QdrantStore(f"http://qdrant:{moving.port}", SEARCHING).open("first")
        assert len(search(collection)) == 5
    names.address = ""
    assert "Name or service not known" in refused(collection, within=0.3).what
    names.address = moving.host = "127.0.0.2"
    with moving.serving():
        assert len(search(collection)) == 5


def test_a_server_that_moved_while_its_old_address_hangs_is_found(played: PlayedQdrant, names: Names) -> None:
    collection = QdrantStore(f"http://qdrant:{played.port}", SEARCHING).open("first")
    assert len(search(collection)) == 5
    new = PlayedQdrant(client=played.client, guard=played.guard, host="127.0.0.2", port=played.port)
    with played.paused(), new.serving():
        names.address = new.host
        assert len(search(collection, 8.0)) == 5


def test_a_lookup_of_the_name_that_hangs_holds_no_search_beyond_its_deadline(
    played: PlayedQdrant, collection: Collection, names: Names
) -> None:
    store = QdrantStore(f"http://qdrant:{played.port}", SEARCHING)
    opened = store.open("first")
    store.close()
    names.answers.clear()
    try:
        refused(opened, within=1.0, seconds=1.0)
    finally:
        names.answers.set()
    assert len(search(opened)) == 5


MESSAGES = [
    "Qdrant was killed during initialization. Most likely it's Out-of-Memory.\nPlease check memory consumption",
    "closed for repairs",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_recovery_mode_is_recognised_whatever_its_words_and_not_waited_for(
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


def test_a_server_in_recovery_mode_that_lists_its_aliases_is_still_in_an_outage(
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


def test_recovery_mode_is_recognised_over_grpc(played: PlayedQdrant) -> None:
    played.recovery = "closed for repairs"
    words = "1 of 1 read operations failed:\n  Service internal error: Failed to Get Info, closed for repairs"
    with PlayedGrpc(played.client, played.guard).serving() as both:
        both.failing = {"Get": [(grpc.StatusCode.INTERNAL, words)] * 20}
        connection = Connection(played.url, replace(WRITING, prefer_grpc="yes", grpc_port=both.port))
        with pytest.raises(IndexUnavailable, match="is in recovery mode"):
            connection.call(lambda client: client.get_collection("first"))
        assert both.seen == ["Get"]
        connection.close()


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ("last error: UNKNOWN: ipv4:172.18.0.2:6334: tcp handshaker shutdown", "no Qdrant server answers"),
        ("ipv4:10.0.0.2:6334: Handshake read failed", "no Qdrant server answers"),
        ("Socket closed", "no Qdrant server answers"),
        ("ipv4:10.0.0.2:6334: Ssl handshake failed: SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED", "the TLS connection to"),
    ],
)
def test_a_lost_connection_is_not_taken_for_tls(played: PlayedQdrant, details: str, words: str) -> None:
    with PlayedGrpc(played.client, played.guard).serving() as both:
        both.failing = {"List": [(grpc.StatusCode.UNAVAILABLE, details)]}
        connection = Connection(played.url, replace(WRITING, prefer_grpc="yes", grpc_port=both.port, patience=0.0))
        with pytest.raises(IndexUnavailable, match=words):
            connection.call(lambda client: client.get_collections())
        connection.close()


def test_an_outage_is_logged_when_it_begins_at_intervals_and_when_it_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage("http://qdrant:6333")
    with caplog.at_level(logging.INFO):
        outage.refused("it is away")
        outage.failed("it is away", 1.0)
        outage.answered()
        assert caplog.records == [], "one failed request is its caller's to report"
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


def test_a_run_that_waits_for_a_server_reports_it_when_it_lasts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_searches_during_an_outage_are_logged_as_one(
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
def test_a_key_without_tls_is_warned_of_where_others_may_read_it(url: str, crosses: bool) -> None:
    assert crosses_open_network(url) is crosses


def test_a_key_without_tls_is_warned_of_once_a_process(
    played: PlayedQdrant, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.connection._warned", threading.Event())
    for crosses in (False, True, True):
        monkeypatch.setattr("sceneseek.store.qdrant.connection.crosses_open_network", lambda _, found=crosses: found)
        QdrantStore(played.url, replace(SEARCHING, api_key="hunter2")).open("first")
        assert len(caplog.messages) == int(crosses)
    assert "without TLS" in caplog.messages[0]
    assert "hunter2" not in caplog.messages[0]
