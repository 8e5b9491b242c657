"""An index moves unchanged from one engine to another, and an interrupted move is resumed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sceneseek.errors import IndexUnavailable, InvalidRequest
from sceneseek.store import Point, VectorStore, open_store
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek_indexer.move import move
from tests.engines import opened
from tests.integration.test_store_contract import INFO, ids, points, published
from tests.played_qdrant import PlayedQdrant, status

SIZE = 700
GALLERY = replace(INFO, indexed={"folders": "keyword"})


@pytest.fixture
def source(tmp_path: Path) -> VectorStore:
    filled = open_store(f"file:{tmp_path}/source")
    published(filled, GALLERY, points(SIZE))
    return filled


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedQdrant]:
    monkeypatch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.01)
    with PlayedQdrant().serving() as server:
        yield server


def qdrant_store(played: PlayedQdrant) -> QdrantStore:
    return QdrantStore(played.url, QdrantSettings(prefer_grpc="no", patience=0.5))


def content(store: VectorStore) -> dict[str, Point]:
    live = store.live()
    assert live is not None
    collection = store.open(live)
    records = list(collection.scroll())
    rows = collection.vectors([record.id for record in records])
    collection.close()
    return {r.id: Point(r.id, rows[r.id].joint, rows[r.id].head, r.payload) for r in records}


def test_move_copies_vectors_payloads_and_the_generation_name(source: VectorStore, store: VectorStore) -> None:
    report = move(source, store)
    assert (report.moved, report.unchanged, report.generation) == (700, 0, "first")
    assert store.generations() == [GALLERY]
    moved, original = content(store), content(source)
    assert {i: p.payload for i, p in moved.items()} == {i: p.payload for i, p in original.items()}
    for identity, point in original.items():
        np.testing.assert_allclose(moved[identity].joint, point.joint, atol=1e-6)
        np.testing.assert_allclose(moved[identity].head, point.head, atol=2e-3)
    assert "moved 700" in report.lines()[0]


def test_move_from_a_server_to_a_directory(played: PlayedQdrant, tmp_path: Path) -> None:
    published(qdrant_store(played), GALLERY, points(30))
    target = open_store(f"file:{tmp_path}/back")
    move(qdrant_store(played), target)
    assert set(content(target)) == {p.id for p in points(30)}


def test_second_move_sends_nothing(source: VectorStore, store: VectorStore) -> None:
    move(source, store)
    again = move(source, store)
    assert (again.moved, again.unchanged) == (0, 700)
    assert len(store.generations()) == 1


def test_source_stays_readable_after_a_move(source: VectorStore, played: PlayedQdrant) -> None:
    serving = source.open("first")
    assert move(source, qdrant_store(played)).moved == 700
    assert serving.count() == 700
    serving.close()


def test_move_after_a_failure_resumes_without_resending_points(source: VectorStore, played: PlayedQdrant) -> None:
    published(qdrant_store(played), replace(INFO, name="before"), points(5, seed=4))
    upserts = f"PUT /collections/sceneseek-images-{GALLERY.name}/points"
    allowed = iter(range(2))
    guard = threading.Lock()

    def full_after_two(handler: object) -> None:
        with guard:
            accept = next(allowed, None) is not None
        if accept:
            handler.answered()  # type: ignore[attr-defined]
        else:
            status(500, "No space left on device: WAL buffer size exceeds available disk space")(handler)  # type: ignore[arg-type]

    played.fail_always(full_after_two, at=upserts)
    with pytest.raises(
        IndexUnavailable, match=r"the disk of the Qdrant server .* is full .*run the same command again"
    ):
        move(source, qdrant_store(played))
    assert qdrant_store(played).live() == "before"
    assert [info.name for info in qdrant_store(played).unfinished()] == [GALLERY.name]
    played.heal()
    report = move(source, qdrant_store(played))
    assert report.moved + report.unchanged == 700
    assert report.unchanged in (512, 256 + 188)
    assert set(content(qdrant_store(played))) == {p.id for p in points(SIZE)}
    assert {info.name for info in qdrant_store(played).generations()} == {"before", GALLERY.name}


def test_resumed_move_deletes_points_that_are_not_in_the_source(source: VectorStore, store: VectorStore) -> None:
    with store.writing():
        unfinished = store.create(GALLERY)
        unfinished.upsert([*points(10), *points(3, seed=8)])
        unfinished.close()
    report = move(source, store)
    assert (report.moved, report.unchanged) == (690, 10)
    live = store.open("first")
    assert ids(live) == {p.id for p in points(SIZE)}
    live.close()


def test_move_adds_a_suffix_to_a_generation_name_in_use(source: VectorStore, store: VectorStore) -> None:
    move(source, store)
    published(store, replace(INFO, name="other"), points(3))
    assert move(source, store).generation == "first-again"
    assert store.live() == "first-again"


def test_move_rejects_an_empty_source_and_an_identical_target(tmp_path: Path, source: VectorStore) -> None:
    with pytest.raises(IndexUnavailable, match="nothing is indexed"):
        move(open_store(f"file:{tmp_path}/empty"), source)
    with pytest.raises(InvalidRequest, match="both source and target"):
        move(source, source)
    with opened("played", tmp_path) as store, pytest.raises(IndexUnavailable, match="nothing is indexed"):
        move(store, source)
