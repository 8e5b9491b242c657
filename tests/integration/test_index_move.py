"""An index moves from one engine to another as it is, and a move that was stopped is resumed."""

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


def served(played: PlayedQdrant) -> QdrantStore:
    return QdrantStore(played.url, QdrantSettings(prefer_grpc="no", patience=0.5))


def content(store: VectorStore) -> dict[str, Point]:
    live = store.live()
    assert live is not None
    collection = store.open(live)
    records = list(collection.scroll())
    rows = collection.vectors([record.id for record in records])
    collection.close()
    return {r.id: Point(r.id, rows[r.id].joint, rows[r.id].head, r.payload) for r in records}


def test_every_image_arrives_with_its_vectors_and_payload_under_the_same_generation(
    source: VectorStore, store: VectorStore
) -> None:
    report = move(source, store)
    assert (report.moved, report.unchanged, report.generation) == (700, 0, "first")
    assert store.generations() == [GALLERY]
    there, here = content(store), content(source)
    assert {i: p.payload for i, p in there.items()} == {i: p.payload for i, p in here.items()}
    for identity, point in here.items():
        np.testing.assert_allclose(there[identity].joint, point.joint, atol=1e-6)
        np.testing.assert_allclose(there[identity].head, point.head, atol=2e-3)
    assert "moved 700" in report.lines()[0]


def test_an_index_moves_from_a_server_into_a_directory(played: PlayedQdrant, tmp_path: Path) -> None:
    published(served(played), GALLERY, points(30))
    back = open_store(f"file:{tmp_path}/back")
    move(served(played), back)
    assert set(content(back)) == {p.id for p in points(30)}


def test_a_second_transfer_sends_nothing(source: VectorStore, store: VectorStore) -> None:
    move(source, store)
    again = move(source, store)
    assert (again.moved, again.unchanged) == (0, 700)
    assert len(store.generations()) == 1


def test_a_service_continues_to_answer_from_the_source(source: VectorStore, played: PlayedQdrant) -> None:
    serving = source.open("first")
    assert move(source, served(played)).moved == 700
    assert serving.count() == 700
    serving.close()


def test_a_run_after_a_failure_resumes_and_sends_nothing_twice(source: VectorStore, played: PlayedQdrant) -> None:
    published(served(played), replace(INFO, name="before"), points(5, seed=4))
    upserts = f"PUT /collections/sceneseek-images-{GALLERY.name}/points"
    allowed = iter(range(2))
    guard = threading.Lock()

    def full_after_two(handler: object) -> None:
        with guard:
            go_on = next(allowed, None) is not None
        if go_on:
            handler.answered()  # type: ignore[attr-defined]
        else:
            status(500, "No space left on device: WAL buffer size exceeds available disk space")(handler)  # type: ignore[arg-type]

    played.fail_always(full_after_two, at=upserts)
    with pytest.raises(
        IndexUnavailable, match=r"the disk of the Qdrant server .* is full .*run the same command again"
    ):
        move(source, served(played))
    assert served(played).live() == "before"
    assert [info.name for info in served(played).unfinished()] == [GALLERY.name]
    played.heal()
    report = move(source, served(played))
    assert report.moved + report.unchanged == 700
    assert report.unchanged in (512, 256 + 188)
    assert set(content(served(played))) == {p.id for p in points(SIZE)}
    assert {info.name for info in served(played).generations()} == {"before", GALLERY.name}


def test_what_left_the_source_since_the_stopped_run_leaves_the_target_too(
    source: VectorStore, store: VectorStore
) -> None:
    with store.writing():
        begun = store.create(GALLERY)
        begun.upsert([*points(10), *points(3, seed=8)])
        begun.close()
    report = move(source, store)
    assert (report.moved, report.unchanged) == (690, 10)
    live = store.open("first")
    assert ids(live) == {p.id for p in points(SIZE)}
    live.close()


def test_a_name_that_the_target_had_before_is_taken_again_beside_it(source: VectorStore, store: VectorStore) -> None:
    move(source, store)
    published(store, replace(INFO, name="other"), points(3))
    assert move(source, store).generation == "first-again"
    assert store.live() == "first-again"


def test_an_empty_source_and_the_same_target_are_refused(tmp_path: Path, source: VectorStore) -> None:
    with pytest.raises(IndexUnavailable, match="nothing is indexed"):
        move(open_store(f"file:{tmp_path}/empty"), source)
    with pytest.raises(InvalidRequest, match="both source and target"):
        move(source, source)
    with opened("played", tmp_path) as store, pytest.raises(IndexUnavailable, match="nothing is indexed"):
        move(store, source)
