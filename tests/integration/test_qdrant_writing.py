"""Writing to a Qdrant server: one writer at a time, and no outage at any step loses written data.

`tests.played_qdrant` is a fake server over real sockets. These tests shorten the lease times.
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
    """The store calls of an index run: resume or create, upsert, delete, update payloads, optimize, publish."""
    with store.writing():
        live = store.live()
        if live == GALLERY.name:
            return  # already published
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


def publish_two_generations(played: PlayedQdrant) -> None:
    """Publish two generations, so that the next publish removes one, and release the lease."""
    store = store_of(played)
    for name in ("older", "first"):
        published(store, replace(INFO, name=name), OLD)
    store.close()
    played.seen.clear()


@pytest.fixture(scope="module")
def expected_run() -> tuple[dict[str, Any], list[str]]:
    """Index content after a run without faults, and the requests of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.001)
        with PlayedQdrant().serving() as played:
            publish_two_generations(played)
            run(store_of(played))
            requests = list(played.seen)
            return content(store_of(played)), requests


REFUSED = {
    "reset": drop,
    "executed, then reset": after(drop),
    "shard": DEAD_NODE,
    "executed, then shard": after(DEAD_NODE),
}
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
def test_run_waits_for_unavailable_node_at_any_step(
    played: PlayedQdrant, expected_run: tuple[dict[str, Any], list[str]], step: str
) -> None:
    publish_two_generations(played)
    hanging = hang(0.2)
    for fault in (*REFUSED.values(), hanging, after(hanging)):
        played.faults.append(fault)
    played.failing = STEPS[step]
    run(store_of(played))
    # The lease is not requested again if its update succeeded but the response was lost.
    assert played.faults == [] or step == "lease"
    played.heal()
    assert content(store_of(played)) == expected_run[0]
    assert not any("DELETE" in request and "second" in request for request in played.seen)
    assert {info.name for info in store_of(played).generations()} == {"first", "second"}


def test_rerun_completes_work_after_server_loss_at_any_request(
    expected_run: tuple[dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.001)
    short_lease(monkeypatch, free_after=0.03)
    expected, requests = expected_run
    kinds = {request: number for number, request in enumerate(requests)}  # the last request of each kind
    assert len(kinds) > 15
    for lost in kinds.values():
        with PlayedQdrant().serving() as played:
            publish_two_generations(played)
            written = len(played.client.get_collections().collections)

            def fail(handler: Any, lost: int = lost, played: PlayedQdrant = played) -> None:
                if len(played.seen) > lost:
                    # Half of the requests are executed, but their response is lost.
                    (drop if lost % 2 else after(drop))(handler)
                else:
                    handler.answered()

            played.fail_always(fail)
            try:
                run(store_of(played, HASTY))
            except IndexUnavailable:
                pass
            else:
                assert lost > len(requests) - 6, "only steps after the alias switch may be left to the next run"
            played.heal()
            assert len(played.client.get_collections().collections) >= written - 1
            assert not any("DELETE" in request and "second" in request for request in played.seen)
            rerun = store_of(played)
            run(rerun)
            assert content(rerun) == expected, f"after {requests[lost]}, the {lost}th request"
            with rerun.writing():  # the next run cleans up at its start
                pass
            assert {info.name for info in rerun.generations()} >= {"first", "second"}


def test_run_waits_for_restarted_server_and_logs_start_and_end(
    expected_run: tuple[dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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
        publish_two_generations(played)
    ready = threading.Event()
    thread = threading.Thread(target=restart)
    thread.start()
    ready.wait()
    try:
        run(store_of(played))
        assert content(store_of(played)) == expected_run[0]
    finally:
        done.set()
        thread.join()
    began, ended = lines()
    assert "trying again for up to 20 s" in began
    assert "answers again, after" in ended


def test_run_completes_although_each_collection_detects_dead_node_anew(
    played: PlayedQdrant, expected_run: tuple[dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_two_generations(played)
    short_lease(monkeypatch, free_after=2.0)  # a busy machine can delay a renewal by a second
    played.dead_node = 2.5
    store = store_of(played, replace(PATIENT, timeout=1))
    contender = threading.Thread(target=run, args=(store_of(played),))
    with store.writing():
        contender.start()
        collection = store.create(GALLERY, "first")  # takes longer than the lease, which is renewed meanwhile
        collection.close()
    contender.join()
    assert content(store_of(played)) == expected_run[0]
    created = [request for request in played.seen if request.startswith("PUT") and request.endswith("-second")]
    assert len(created) == 1


def test_holder_keeps_lease_while_writes_hang_on_dead_node(
    played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_lease(monkeypatch, free_after=2.0)
    overtaken, finished = threading.Event(), threading.Event()

    def contend() -> None:
        with store_of(played).writing():
            if not finished.is_set():
                overtaken.set()

    holder = store_of(played, replace(PATIENT, timeout=1))
    with holder.writing():
        played.dead_node = 3.0
        thread = threading.Thread(target=contend)
        thread.start()
        assert not overtaken.wait(3.2)
        played.dead_node = 0.0
        publish_as_holder(holder, "first")
        finished.set()
    thread.join()


PROGRAM = (
    "import sys; from sceneseek.store.qdrant import QdrantSettings, QdrantStore;"
    "from tests.integration.test_store_contract import INFO, points;"
    "s = QdrantStore(sys.argv[1], QdrantSettings(prefer_grpc='no')); w = s.writing(); w.__enter__();"
    "c = s.create(INFO); c.upsert(points(20)); print('begun', flush=True); sys.stdin.read()"
)


def test_lease_of_killed_process_expires_regardless_of_host_and_clock(
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
            pytest.fail("two writers hold the lease")
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


def test_lease_expires_within_31_seconds_of_holder_death() -> None:
    worst = lease.FREE_AFTER + lease._POLL_SECONDS + 2 * lease._TIMEOUT
    assert worst <= 31
    assert lease.RENEW_EVERY + 2 * lease._TIMEOUT < lease.FREE_AFTER, "one renewal may hang"
    assert lease.TRUSTED < lease.FREE_AFTER


def test_building_becomes_false_after_writer_death(played: PlayedQdrant) -> None:
    store = store_of(played)
    with store.writing():
        state = played.client.retrieve("sceneseek-images-lease", [1])[0].payload
    played.client.set_payload("sceneseek-images-lease", state or {}, [1])  # simulate a dead writer
    assert store.building()
    deadline = time.monotonic() + 20
    while store.building():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_renewing_holder_keeps_lease_after_outage(played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch) -> None:
    short_lease(monkeypatch, free_after=0.6)
    monkeypatch.setattr(lease, "_MAX_POLL_GAP", 0.3)
    overtaken, holder, finished = threading.Event(), store_of(played), threading.Event()

    def contend() -> None:
        with store_of(played).writing():
            if not finished.is_set():
                overtaken.set()

    with holder.writing():
        thread = threading.Thread(target=contend)
        thread.start()
        assert not overtaken.wait(1.2)
        played.fail_always(drop)
        time.sleep(1.0)
        played.heal()
        assert not overtaken.wait(0.8)
        publish_as_holder(holder, "first")
        finished.set()
    thread.join()
    assert not overtaken.is_set()


def publish_as_holder(store: VectorStore, name: str) -> None:
    collection = store.create(replace(INFO, name=name), store.live())
    collection.upsert(NEW)
    store.publish(collection)


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_paused_writer_cannot_write_or_publish_after_losing_lease(
    played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    with ExitStack() as stack:
        settings = PATIENT
        if transport == "grpc":
            grpc_server = stack.enter_context(PlayedGrpc(played.client, played.guard).serving())
            settings = replace(PATIENT, prefer_grpc="yes", grpc_port=grpc_server.port)
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
    with store_of(played).writing(wait=False):  # the paused writer did not release the lease of another
        pass


def test_write_after_pause_checks_lease_first(played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_contenders_hold_lease_one_at_a_time(
    played: PlayedQdrant, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    short_lease(monkeypatch, free_after=20.0)
    inside, most, guard = [0], [0], threading.Lock()
    with ExitStack() as stack:
        settings = PATIENT
        if transport == "grpc":
            grpc_server = stack.enter_context(PlayedGrpc(played.client, played.guard).serving())
            settings = replace(PATIENT, prefer_grpc="yes", grpc_port=grpc_server.port)

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


def test_contenders_take_over_lease_of_dead_holder_one_at_a_time(played: PlayedQdrant) -> None:
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


def test_resume_completes_interrupted_copy_without_sending_points_twice(played: PlayedQdrant) -> None:
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


def test_lease_survives_transient_grpc_failures(played: PlayedQdrant) -> None:
    with PlayedGrpc(played.client, played.guard).serving() as grpc_server:
        message = "Service internal error: Failed to update shard 0 on peer 3: tcp connect error"
        fault = (grpc.StatusCode.INTERNAL, message)
        grpc_server.failing = {name: [fault, fault] for name in ("Upsert", "Get", "Create", "UpdateAliases", "Update")}
        store = QdrantStore(played.url, replace(PATIENT, prefer_grpc="yes", grpc_port=grpc_server.port))
        published(store, INFO, OLD)
        assert not any(grpc_server.failing.values())
        assert set(content(store)) == {p.id for p in OLD}


def test_lease_is_filtered_by_indexed_field_for_strict_mode(played: PlayedQdrant) -> None:
    with store_of(played).writing():
        pass
    with store_of(played).writing():
        pass
    request_line = "PUT /collections/sceneseek-images-lease/index"
    assert [body for request, body in played.bodies if request == request_line] == [
        {"field_name": "token", "field_schema": "keyword"}
    ]
    writes = [body for request, body in played.bodies if request == f"PUT {LEASE}"]
    assert all(body["update_filter"]["must"][0]["key"] == "token" for body in writes)
