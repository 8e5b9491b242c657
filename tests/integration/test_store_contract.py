"""The contract of `VectorStore`: on the embedded engine, a fake Qdrant server and, if configured, a real one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneseek.errors import IndexUnavailable, InvalidRequest
from sceneseek.store import Collection, CollectionInfo, Point, Source, VectorStore, open_store
from sceneseek.store.edge import EdgeStore, Reading
from tests.engines import another, on_edge, on_qdrant

JOINT, HEAD = 16, 3
INFO = CollectionInfo("first", "fingerprint", JOINT, HEAD, (Source("", "/photos"),), "2026-01-01T00:00:00+00:00")


def points(count: int, seed: int = 0, head: int = HEAD) -> list[Point]:
    rng = np.random.default_rng(seed)
    joint = rng.normal(size=(count, JOINT)).astype(np.float32)
    joint /= np.linalg.norm(joint, axis=1, keepdims=True)
    heads = rng.normal(size=(count, head)).astype(np.float32)
    return [
        Point(str(uuid.uuid5(uuid.NAMESPACE_URL, f"{seed}/{i}")), joint[i], heads[i], {"path": f"{i}.jpg"})
        for i in range(count)
    ]


def published(store: VectorStore, info: CollectionInfo, content: list[Point], base: str | None = None) -> None:
    with store.writing():
        collection = store.create(info, base)
        collection.upsert(content)
        store.publish(collection)


def create_unfinished(store: VectorStore, info: CollectionInfo, content: list[Point]) -> None:
    """Leave an unfinished generation, as an interrupted run does."""
    with store.writing():
        collection = store.create(info)
        collection.upsert(content)
        collection.close()


def ids(collection: Collection) -> set[str]:
    return {record.id for record in collection.scroll()}


def test_a_new_store_has_no_generation(store: VectorStore) -> None:
    assert store.live() is None
    assert store.generations() == []


def test_a_generation_is_live_only_after_publish(store: VectorStore) -> None:
    with store.writing():
        collection = store.create(INFO)
        collection.upsert(points(5))
        assert store.live() is None
        assert store.generations() == []
        store.publish(collection)
    assert store.live() == "first"
    assert store.generations() == [INFO]


def test_nearest_returns_the_exact_cosine_order_with_the_requested_vectors(store: VectorStore) -> None:
    content = points(300)
    published(store, INFO, content)
    collection = store.open("first")
    query = points(1, seed=9)[0].joint
    candidates = collection.nearest(query, 20, ["joint", "head"])
    cosines = np.array([p.joint @ query for p in content])
    best = np.argsort(-cosines)[:20]
    assert candidates.ids == [content[i].id for i in best]
    np.testing.assert_allclose(candidates.similarity, cosines[best], atol=1e-6)
    assert candidates.joint is not None
    assert candidates.head is not None
    np.testing.assert_allclose(candidates.joint, [content[i].joint for i in best], atol=1e-6)
    # Head vectors are stored as float16.
    np.testing.assert_allclose(candidates.head, [content[i].head for i in best], atol=5e-3)
    plain = collection.nearest(query, 20)
    assert (plain.joint, plain.head, plain.ids) == (None, None, candidates.ids)
    collection.close()


def test_generation_without_head_vectors_returns_width_zero(store: VectorStore) -> None:
    published(store, replace(INFO, head=0), points(10, head=0))
    collection = store.open("first")
    candidates = collection.nearest(points(1)[0].joint, 4, ["joint", "head"])
    assert candidates.head is not None
    assert candidates.head.shape == (4, 0)
    collection.close()


def test_opening_a_read_only_index_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"file:{tmp_path}/index")
    published(store, INFO, points(3))

    def read_only(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("sceneseek.store.lease.os.open", read_only)
    with pytest.raises(IndexUnavailable, match=r"cannot be opened \(Read-only file system\).*writes there"):
        store.open("first")


def test_upsert_replaces_and_delete_is_idempotent(store: VectorStore) -> None:
    with store.writing():
        collection = store.create(INFO)
        collection.upsert(points(10))
        again = replace(points(10)[3], payload={"path": "renamed.jpg"})
        collection.upsert([again])
        assert collection.count() == 10
        assert collection.retrieve([again.id])[0].payload == {"path": "renamed.jpg"}
        for _ in range(2):
            collection.delete([again.id])
        assert collection.count() == 9
        store.discard(collection)


def test_changed_vector_is_not_served_from_a_cache(store: VectorStore) -> None:
    with store.writing():
        collection = store.create(INFO)
        collection.upsert(points(10))
        query = points(10)[3].joint
        before = collection.nearest(query, 10, ("joint",))
        moved = replace(points(10)[3], joint=points(10)[7].joint)
        collection.upsert([moved])
        after = collection.nearest(query, 10, ("joint",))
        assert before.joint is not None
        assert after.joint is not None
        np.testing.assert_allclose(after.joint[after.ids.index(moved.id)], moved.joint, atol=1e-5)
        np.testing.assert_allclose(before.joint[before.ids.index(moved.id)], query, atol=1e-5)
        store.discard(collection)


def test_retrieve_keeps_the_requested_order_and_omits_unknown_ids(store: VectorStore) -> None:
    published(store, INFO, points(10))
    collection = store.open("first")
    requested = [points(10)[i].id for i in (7, 2, 5)]
    records = collection.retrieve([requested[0], str(uuid.uuid4()), *requested[1:]])
    assert [record.id for record in records] == requested
    collection.close()


def test_scroll_returns_every_record_once(store: VectorStore) -> None:
    published(store, INFO, points(57))
    collection = store.open("first")
    assert sorted(r.id for r in collection.scroll(batch=10)) == sorted(p.id for p in points(57))
    collection.close()


def test_generation_copies_its_base_and_leaves_it_unchanged(store: VectorStore) -> None:
    published(store, INFO, points(10))
    reader = store.open("first")
    extra = points(3, seed=5)
    published(store, replace(INFO, name="second"), extra, base="first")
    assert reader.count() == 10
    copy = store.open("second")
    assert ids(copy) == {p.id for p in [*points(10), *extra]}
    reader.close()
    copy.close()


@on_edge
def test_publish_keeps_the_previous_generation_and_removes_older_ones_unless_open(store: VectorStore) -> None:
    names = ["a", "b", "c", "d"]
    published(store, replace(INFO, name="a"), points(3))
    reader = store.open("a")
    for name in names[1:]:
        published(store, replace(INFO, name=name), points(3))
    assert {info.name for info in store.generations()} == {"a", "c", "d"}
    assert reader.count() == 3
    reader.close()
    published(store, replace(INFO, name="e"), points(3))
    assert {info.name for info in store.generations()} == {"d", "e"}


@on_qdrant
def test_publish_keeps_the_previous_generation_and_removes_older_ones(store: VectorStore) -> None:
    published(store, replace(INFO, name="a"), points(3))
    reader = store.open("a")
    published(store, replace(INFO, name="b"), points(3))
    assert reader.count() == 3
    published(store, replace(INFO, name="c"), points(3))
    assert {info.name for info in store.generations()} == {"b", "c"}
    with pytest.raises(IndexUnavailable, match="lost"):
        reader.count()


def test_discarded_generation_leaves_no_files(store: VectorStore, tmp_path: Path) -> None:
    published(store, INFO, points(3))
    with store.writing():
        store.discard(store.create(replace(INFO, name="second"), "first"))
    assert store.live() == "first"
    assert (store.generations(), store.unfinished()) == ([INFO], [])
    if isinstance(store, EdgeStore):
        assert [p.name for p in (tmp_path / "index" / "generations").iterdir()] == ["first"]


def run_killed(store: VectorStore, program: str) -> None:
    """Run a program that builds in the store until it kills itself."""
    setup = (
        "import os, sys; from pathlib import Path; from dataclasses import replace;"
        "from tests.integration.test_store_contract import INFO, open_store, points;"
        "die = lambda *_, **__: os.kill(os.getpid(), 9); s = open_store(sys.argv[1]);"
        "lease = s.writing(); lease.__enter__();"
        "dies_at = lambda word, write: lambda path, text: die() if word in path.name else write(path, text);"
    )
    process = subprocess.run([sys.executable, "-c", setup + program, store.url], check=False)
    assert process.returncode == -9


@on_edge
def test_generation_of_a_killed_run_is_unfinished_and_can_be_resumed(store: VectorStore) -> None:
    published(store, INFO, points(10))
    run_killed(store, "c = s.create(replace(INFO, name='half'), 'first'); c.upsert(points(20, seed=1)); die()")
    assert (store.live(), store.generations()) == ("first", [INFO])
    (unfinished,) = store.unfinished()
    assert unfinished == replace(INFO, name="half")
    with store.writing():
        again = store.resume("half")
        assert (again.info, ids(again)) == (unfinished, {p.id for p in [*points(10), *points(20, seed=1)]})
        store.publish(again)
    assert (store.live(), store.unfinished()) == ("half", [])
    assert {info.name for info in store.generations()} == {"first", "half"}


@on_edge
def test_generation_of_a_killed_run_is_not_being_built(store: VectorStore) -> None:
    run_killed(store, "s.create(INFO); die()")
    assert [info.name for info in store.unfinished()] == ["first"]
    assert not store.building()


@on_edge
def test_checking_for_a_writer_does_not_block_writers(store: VectorStore) -> None:
    published(store, INFO, points(2))
    assert isinstance(store, EdgeStore)
    checking, finished = threading.Event(), threading.Event()

    def check() -> None:
        while not finished.is_set():
            store.building()
            checking.set()

    thread = threading.Thread(target=check)
    thread.start()
    checking.wait()
    try:
        for _ in range(30):
            with store.writing():
                store.switch("first")
    finally:
        finished.set()
        thread.join()


def test_building_is_true_from_create_to_publish(store: VectorStore) -> None:
    assert not store.building()
    with store.writing():
        collection = store.create(INFO)
        assert store.building()
        assert another(store).building()
        collection.upsert(points(3))
        store.publish(collection)
    assert not store.building()


def test_a_closed_unfinished_generation_can_be_resumed_by_the_same_store(store: VectorStore) -> None:
    create_unfinished(store, INFO, points(4))
    with store.writing():
        again = store.resume("first")
        assert again.count() == 4
        store.discard(again)
    assert store.unfinished() == []


def test_unfinished_generation_is_removed_when_another_is_created(store: VectorStore) -> None:
    create_unfinished(store, INFO, points(1))
    published(store, replace(INFO, name="second"), points(4))
    assert store.unfinished() == []
    with store.writing(), pytest.raises(IndexUnavailable, match="lost its unfinished first"):
        store.resume("first")


def test_unfinished_generation_beside_a_live_one_can_be_resumed(store: VectorStore) -> None:
    published(store, INFO, points(3))
    create_unfinished(store, replace(INFO, name="second"), points(1))
    assert [info.name for info in store.unfinished()] == ["second"]
    with store.writing():
        store.publish(store.resume("second"))
    assert store.unfinished() == []


def test_opening_a_missing_generation_raises(store: VectorStore) -> None:
    with pytest.raises(IndexUnavailable, match="lost its generation gone: index the folder again"):
        store.open("gone")


@on_edge
def test_files_of_an_unfinished_generation_are_removed_by_the_next_run(store: VectorStore, tmp_path: Path) -> None:
    run_killed(store, "c = s.create(INFO); c.upsert(points(20)); die()")
    published(store, replace(INFO, name="second"), points(4))
    assert store.unfinished() == []
    assert [p.name for p in (tmp_path / "index" / "generations").iterdir()] == ["second"]
    with store.writing(), pytest.raises(IndexUnavailable, match="lost its unfinished first"):
        store.resume("first")
    published(store, replace(INFO, name="third"), points(4))


@on_edge
def test_unfinished_generation_is_ignored_after_the_live_one_changed(store: VectorStore, tmp_path: Path) -> None:
    run_killed(store, "s.create(INFO); die()")
    home = tmp_path / "index"
    (home / "alias-images").write_text("rolled-back-by-hand\n")
    assert store.unfinished() == []


@on_edge
@pytest.mark.parametrize(
    ("step", "unfinished", "live"),
    [
        ("s._create_shard = die; s.create(new, 'first')", [], "first"),
        ("edge.write_atomic = die; s.create(new, 'first')", [], "first"),
        ("c = s.create(new, 'first'); edge.write_atomic = die; s.publish(c)", ["new"], "first"),
        ("c = s.create(new, 'first'); edge.write_atomic = dies_at('alias', w); s.publish(c)", ["new"], "first"),
        ("c = s.create(new, 'first'); Path.unlink = die; s.publish(c)", [], "new"),
        ("c = s.create(new, 'first'); s._remove_if_free = die; s.publish(c)", [], "new"),
        ("c = s.create(new, 'first'); edge.shutil.rmtree = die; s.publish(c)", [], "new"),
        ("c = s.create(new, 'first'); edge.shutil.rmtree = die; s.discard(c)", [], "first"),
    ],
    ids=["copy", "create", "finish", "alias", "unlink", "remove-old", "rmtree-old", "discard"],
)  # fmt: skip
def test_kill_at_any_step_leaves_a_complete_live_generation_and_a_writable_store(
    store: VectorStore, tmp_path: Path, step: str, unfinished: list[str], live: str
) -> None:
    published(store, replace(INFO, name="old"), points(3))
    published(store, INFO, points(10))
    run_killed(
        store, f"import sceneseek.store.edge as edge; w = edge.write_atomic; new = replace(INFO, name='new'); {step}"
    )
    assert [info.name for info in store.unfinished()] == unfinished
    assert store.live() == live
    assert "new" not in {info.name for info in store.generations()} or live == "new"
    searched = store.open(live)
    assert ids(searched) == {p.id for p in points(10)}
    searched.close()
    if unfinished:
        with store.writing():
            again = store.resume("new")
            assert again.count() == 10
            store.publish(again)
    published(store, replace(INFO, name="next"), points(3, seed=7), base=store.live())
    homes = {home.name for home in (tmp_path / "index" / "generations").iterdir()}
    assert homes == {info.name for info in store.generations()}
    assert not list((tmp_path / "index").rglob("building.json"))


@on_edge
def test_damaged_unfinished_generation_does_not_block_the_store(store: VectorStore, tmp_path: Path) -> None:
    run_killed(store, "c = s.create(INFO); c.upsert(points(20)); die()")
    for file in (tmp_path / "index" / "generations" / "first" / "shard").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with store.writing(), pytest.raises(IndexUnavailable, match="damaged"):
        store.resume("first")
    published(store, replace(INFO, name="second"), points(2))


def test_vectors_round_trip(store: VectorStore) -> None:
    content = points(20)
    published(store, INFO, content)
    collection = store.open("first")
    vectors = collection.vectors([content[3].id, str(uuid.uuid4()), content[8].id])
    assert set(vectors) == {content[3].id, content[8].id}
    np.testing.assert_allclose(vectors[content[8].id].joint, content[8].joint, atol=1e-6)
    np.testing.assert_allclose(vectors[content[8].id].head, content[8].head, atol=5e-3)
    collection.close()
    published(store, replace(INFO, name="second", head=0), points(2, head=0))
    collection = store.open("second")
    assert collection.vectors([points(2)[0].id])[points(2)[0].id].head.shape == (0,)
    collection.close()


@pytest.mark.parametrize(
    ("reading", "read"),
    [("nothing", set()), ("graph", {"copy", "links"}), ("everything", {"copy", "links", "vectors"})],
)
def test_open_reads_ahead_the_files_of_its_reading_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: Reading, read: set[str]
) -> None:
    published(EdgeStore(tmp_path / "index"), INFO, points(40))
    home = tmp_path / "index/generations/first"
    record = json.loads((home / "generation.json").read_text())
    whole = 4 * INFO.joint * len(points(40))
    for name, size in {"links": whole // 8, "copy": whole // 4, "vectors": whole, "preallocated": whole}.items():
        (home / "shard" / name).write_bytes(b"x" * size)
        record["files"][name] = [size, 0]
    with (home / "shard/preallocated").open("wb") as file:
        file.truncate(2**20)  # sparse
    (home / "generation.json").write_text(json.dumps(record))
    monkeypatch.setattr("sceneseek.store.edge._SMALL", 0)
    opened: list[str] = []
    real = Path.open

    def watched(path: Path, *args: Any, **options: Any) -> Any:
        opened.append(path.name)
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "open", watched)
    collection = EdgeStore(tmp_path / "index", reading=reading).open("first")
    assert set(opened) & {"copy", "links", "vectors", "preallocated"} == read
    assert collection.nearest(points(40)[7].joint, 5).ids[0] == points(40)[7].id
    collection.close()


def test_glance_opens_a_generation_that_is_in_use(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path / "index")
    published(store, INFO, points(10))
    owner = store.open("first")
    glance = store.glance("first")
    assert ids(glance) == {p.id for p in points(10)}
    glance.close()
    assert owner.count() == 10
    owner.close()


def test_glance_links_constant_files_without_changing_them(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path / "index")
    published(store, INFO, points(10))
    owner = store.open("first")
    glance = store.glance("first")
    (home,) = tmp_path.glob("index/generations/glance-*")
    copied = [path for path in home.rglob("*") if path.is_file() and path.stat().st_nlink == 1]
    assert {path.name for path in copied} <= {
        *("owner.lock", "edge_config.json", "segment.json", "tracker_journal.dat"),
        *(path.name for path in home.glob("shard/wal/*")),
    }
    assert sum(path.stat().st_nlink == 2 for path in home.rglob("*")) > 10
    with store.writing():  # a run that starts meanwhile keeps it
        store.create(replace(INFO, name="second")).close()
    assert ids(glance) == {p.id for p in points(10)}
    glance.close()
    owner.close()
    store.verify("first")
    assert not list(tmp_path.glob("index/generations/glance-*"))


def test_glance_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(target))

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    store = EdgeStore(tmp_path / "index")
    published(store, INFO, points(10))
    owner = store.open("first")
    with contextlib.closing(store.glance("first")) as glance:
        assert ids(glance) == {p.id for p in points(10)}
    owner.close()


def test_leftovers_of_a_killed_glance_are_removed(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path / "index")
    published(store, INFO, points(2))
    (tmp_path / "index/generations/glance-left/shard").mkdir(parents=True)
    with store.writing():
        store.create(replace(INFO, name="second")).close()
    assert not list(tmp_path.glob("index/generations/glance-*"))


@on_edge
def test_sources_without_labels_are_read(store: VectorStore, tmp_path: Path) -> None:
    published(store, INFO, points(2))
    (manifest,) = tmp_path.rglob("generation.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "sources": ["/photos"]}))
    assert store.generations() == [INFO]


def test_second_writer_raises_without_wait(store: VectorStore) -> None:
    with store.writing():
        here = socket.gethostname()
        message = rf"being written by process \d+ on {here} since .*UTC: wait until"
        with pytest.raises(IndexUnavailable, match=message), another(store).writing(wait=False):
            pytest.fail("two hold the lease")
    published(another(store), replace(INFO, name="second"), points(2))


def test_second_writer_waits_and_logs_once(
    store: VectorStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.lease._POLL_SECONDS", 0.02)
    holding, order = threading.Event(), []

    def first() -> None:
        with store.writing():
            holding.set()
            while not any("waiting for that run" in record.getMessage() for record in caplog.records):
                time.sleep(0.02)
            collection = store.create(INFO)
            collection.upsert(points(3))
            store.publish(collection)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    holding.wait()
    second = another(store)
    with second.writing():
        order.append("second")
        assert second.live() == "first"
    thread.join()
    assert order == ["first", "second"]
    lines = [record.getMessage() for record in caplog.records if record.name == "sceneseek.store.lease"]
    assert len(lines) == 2
    assert f"being written by process {os.getpid()} on " in lines[0]
    assert "is free after" in lines[1]


def test_lease_is_released_when_its_block_raises(store: VectorStore) -> None:
    with pytest.raises(KeyboardInterrupt), store.writing():
        raise KeyboardInterrupt
    with another(store).writing(wait=False):
        pass


@on_edge
def test_second_open_raises_and_leaves_the_first_working(store: VectorStore) -> None:
    published(store, INFO, points(10))
    owner = store.open("first")
    with pytest.raises(IndexUnavailable, match=r"held by process \d+.*sceneseek serve"):
        store.open("first")
    assert owner.count() == 10
    owner.close()
    second = store.open("first")
    assert second.count() == 10
    second.close()


@on_edge
def test_opening_a_missing_or_damaged_generation_raises(store: VectorStore, tmp_path: Path) -> None:
    published(store, INFO, points(10))
    with pytest.raises(IndexUnavailable, match="index the folder again"):
        store.open("gone")
    for file in (tmp_path / "index" / "generations" / "first" / "shard").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with pytest.raises(IndexUnavailable, match="damaged"):
        store.open("first")


@on_edge
def test_graph_search_has_high_recall_for_queries_unlike_the_vectors(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engine builds a graph once it has 40 MB of vectors; 1 MB keeps the test small.
    monkeypatch.setattr("sceneseek.store.edge_collection._GRAPH_FROM_KILOBYTES", 1_000)
    rng = np.random.default_rng(0)
    # Queries spread like texts in the joint space; the engine's default search effort has a recall of 0.92.
    spread = np.arange(1, 257) ** -0.25
    vectors = (rng.normal(size=(12_050, 256)) * spread).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors, queries = vectors[:12_000], vectors[12_000:]
    with store.writing():
        collection = store.create(replace(INFO, joint=256, head=0))
        empty = np.zeros(0, np.float32)
        for start in range(0, len(vectors), 1000):
            collection.upsert([Point(str(uuid.UUID(int=i)), vectors[i], empty) for i in range(start, start + 1000)])
        collection.optimize()
        assert collection._shard.info().indexed_vectors_count == 12_000  # type: ignore[attr-defined]
        hits = 0
        for query in queries:
            hits += len(set(collection.nearest(query, 100).ids) & set(collection.nearest(query, 100, exact=True).ids))
        store.discard(collection)
    assert hits / (100 * len(queries)) >= 0.98


@pytest.mark.parametrize(
    "url", ["", "index", "ftp://host/x", "file:", "file://host/x", "ftp://me:secret@host", "http://[::1"]
)
def test_invalid_url_is_rejected_without_exposing_secrets(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"is not the URL of an index|cannot be parsed") as raised:
        open_store(url)
    assert "secret" not in str(raised.value)


def test_unwritable_directory_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IndexUnavailable, match="cannot be written"):
        published(open_store(f"file:{tmp_path}/file/index"), INFO, [])


def test_set_payload_sets_and_removes_fields_and_keeps_the_rest(store: VectorStore) -> None:
    with store.writing():
        collection = store.create(INFO)
        one, two, three = points(3)
        collection.upsert([one, two, three])
        before = collection.vectors([one.id])[one.id]
        collection.set_payload({one.id: {"metadata": {"a": [1, True]}, "n": 1}, two.id: {"n": 1}})
        collection.set_payload(
            {one.id: {"n": None, "metadata": {"b": 1.0}, "x": None}, two.id: {"n": None}, three.id: {}}
        )
        collection.set_payload({})
        payloads = {record.id: record.payload for record in collection.scroll()}
        assert payloads == {
            one.id: {**one.payload, "metadata": {"b": 1.0}},
            two.id: two.payload,
            three.id: three.payload,
        }
        assert isinstance(payloads[one.id]["metadata"]["b"], float)
        np.testing.assert_array_equal(collection.vectors([one.id])[one.id].joint, before.joint)
        np.testing.assert_array_equal(collection.vectors([one.id])[one.id].head, before.head)
        store.publish(collection)


def test_generation_records_the_skipped_counts_of_its_run(store: VectorStore) -> None:
    with store.writing():
        collection = store.create(INFO)
        collection.upsert(points(5))
        store.publish(collection, {"truncated": 2, "too-large": 1})
    expected = replace(INFO, skipped={"truncated": 2, "too-large": 1})
    assert store.generations() == [expected]
    opened = another(store).open("first")
    assert opened.info == expected
    opened.close()
    with store.writing():
        copy = store.create(replace(INFO, name="second"), base="first")
        store.publish(copy, {})
    assert store.generations()[-1].skipped == {}, "the counts of the base are not inherited"


@on_edge
def test_generation_without_skipped_counts_opens(store: VectorStore) -> None:
    assert isinstance(store, EdgeStore)
    published(store, INFO, points(3))
    file = store.root / "generations" / "first" / "generation.json"
    raw = json.loads(file.read_text())
    del raw["skipped"]
    file.write_text(json.dumps(raw))
    collection = store.open("first")
    assert collection.info == INFO
    collection.close()


def test_unused_lease_leaves_no_directory(tmp_path: Path) -> None:
    index = tmp_path / "index"
    with open_store(f"file:{index}").writing():
        assert index.is_dir()
    assert not index.exists()


def test_a_lease_acquired_after_waiting_on_an_empty_store_is_valid(tmp_path: Path) -> None:
    first, second, third = (open_store(f"file:{tmp_path}/index") for _ in range(3))
    lease = second.writing()
    with ThreadPoolExecutor() as pool:
        with first.writing():
            waiting = pool.submit(lease.__enter__)
            time.sleep(0.3)
        waiting.result(20)
    with pytest.raises(IndexUnavailable, match="is being written by"), third.writing(wait=False):
        pass
    lease.__exit__(None, None, None)


def test_tilde_in_a_file_url_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with open_store("file:~/index").writing():
        assert (tmp_path / "home" / "index").is_dir()
    assert not (tmp_path / "~").exists()
    with pytest.raises(InvalidRequest, match="write the path without ~"):
        open_store("file:~nobody-of-this-name/index")
