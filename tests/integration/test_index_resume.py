"""A killed, stopped or failed run is resumed without encoding the written images again."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sceneseek.bundle import Bundle
from sceneseek.errors import IndexUnavailable, SourceError, UnfitGeneration
from sceneseek.store import VectorStore, open_store
from sceneseek.store.edge import EdgeStore
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek_indexer.build import BuildOptions, index_folder, index_folders
from sceneseek_indexer.source_scan import Folder
from sceneseek_indexer.writing import Writing
from tests.drawing import NAMES, draw_gallery, scenery
from tests.played_qdrant import PlayedQdrant, drop
from tests.ray_cluster import indexing

Noise = Callable[[int, int], Image.Image]
OPTIONS = BuildOptions("cpu", workers=1, batch=2)


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return open_store(f"file:{tmp_path}/index")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_gallery(tmp_path / "photos")


class Stopped(BaseException):
    """Stands in for the exception of a signal."""


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """`stop_after("add", 3)` makes the third call of `Writing.add` raise `Stopped` after its work."""

    def patch(method: str, after: int) -> None:
        original, calls = getattr(Writing, method), [0]

        def counted(*arguments: Any) -> None:
            original(*arguments)
            calls[0] += 1
            if calls[0] == after:
                raise Stopped

        monkeypatch.setattr(Writing, method, counted)

    return patch


def lines(store: VectorStore) -> list[dict[str, Any]]:
    (file,) = Path(f"{store.url.removeprefix('file:')}/reports").glob(f"{store.live()}*")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_resumed_run_reports_every_outcome(
    bundle: Bundle, store: VectorStore, photos: Path, stop_after: Callable[[str, int], None]
) -> None:
    stop_after("add", 3)
    with pytest.raises(Stopped):
        index_folder(photos, bundle, store, OPTIONS)
    assert store.live() is None
    (unfinished,) = store.unfinished()
    report = index_folder(photos, bundle, store, OPTIONS)
    assert (report.generation, report.indexed, report.resumed) == (unfinished.name, len(NAMES), 6)
    assert "resumed an interrupted run, which had done 6 of them" in report.lines()
    entries = lines(store)
    assert Counter(line["kind"] for line in entries) == {"run": 2, "end": 1, "file": 6 + len(NAMES)}
    second = max(i for i, line in enumerate(entries) if line["kind"] == "run")
    assert entries[second]["resumed"]
    assert [line["outcome"] for line in entries[second + 1 : -1]] == ["indexed"] * len(NAMES)


def test_resumed_run_completes_a_truncated_report(
    bundle: Bundle, store: VectorStore, photos: Path, stop_after: Callable[[str, int], None]
) -> None:
    stop_after("_upsert", 2)
    with pytest.raises(Stopped):
        index_folder(photos, bundle, store, OPTIONS)
    (file,) = Path(f"{store.url.removeprefix('file:')}/reports").iterdir()
    with file.open("a") as torn:
        torn.write('{"kind": "fi')
    report = index_folder(photos, bundle, store, OPTIONS)
    assert (report.indexed, report.resumed) == (len(NAMES), 4)
    assert lines(store)[-1]["counts"]["indexed"] == len(NAMES)


def test_run_after_a_kill_encodes_only_unwritten_images(bundle: Bundle, tmp_path: Path) -> None:
    many, photos = 200, tmp_path / "photos"
    photos.mkdir()
    for number in range(many):
        scenery(number).save(photos / f"{number}.png")
    arguments = (
        photos,
        "--bundle",
        bundle.path,
        "--index",
        f"file:{tmp_path}/index",
        "--device",
        "cpu",
        "--workers",
        1,
    )
    with indexing(*arguments, home=tmp_path) as run:
        run.until_indexed(many // 4)
        run.process.kill()
        run.process.wait()
        written = run.indexed()
    with indexing(*arguments, home=tmp_path) as run:
        result = run.result()
    assert (result["indexed"], result["resumed"] >= written) == (many, True)
    encoded = result["indexed"] - result["resumed"]
    assert encoded <= many - written, "more than what was in flight"


def test_outcomes_other_than_indexed_survive_an_interruption(
    bundle: Bundle, store: VectorStore, photos: Path, stop_after: Callable[[str, int], None], noise: Noise
) -> None:
    index_folder(photos, bundle, store, OPTIONS)
    (photos / "scenes/sea.jpg").rename(photos / "ocean.jpg")
    (photos / "scenes/house.bmp").unlink()
    for side in (20, 30, 40, 50):
        noise(side, side).save(photos / f"new{side}.png")
    stop_after("add", 1)
    with pytest.raises(Stopped):
        index_folder(photos, bundle, store, BuildOptions("cpu", batch=2, prune=True))
    report = index_folder(photos, bundle, store, BuildOptions("cpu", batch=2, prune=True))
    assert (report.renamed, report.removed, report.indexed) == (1, 1, 4)
    assert report.unchanged == len(NAMES) - 2
    assert report.resumed == 4
    entries = lines(store)
    second = max(i for i, line in enumerate(entries) if line["kind"] == "run")
    outcomes = {line["path"]: line["outcome"] for line in entries[second + 1 : -1]}
    assert (outcomes["ocean.jpg"], outcomes["scenes/house.bmp"]) == ("renamed", "removed")


def test_run_after_too_many_skipped_files_reuses_encoded_images(
    bundle: Bundle, store: VectorStore, photos: Path
) -> None:
    for i in range(150):
        (photos / f"z{i}.jpg").write_text("words")
    with pytest.raises(SourceError, match="--max-skipped"):
        index_folder(photos, bundle, store, OPTIONS)
    assert store.live() is None
    report = index_folder(photos, bundle, store, BuildOptions("cpu", max_skipped=1.0))
    assert report.resumed > 0
    assert (report.indexed, len(report.skipped)) == (len(NAMES), 150)


def test_failed_run_leaves_the_live_generation_unchanged(bundle: Bundle, store: VectorStore, photos: Path) -> None:
    first = index_folder(photos, bundle, store)
    for i in range(150):
        (photos / f"bad{i}.jpg").write_text("words")
    with pytest.raises(SourceError, match="--max-skipped"):
        index_folder(photos, bundle, store)
    assert (store.live(), store.unfinished()) == (first.generation, [])
    assert [info.name for info in store.generations()] == [first.generation]


def test_run_with_other_folders_starts_over(
    bundle: Bundle,
    store: VectorStore,
    photos: Path,
    stop_after: Callable[[str, int], None],
    tmp_path: Path,
    noise: Noise,
) -> None:
    stop_after("add", 2)
    with pytest.raises(Stopped):
        index_folder(photos, bundle, store, OPTIONS)
    other = tmp_path / "other"
    other.mkdir()
    noise(20, 20).save(other / "one.png")
    report = index_folders([Folder(photos), Folder(other)], bundle, store, OPTIONS)
    assert (report.resumed, report.indexed) == (0, len(NAMES) + 1)
    assert store.unfinished() == []


def test_damaged_unfinished_generation_is_rebuilt(
    bundle: Bundle, store: VectorStore, photos: Path, stop_after: Callable[[str, int], None], tmp_path: Path
) -> None:
    stop_after("add", 2)
    with pytest.raises(Stopped):
        index_folder(photos, bundle, store, OPTIONS)
    for file in tmp_path.glob("index/generations/*/shard/**/*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    report = index_folder(photos, bundle, store, OPTIONS)
    assert (report.resumed, report.indexed) == (0, len(NAMES))


def test_concurrent_run_waits_and_finds_nothing_to_do(bundle: Bundle, store: VectorStore, photos: Path) -> None:
    reports = []

    def run() -> None:
        reports.append(index_folder(photos, bundle, open_store(store.url), OPTIONS))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(r.indexed, r.unchanged) for r in reports] == [(len(NAMES), 0), (0, len(NAMES))]
    assert {r.generation for r in reports} == {store.live()}


def test_images_are_encoded_once_despite_repeated_server_failures(
    bundle: Bundle, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.01)
    monkeypatch.setattr("sceneseek.store.qdrant.lease.FREE_AFTER", 0.1)
    monkeypatch.setattr("sceneseek.store.qdrant.lease._POLL_SECONDS", 0.02)
    encoded, add = [0], Writing.add

    def counted(writing: Writing, images: Any, vectors: Any) -> None:
        add(writing, images, vectors)
        encoded[0] += len(images)

    monkeypatch.setattr(Writing, "add", counted)
    points = "PUT /collections/sceneseek-images-[^l][^/]*/points$"
    with PlayedQdrant().serving() as played:
        store = QdrantStore(played.url, QdrantSettings(prefer_grpc="no", patience=0.0))
        for request_pattern in (points, "PATCH", "/points/count", "/points/query", "POST /collections/aliases"):
            seen = len(played.seen)

            def drop_matching(handler: Any, request_pattern: str = request_pattern, seen: int = seen) -> None:
                written = sum(bool(re.match(points, request)) for request in played.seen[seen:])
                if written > 2 if request_pattern == points else re.search(request_pattern, played.seen[-1]):
                    drop(handler)
                else:
                    handler.answered()

            played.fail_always(drop_matching)
            with pytest.raises(IndexUnavailable):
                index_folder(photos, bundle, store, OPTIONS)
            played.heal()
            assert (store.live(), len(store.unfinished())) == (None, 1)
        report = index_folder(photos, bundle, store, OPTIONS)
        assert (report.indexed, report.resumed, store.live()) == (len(NAMES), len(NAMES), report.generation)
    assert encoded == [len(NAMES)]


def test_run_without_wait_raises_while_the_index_is_being_written(
    bundle: Bundle, store: VectorStore, photos: Path
) -> None:
    with (
        open_store(store.url).writing(),
        pytest.raises(IndexUnavailable, match="being written by process"),
    ):
        index_folder(photos, bundle, store, replace(OPTIONS, wait=False))
    assert (store.live(), store.unfinished()) == (None, [])


def test_generation_that_fails_its_check_is_discarded(
    bundle: Bundle, store: VectorStore, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Writing) -> None:
        raise UnfitGeneration("the count is wrong")

    monkeypatch.setattr(Writing, "check", fails)
    with pytest.raises(UnfitGeneration):
        index_folder(photos, bundle, store, OPTIONS)
    assert (store.live(), store.unfinished()) == (None, [])


def test_failure_after_the_alias_switch_keeps_the_new_generation(
    bundle: Bundle, store: EdgeStore, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(store, "_remove_if_free", fails)
    index_folder(photos, bundle, store, OPTIONS)
    (photos / "scenes/sea.jpg").rename(photos / "ocean.jpg")
    index_folder(photos, bundle, store, OPTIONS)
    (photos / "ocean.jpg").rename(photos / "sea.jpg")
    with pytest.raises(OSError, match="no room"):
        index_folder(photos, bundle, store, OPTIONS)
    collection = store.open(str(store.live()))
    assert collection.count() == len(NAMES)
    collection.close()
