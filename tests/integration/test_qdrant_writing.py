"""Writing to a Qdrant server: one writer at a time, and no outage at any step loses what was written.

The server is played (`tests.played_qdrant`), over real sockets; leases are short here.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import grpc
import pytest

from sceneseek.errors import IndexUnavailable
from sceneseek.store import VectorStore
from sceneseek.store.qdrant import QdrantSettings, QdrantStore, lease
from tests.integration.test_store_contract import INFO, points, published
from tests.played_grpc import PlayedGrpc
from tests.played_qdrant import DEAD_NODE, PlayedQdrant, after, drop, hang

HASTY = QdrantSettings(prefer_grpc="no", patience=0.0)
PATIENT = replace(HASTY, patience=20.0)
LEASE = "/collections/sceneseek-images-lease/points"
OLD, NEW, LATER = points(12), points(5, seed=1), points(4, seed=2)
GALLERY = replace(INFO, name="second", indexed={"folders": "keyword"})


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedQdrant]:
    monkeypatch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.001)
    monkeypatch.setattr("sceneseek.store.qdrant.connection._FIRST_WAIT", 0.01)
    monkeypatch.setattr("sceneseek.store.qdrant.connection._LONGEST_WAIT", 0.05)
    short_lease(monkeypatch)
    with PlayedQdrant().serving() as server:
        yield server


def short_lease(monkeypatch: pytest.MonkeyPatch, free_after: float = 0.3) -> None:
    monkeypatch.setattr(lease, "FREE_AFTER", free_after)
    monkeypatch.setattr(lease, "RENEW_EVERY", free_after / 6)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.01)


def store_of(played: PlayedQdrant, settings: QdrantSettings = PATIENT) -> QdrantStore:
    return QdrantStore(played.url, settings)


def run(store: VectorStore) -> None:
    """What an indexing run asks of a store: go on, or begin with a copy; write, change, remove, check, publish."""
    with store.writing():
        live = store.live()
        if live == GALLERY.name:
            return  # there is nothing to do
        left = store.unfinished()
        collection = store.resume(left[0].name) if left else store.create(GALLERY, live)
        collection.upsert(NEW)
        collection.delete([OLD[0].id])
        collection.set_payload({OLD[1].id: {"path": "renamed.jpg"}})
        collection.optimize()
        assert collection.count() == len(OLD) - 1 + len(NEW)
        assert collection.nearest(NEW[0].joint, 3).ids[0] == NEW[0].id
        store.publish(collection)


def content(store: VectorStore) -> dict[str, Any]:
    live = store.live()
    assert live is not None
    collection = store.open(live)
    records = {record.id: record.payload for record in collection.scroll()}
    rows = collection.vectors(list(records))
    return {i: (payload, rows[i].joint.round(5).tolist()) for i, payload in records.items()}


def filled(played: PlayedQdrant) -> None:
    """Two generations, so that a publish removes one; and a lease that was released."""
    store = store_of(played)
    for name in ("older", "first"):
        published(store, replace(INFO, name=name), OLD)
    store.close()
    played.seen.clear()


@pytest.fixture(scope="module")
def undisturbed() -> tuple[dict[str, Any], list[str]]:
    """What the index holds after a run, and the requests of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.001)
        with PlayedQdrant().serving() as played:
            filled(played)
            run(store_of(played))
            requests = list(played.seen)
            return content(store_of(played)), requests


REFUSED = {"reset": drop, "done and reset": after(drop), "shard": DEAD_NODE, "done, shard": after(DEAD_NODE)}
STEPS = {
    "lease": "PUT /collections/sceneseek-images-lease/points",
    "aliases": "GET /aliases",
    "list": "GET /collections$",
    "record": "GET /collections/[^/]+$",
    "create": "PUT /collections/[^/]+$",
    "field": "PUT /collections/[^/]+/index",
    "copy": "POST /collections/[^/]+/points/scroll",
    "vectors": "POST /collections/[^/]+/points$",
    "upsert": "PUT /collections/sceneseek-images-second/points",
    "delete": "POST /collections/[^/]+/points/delete",
    "payload": "POST /collections/[^/]+/points/batch",
    "optimise, mark": "PATCH",
    "count": "POST /collections/[^/]+/points/count",
    "inspect": "POST /collections/[^/]+/points/query",
    "switch": "POST /collections/aliases",
    "remove": "DELETE /collections/[^/]+$",
}


@pytest.mark.parametrize("step", STEPS)
def test_a_run_waits_for_a_node_that_is_away_for_a_while_at_any_step(
    played: PlayedQdrant, undisturbed: tuple[dict[str, Any], list[str]], step: str
) -> None:
    filled(played)
    hanging = hang(0.2)
    for fault in (*REFUSED.values(), hanging, after(hanging)):
        played.faults.append(fault)
    played.failing = STEPS[step]
    run(store_of(played))
    # A lease whose change was done although the answer was lost is not asked for again.
    assert played.faults == [] or step == "lease"
    played.heal()
    assert content(store_of(played)) == undisturbed[0]
    assert not any("DELETE" in request and "second" in request for request in played.seen)
    assert {info.name for info in store_of(played).generations()} == {"first", "second"}


def test_a_server_that_is_lost_at_any_request_loses_nothing_and_a_rerun_completes_the_work(
    undisturbed: tuple[dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.001)
    short_lease(monkeypatch, free_after=0.03)
    expected, requests = undisturbed
    kinds = {request: number for number, request in enumerate(requests)}  # the last of each: most is done by then
    assert len(kinds) > 15
    for lost in kinds.values():
        with PlayedQdrant().serving() as played:
            filled(played)
            written = len(played.client.get_collections().collections)

            def fail(handler: Any, lost: int = lost, played: PlayedQdrant = played) -> None:
                if len(played.seen) > lost:
                    # Half of them do what is asked, and the answer is lost.
                    (drop if lost % 2 else after(drop))(handler)
                else:
                    handler.answered()

            played.fail_always(fail)
            try:
                run(store_of(played, HASTY))
            except IndexUnavailable:
                pass
            else:
                assert lost > len(requests) - 6, "only what comes after the switch may be left to the next run"
            played.heal()
            assert len(played.client.get_collections().collections) >= written - 1
            assert not any("DELETE" in request and "second" in request for request in played.seen)
            again = store_of(played)
            run(again)
            assert content(again) == expected, f"after {requests[lost]}, the {lost}th request"
            with again.writing():  # the next run's beginning settles what is left
                pass
            assert {info.name for info in again.generations()} >= {"first", "second"}


def test_a_server_that_is_restarted_in_the_middle_of_a_run_is_waited_for_with_a_line_at_each_end(
    undisturbed: tuple[dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.001)
    monkeypatch.setattr("sceneseek.store.qdrant.connection._FIRST_WAIT", 0.05)
    monkeypatch.setattr("sceneseek.store.qdrant.failure.QUIET_SECONDS", 0.1)
    played, reached, done = PlayedQdrant(), threading.Event(), threading.Event()

    def lost(handler: Any) -> None:
        reached.set()
        drop(handler)

    def restart() -> None:
        with played.serving():
            played.fail_always(lost, at=STEPS["upsert"])
            ready.set()
            reached.wait(20)
        played.heal()
        deadline = time.monotonic() + 20
        while not lines() and time.monotonic() < deadline:  # connections are refused
            time.sleep(0.01)
        with played.serving():
            done.wait(20)

    def lines() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.name == "sceneseek.store.qdrant.failure"]

    with played.serving():
        filled(played)
    ready = threading.Event()
    thread = threading.Thread(target=restart)
    thread.start()
    ready.wait()
    try:
        run(store_of(played))
        assert content(store_of(played)) == undisturbed[0]
    finally:
        done.set()
        thread.join()
    began, ended = lines()
    assert "trying again for up to 20 s" in began
    assert "answers again, after" in ended


def test_a_dead_node_that_each_collection_detects_anew_costs_time_and_no_work(
    played: PlayedQdrant, undisturbed: tuple[dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(played)
    short_lease(monkeypatch, free_after=2.0)  # a busy machine may delay a renewal by a second
    played.dead_node = 2.5
    store = store_of(played, replace(PATIENT, timeout=1))
    contender = threading.Thread(target=run, args=(store_of(played),))
    with store.writing():
        contender.start()
        collection = store.create(GALLERY, "first")  # longer than a lease: it is renewed all the same
        collection.close()
    contender.join()
    assert content(store_of(played)) == undisturbed[0]
    created = [request for request in played.seen if request.startswith("PUT") and request.endswith("-second")]
    assert len(created) == 1


def test_a_lease_stays_its_holders_while_its_writes_hang_on_a_dead_node(
    played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_lease(monkeypatch, free_after=2.0)
    overtaken, over = threading.Event(), threading.Event()

    def contend() -> None:
        with store_of(played).writing():
            if not over.is_set():
                overtaken.set()

    holding = store_of(played, replace(PATIENT, timeout=1))
    with holding.writing():
        played.dead_node = 3.0
        thread = threading.Thread(target=contend)
        thread.start()
        assert not overtaken.wait(3.2)
        played.dead_node = 0.0
        published_under(holding, "first")
        over.set()
    thread.join()


PROGRAM = (
    "import sys; from sceneseek.store.qdrant import QdrantSettings, QdrantStore;"
    "from tests.integration.test_store_contract import INFO, points;"
    "s = QdrantStore(sys.argv[1], QdrantSettings(prefer_grpc='no')); w = s.writing(); w.__enter__();"
    "c = s.create(INFO); c.upsert(points(20)); print('begun', flush=True); sys.stdin.read()"
)


def test_the_lease_of_a_killed_process_is_free_soon_whatever_its_host_and_clock_say(
    played: PlayedQdrant, caplog: pytest.LogCaptureFixture
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, played.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "begun\n"
        assert store_of(played).building()
        with (
            pytest.raises(IndexUnavailable, match=f"being written by process {builder.pid} on "),
            store_of(played).writing(wait=False),
        ):
            pytest.fail("two hold the lease")
        builder.kill()
    assert store_of(played).unfinished() == [INFO]
    played.client.set_payload("sceneseek-images-lease", {"holder": "process 1 on elsewhere since 2038"}, [1])
    store = store_of(played)
    with store.writing():
        again = store.resume("first")
        assert again.count() == 20
        store.publish(again)
    lines = [record.getMessage() for record in caplog.records]
    assert any("process 1 on elsewhere since 2038: waiting" in line for line in lines)
    assert any("process 1 on elsewhere since 2038 has not renewed its lease" in line for line in lines)


def test_the_lease_ends_less_than_thirty_seconds_after_its_holder() -> None:
    worst = lease.FREE_AFTER + lease._POLL_SECONDS + 2 * lease._TIMEOUT
    assert worst <= 31
    assert lease.RENEW_EVERY + 2 * lease._TIMEOUT < lease.FREE_AFTER, "one renewal may hang"
    assert lease.TRUSTED < lease.FREE_AFTER


def test_a_service_sees_that_a_dead_writer_is_gone(played: PlayedQdrant) -> None:
    store = store_of(played)
    with store.writing():
        state = played.client.retrieve("sceneseek-images-lease", [1])[0].payload
    played.client.set_payload("sceneseek-images-lease", state or {}, [1])  # as if it had died
    assert store.building()
    until = time.monotonic() + 20
    while store.building():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_holder_that_renews_is_not_overtaken_also_after_an_outage(
    played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_lease(monkeypatch, free_after=0.6)
    monkeypatch.setattr(lease, "_MAX_POLL_GAP", 0.3)
    overtaken, holding, over = threading.Event(), store_of(played), threading.Event()

    def contend() -> None:
        with store_of(played).writing():
            if not over.is_set():
                overtaken.set()

    with holding.writing():
        thread = threading.Thread(target=contend)
        thread.start()
        assert not overtaken.wait(1.2)
        played.fail_always(drop)
        time.sleep(1.0)
        played.heal()
        assert not overtaken.wait(0.8)
        published_under(holding, "first")
        over.set()
    thread.join()
    assert not overtaken.is_set()


def published_under(store: VectorStore, name: str) -> None:
    collection = store.create(replace(INFO, name=name), store.live())
    collection.upsert(NEW)
    store.publish(collection)


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_writer_that_was_paused_notices_before_it_writes_or_publishes(
    played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    with ExitStack() as stack:
        settings = PATIENT
        if transport == "grpc":
            both = stack.enter_context(PlayedGrpc(played.client, played.guard).serving())
            settings = replace(PATIENT, prefer_grpc="yes", grpc_port=both.port)
        paused = QdrantStore(played.url, settings)
        with monkeypatch.context() as patch:
            patch.setattr(lease, "RENEW_EVERY", 3600.0)
            stack.enter_context(paused.writing())
        collection = paused.create(INFO)
        collection.upsert(OLD)
        published(QdrantStore(played.url, settings), replace(INFO, name="second"), NEW)
        with pytest.raises(IndexUnavailable, match=r"lost its lease .* to another run, which has ended"):
            paused.publish(collection)
        with pytest.raises(IndexUnavailable, match="run the same command again"):
            collection.upsert(LATER)
        with pytest.raises(IndexUnavailable, match="lost its lease"):
            paused.switch("second")
        assert paused.live() == "second"
        assert set(content(QdrantStore(played.url, settings))) == {p.id for p in NEW}
    with store_of(played).writing(wait=False):  # what the paused one released was not the lease of another
        pass


def test_a_write_after_a_pause_asks_whether_the_lease_is_still_ours(
    played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY", 3600.0)
    paused = store_of(played)
    with paused.writing():
        collection = paused.create(INFO)
        with store_of(played).writing():
            other = store_of(played)
        monkeypatch.setattr(lease, "TRUSTED", 0.0)
        with pytest.raises(IndexUnavailable, match="lost its lease"):
            collection.upsert(OLD)
    assert "PUT /collections/sceneseek-images-first/points" not in played.seen
    other.close()


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_of_many_contenders_one_holds_the_lease_at_a_time(
    played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    short_lease(monkeypatch, free_after=20.0)
    inside, most, guard = [0], [0], threading.Lock()
    with ExitStack() as stack:
        settings = PATIENT
        if transport == "grpc":
            both = stack.enter_context(PlayedGrpc(played.client, played.guard).serving())
            settings = replace(PATIENT, prefer_grpc="yes", grpc_port=both.port)

        def contend() -> None:
            for _ in range(3):
                with QdrantStore(played.url, settings).writing():
                    with guard:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    time.sleep(0.005)
                    with guard:
                        inside[0] -= 1

        threads = [threading.Thread(target=contend) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == [1]


def test_many_take_over_from_a_dead_holder_one_after_the_other(played: PlayedQdrant) -> None:
    with store_of(played).writing():
        state = played.client.retrieve("sceneseek-images-lease", [1])[0].payload
    played.client.set_payload("sceneseek-images-lease", state or {}, [1])
    inside = threading.Lock()

    def contend() -> None:
        with store_of(played).writing():
            assert inside.acquire(blocking=False)
            time.sleep(0.02)
            inside.release()

    failures: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", failures.append)
        threads = [threading.Thread(target=contend) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_generation_whose_copy_was_cut_short_is_completed_and_no_image_is_sent_twice(played: PlayedQdrant) -> None:
    published(store_of(played), INFO, points(600))
    store, upserts = store_of(played, HASTY), "PUT /collections/sceneseek-images-second/points"
    allowed = iter([True])

    def once(handler: Any) -> None:
        if next(allowed, False):
            handler.answered()
        else:
            drop(handler)

    played.fail_always(once, at=upserts)
    with store.writing(), pytest.raises(IndexUnavailable, match="no Qdrant server answers"):
        store.create(GALLERY, "first")
    played.heal()
    assert [info.name for info in store.unfinished()] == ["second"]
    with store.writing():
        assert store.resume("second").count() == 600
    sent = [len(body["points"]) for request, body in played.bodies if request == upserts]
    assert sum(sent) == 600


def test_a_lease_works_over_grpc_where_calls_fail_for_a_while(played: PlayedQdrant) -> None:
    with PlayedGrpc(played.client, played.guard).serving() as both:
        words = "Service internal error: Failed to update shard 0 on peer 3: tcp connect error"
        fault = (grpc.StatusCode.INTERNAL, words)
        both.failing = {name: [fault, fault] for name in ("Upsert", "Get", "Create", "UpdateAliases", "Update")}
        store = QdrantStore(played.url, replace(PATIENT, prefer_grpc="yes", grpc_port=both.port))
        published(store, INFO, OLD)
        assert not any(both.failing.values())
        assert set(content(store)) == {p.id for p in OLD}


def test_an_index_in_a_strict_server_finds_its_lease_by_an_indexed_field(played: PlayedQdrant) -> None:
    with store_of(played).writing():
        pass
    with store_of(played).writing():
        pass
    index = "PUT /collections/sceneseek-images-lease/index"
    assert [body for request, body in played.bodies if request == index] == [
        {"field_name": "token", "field_schema": "keyword"}
    ]
    writes = [body for request, body in played.bodies if request == f"PUT {LEASE}"]
    assert all(body["update_filter"]["must"][0]["key"] == "token" for body in writes)
