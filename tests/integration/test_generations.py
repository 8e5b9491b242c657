"""Index generations are rebuilt, checked, compared, published and rolled back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sceneseek.bundle import Bundle
from sceneseek.errors import IndexUnavailable
from sceneseek.models import ModelRegistry
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import Point, VectorStore, open_store
from sceneseek.vectors import Candidates, Floats
from sceneseek_indexer.build import BuildOptions, index_folder
from sceneseek_indexer.generation_check import EFFORTS, inspect
from sceneseek_indexer.generations import generations, roll_back
from tests.command_line import CommandLine
from tests.drawing import NAMES, draw_gallery
from tests.integration.test_models import other_image_graph


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return open_store(f"file:{tmp_path}/index")


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.tsv"
    rows = [f"{name}\t{name}#0\ta {Path(name).stem}" for name in NAMES]
    path.write_text("\n".join(["image\tcaption_id\tcaption", *rows, ""]), encoding="utf-8")
    return path


def test_rebuild_encodes_all_images_and_can_be_rolled_back(bundle: Bundle, gallery: Path, store: VectorStore) -> None:
    first = index_folder(gallery, bundle, store)
    again = index_folder(gallery, bundle, store, BuildOptions(rebuild=True))
    assert (again.indexed, again.unchanged) == (len(NAMES), 0)
    assert again.inspection == {"points": len(NAMES), "recall": 1.0}
    assert [(g.info.name, g.images, g.live) for g in generations(store)] == [
        (first.generation, len(NAMES), False),
        (again.generation, len(NAMES), True),
    ]
    assert roll_back(store) == first.generation
    assert store.live() == first.generation
    assert roll_back(store) == again.generation
    with pytest.raises(IndexUnavailable, match=f"no other generation nothing.*{first.generation}"):
        roll_back(store, "nothing")


def test_rollback_raises_with_a_single_generation(bundle: Bundle, gallery: Path, store: VectorStore) -> None:
    index_folder(gallery, bundle, store)
    with pytest.raises(IndexUnavailable, match="no generation to go back to"):
        roll_back(store)


def test_search_answers_consistently_through_rebuild_and_rollback(
    bundle: Bundle, gallery: Path, store: VectorStore, tmp_path: Path
) -> None:
    first = index_folder(gallery, bundle, store)
    other = other_image_graph(bundle, tmp_path / "other")
    search = Search(ModelRegistry(bundle, "cpu"), store)
    search.follower.follow(every=0.02)
    stop, answers, failures = threading.Event(), [], []

    def search_repeatedly() -> None:
        while not stop.is_set():
            try:
                answer = search.query(Query(text="a red circle"))
                answers.append((answer.bundle, answer.generation, len(answer.results)))
            except Exception as error:  # noqa: BLE001 - any failure is what the test is about
                failures.append(repr(error))
            stop.wait(0.02)

    thread = threading.Thread(target=search_repeatedly)
    thread.start()
    try:
        second = index_folder(gallery, other, store)
        _wait_for(lambda: answers and answers[-1][1] == second.generation)
        roll_back(store)
        _wait_for(lambda: answers and answers[-1][1] == first.generation)
    finally:
        stop.set()
        thread.join()
        search.close()
    one, two = bundle.manifest.fingerprints.bundle, other.manifest.fingerprints.bundle
    assert failures == []
    assert set(answers) == {(one, first.generation, 5), (two, second.generation, 5)}
    assert answers[0][0] == answers[-1][0] == one


def _wait_for(condition: object, seconds: float = 20) -> None:
    waiting = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():  # type: ignore[operator]
            return
        waiting.wait(0.02)
    pytest.fail("the condition did not become true")


def test_generation_with_lower_recall_is_rejected_unless_max_loss_allows_it(
    bundle: Bundle, gallery: Path, store: VectorStore, captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index_folder(gallery, bundle, store)
    other = other_image_graph(bundle, tmp_path / "other")
    recalls: Iterator[float] = iter([80.0, 70.0, 80.0, 70.0])  # the old and the new generation, twice
    monkeypatch.setattr("sceneseek_indexer.generation_check.recall_at_5", lambda *_: next(recalls))
    with pytest.raises(IndexUnavailable, match=r"fall by 10\.00 from 80\.00 to 70\.00, over 2.*--max-loss"):
        index_folder(gallery, other, store, BuildOptions(captions=captions))
    assert store.live() == first.generation
    allowed = index_folder(gallery, other, store, BuildOptions(captions=captions, max_loss=15))
    assert allowed.quality == {"before": 80.0, "after": 70.0, "captions": len(NAMES)}
    assert allowed.resumed == len(NAMES)  # the encoded images are reused
    assert store.live() == allowed.generation


def test_quality_is_measured_with_the_bundle_of_each_generation(
    bundle: Bundle, gallery: Path, store: VectorStore, captions: Path, tmp_path: Path
) -> None:
    index_folder(gallery, bundle, store)
    options = BuildOptions(captions=captions, max_loss=100)
    report = index_folder(gallery, other_image_graph(bundle, tmp_path / "other"), store, options)
    assert report.quality is not None
    assert report.quality["captions"] == len(NAMES)
    assert 0 < report.quality["before"] <= 100
    assert any("recall@5" in line for line in report.lines())


@pytest.mark.parametrize("broken", ["zero", "not a number"])
def test_generation_with_an_invalid_vector_fails_the_check(
    bundle: Bundle, gallery: Path, store: VectorStore, broken: str
) -> None:
    report = index_folder(gallery, bundle, store)
    info = next(info for info in store.generations() if info.name == report.generation)
    with store.writing():
        collection = store.create(replace(info, name="broken"), base=info.name)
        try:
            assert inspect(collection, bundle)["points"] == len(NAMES)
            record = next(iter(collection.scroll()))
            joint = np.zeros(info.joint, np.float32)
            if broken == "not a number":
                joint[:] = np.nan
            collection.upsert([Point(record.id, joint, np.zeros(info.head, np.float32), record.payload)])
            with pytest.raises(IndexUnavailable, match=f"invalid vector of {record.id}"):
                inspect(collection, bundle)
        finally:
            store.discard(collection)


def test_search_ef_is_raised_until_recall_is_sufficient(
    bundle: Bundle, tmp_path: Path, store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = draw_gallery(tmp_path / "pictures")
    report = index_folder(photos, bundle, store)
    first = next(info for info in store.generations() if info.name == report.generation)
    assert first.search_ef == EFFORTS[0]
    with store.writing():
        collection = store.create(replace(first, name="hard"), base=first.name)
        find = collection.nearest

        def nearest(joint: Floats, limit: int, exact: bool = False) -> Candidates:
            """Return incomplete results at a low search effort, as from a sparse graph."""
            candidates = find(joint, limit, exact=exact)
            incomplete = not exact and collection.info.search_ef < EFFORTS[2]
            return replace(candidates, ids=candidates.ids[1:]) if incomplete else candidates

        monkeypatch.setattr(collection, "nearest", nearest)
        assert inspect(collection, bundle)["recall"] == 1
        store.publish(collection)
    assert next(info for info in store.generations() if info.name == "hard").search_ef == EFFORTS[2]
    # Generations copied from it keep the search effort.
    (photos / NAMES[0]).rename(photos / "moved.png")
    later = index_folder(photos, bundle, store).generation
    assert next(info for info in store.generations() if info.name == later).search_ef == EFFORTS[2]


def test_status_rollback_and_rebuild_on_the_command_line(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    options = ("--bundle", bundle.path, "--index", f"file:{tmp_path}/index")
    assert sceneseek("index", "status", *options[2:]).stdout.startswith("nothing is indexed in file:")
    assert sceneseek("index", gallery, *options).returncode == 0
    rebuilt = sceneseek("index", "--rebuild", *options)  # all indexed folders
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert f"checked {len(NAMES)} vectors; approximate search finds 100.0%" in rebuilt.stdout
    listed = json.loads(sceneseek("index", "status", *options[2:], "--json").stdout)
    assert [(g["images"], g["live"]) for g in listed] == [(len(NAMES), False), (len(NAMES), True)]
    rolled_back = sceneseek("index", "rollback", *options[2:])
    assert rolled_back.returncode == 0, rolled_back.stderr
    assert [line[:4] for line in rolled_back.stdout.splitlines()] == ["live", "    "]
    for words in (("--status", "--rollback"), ("--status", gallery), ("--to", "file:x")):
        refused = sceneseek("index", *words, *options[2:])
        assert refused.returncode == 2, refused.stdout
