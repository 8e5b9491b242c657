"""Built anew beside, checked, compared, let answer, and brought back."""

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


def test_a_rebuild_encodes_everything_anew_checks_it_and_the_way_back_is_open(
    bundle: Bundle, gallery: Path, store: VectorStore
) -> None:
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


def test_there_is_no_way_back_from_the_only_generation(bundle: Bundle, gallery: Path, store: VectorStore) -> None:
    index_folder(gallery, bundle, store)
    with pytest.raises(IndexUnavailable, match="no generation to go back to"):
        roll_back(store)


def test_a_service_follows_a_rebuild_with_another_bundle_and_the_way_back_without_a_failed_or_mixed_answer(
    bundle: Bundle, gallery: Path, store: VectorStore, tmp_path: Path
) -> None:
    first = index_folder(gallery, bundle, store)
    other = other_image_graph(bundle, tmp_path / "other")
    search = Search(ModelRegistry(bundle, "cpu"), store)
    search.follower.follow(every=0.02)
    stop, seen, failures = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = search.query(Query(text="a red circle"))
                seen.append((answer.bundle, answer.generation, len(answer.results)))
            except Exception as error:  # noqa: BLE001 - any failure is what the test is about
                failures.append(repr(error))
            stop.wait(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        second = index_folder(gallery, other, store)
        _until(lambda: seen and seen[-1][1] == second.generation)
        roll_back(store)
        _until(lambda: seen and seen[-1][1] == first.generation)
    finally:
        stop.set()
        asking.join()
        search.close()
    one, two = bundle.manifest.fingerprints.bundle, other.manifest.fingerprints.bundle
    assert failures == []
    assert set(seen) == {(one, first.generation, 5), (two, second.generation, 5)}
    assert seen[0][0] == seen[-1][0] == one


def _until(condition: object, seconds: float = 20) -> None:
    waiting = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():  # type: ignore[operator]
            return
        waiting.wait(0.02)
    pytest.fail("it did not come to pass")


def test_a_generation_that_finds_captions_worse_is_refused_and_may_be_allowed(
    bundle: Bundle, gallery: Path, store: VectorStore, captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index_folder(gallery, bundle, store)
    other = other_image_graph(bundle, tmp_path / "other")
    found: Iterator[float] = iter([80.0, 70.0, 80.0, 70.0])  # of the old and of the new one, twice
    monkeypatch.setattr("sceneseek_indexer.generation_check.recall_at_5", lambda *_: next(found))
    with pytest.raises(IndexUnavailable, match=r"fall by 10\.00 from 80\.00 to 70\.00, over 2.*--max-loss"):
        index_folder(gallery, other, store, BuildOptions(captions=captions))
    assert store.live() == first.generation
    allowed = index_folder(gallery, other, store, BuildOptions(captions=captions, max_loss=15))
    assert allowed.quality == {"before": 80.0, "after": 70.0, "captions": len(NAMES)}
    assert allowed.resumed == len(NAMES)  # what was encoded is taken up
    assert store.live() == allowed.generation


def test_quality_is_measured_by_the_answers_of_either_bundle(
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
def test_a_generation_with_a_broken_vector_does_not_go_live(
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


def test_a_search_keeps_as_many_candidates_as_a_good_recall_takes(
    bundle: Bundle, tmp_path: Path, store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = draw_gallery(tmp_path / "pictures")
    report = index_folder(pictures, bundle, store)
    first = next(info for info in store.generations() if info.name == report.generation)
    assert first.search_ef == EFFORTS[0]
    with store.writing():
        collection = store.create(replace(first, name="hard"), base=first.name)
        find = collection.nearest

        def nearest(joint: Floats, limit: int, exact: bool = False) -> Candidates:
            """As from a graph in which few candidates lead nowhere near."""
            found = find(joint, limit, exact=exact)
            lost = not exact and collection.info.search_ef < EFFORTS[2]
            return replace(found, ids=found.ids[1:]) if lost else found

        monkeypatch.setattr(collection, "nearest", nearest)
        assert inspect(collection, bundle)["recall"] == 1
        store.publish(collection)
    assert next(info for info in store.generations() if info.name == "hard").search_ef == EFFORTS[2]
    # A copy that later runs make keeps the effort.
    (pictures / NAMES[0]).rename(pictures / "moved.png")
    later = index_folder(pictures, bundle, store).generation
    assert next(info for info in store.generations() if info.name == later).search_ef == EFFORTS[2]


def test_status_rollback_and_rebuild_on_the_command_line(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    here = ("--bundle", bundle.path, "--index", f"file:{tmp_path}/index")
    assert sceneseek("index", "status", *here[2:]).stdout.startswith("nothing is indexed in file:")
    assert sceneseek("index", gallery, *here).returncode == 0
    rebuilt = sceneseek("index", "--rebuild", *here)  # all folders that the index knows
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert f"checked {len(NAMES)} vectors; approximate search finds 100.0%" in rebuilt.stdout
    listed = json.loads(sceneseek("index", "status", *here[2:], "--json").stdout)
    assert [(g["images"], g["live"]) for g in listed] == [(len(NAMES), False), (len(NAMES), True)]
    back = sceneseek("index", "rollback", *here[2:])
    assert back.returncode == 0, back.stderr
    assert [line[:4] for line in back.stdout.splitlines()] == ["live", "    "]
    for words in (("--status", "--rollback"), ("--status", gallery), ("--to", "file:x")):
        refused = sceneseek("index", *words, *here[2:])
        assert refused.returncode == 2, refused.stdout
