"""`index_folder` builds a generation from a folder: metadata, reruns, skipped files and errors."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

import sceneseek_indexer.pipeline
from sceneseek.bundle import Bundle
from sceneseek.errors import SourceError
from sceneseek.payload import point_id, relative_path
from sceneseek.store import Source, VectorStore, open_store
from sceneseek_indexer.build import BuildOptions, index_folder
from sceneseek_indexer.load import load
from sceneseek_indexer.walk import Skipped, list_images
from tests.drawing import NAMES, draw_gallery

Noise = Callable[[int, int], Image.Image]


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return open_store(f"file:{tmp_path}/index")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_gallery(tmp_path / "photos")


def paths(store: VectorStore) -> set[str]:
    collection = store.open(str(store.live()))
    try:
        return {relative_path(record.payload) for record in collection.scroll()}
    finally:
        collection.close()


def test_images_are_indexed_with_metadata(bundle: Bundle, photos: Path, store: VectorStore) -> None:
    report = index_folder(photos, bundle, store)
    assert (report.indexed, report.unchanged, report.skipped) == (len(NAMES), 0, [])
    collection = store.open(report.generation)
    (record,) = collection.retrieve([point_id("scenes/sunset.jpg")])
    payload = record.payload
    collection.close()
    assert (payload["width"], payload["height"], payload["format"], payload["path"]) == (
        320,
        240,
        "JPEG",
        "scenes/sunset.jpg",
    )
    assert payload["bytes"] == (photos / "scenes/sunset.jpg").stat().st_size
    assert collection.info.sources == (Source("", str(photos)),)


def test_second_run_encodes_and_publishes_nothing(
    bundle: Bundle, photos: Path, store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index_folder(photos, bundle, store)

    def no_encoder(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was created although no file had changed")

    monkeypatch.setattr(sceneseek_indexer.pipeline, "ImageEncoder", no_encoder)
    second = index_folder(photos, bundle, store)
    assert (second.indexed, second.unchanged, second.generation) == (0, len(NAMES), first.generation)
    assert [info.name for info in store.generations()] == [first.generation]


def test_unusual_file_names_are_indexed(bundle: Bundle, store: VectorStore, noise: Noise, tmp_path: Path) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    names = [
        "two words.png",
        "new\nline.png",
        "🐶 собака.png",
        os.fsdecode(b"caf\xe9.png"),
        "-k.png",
        "a'b\"c.png",
        "UPPER.PNG",
    ]
    for name in names:
        noise(20, 20).save(folder / name)
    report = index_folder(folder, bundle, store)
    assert report.skipped == []
    assert paths(store) == set(names)
    assert all("\n" not in line for line in report.lines())


def test_invalid_files_are_skipped_with_reason_and_valid_ones_indexed(
    bundle: Bundle, store: VectorStore, photos: Path, noise: Noise, tmp_path: Path
) -> None:
    (photos / "text.jpg").write_text("I am not a picture")
    (photos / "empty.png").touch()
    image_bytes = (photos / "scenes/sea.jpg").read_bytes()
    (photos / "truncated.jpg").write_bytes(image_bytes[: len(image_bytes) // 2])
    noise(400, 400).save(photos / "huge.png")
    os.mkfifo(photos / "pipe.jpg")
    (photos / "nowhere.jpg").symlink_to(photos / "missing.jpg")
    noise(10, 10).save(tmp_path / "outside.png")
    (photos / "outside.png").symlink_to(tmp_path / "outside.png")
    (photos / "inside.png").symlink_to(photos / "shapes/red circle.png")
    (photos / "loop.jpg").symlink_to(photos / "loop.jpg")
    (photos / ".hidden.jpg").write_text("ignored")
    (photos / "notes.txt").write_text("ignored")
    report = index_folder(photos, bundle, store, BuildOptions(max_pixels=100_000))
    assert {(s.relative, s.reason) for s in report.skipped} == {
        ("text.jpg", "not-an-image"),
        ("empty.png", "empty"),
        ("truncated.jpg", "truncated"),
        ("huge.png", "too-large"),
        ("pipe.jpg", "not-a-file"),
        ("nowhere.jpg", "dangling-link"),
        ("outside.png", "link-out"),
        ("loop.jpg", "unreadable"),
    }
    assert report.ignored == 2
    assert paths(store) == {*NAMES, "inside.png"}
    assert store.generations()[-1].skipped == Counter(s.reason for s in report.skipped)


@pytest.fixture
def unprivileged_user() -> Iterator[None]:
    """Drop root privileges: root could read every file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_unreadable_file_is_skipped(photos: Path, bundle: Bundle, request: pytest.FixtureRequest) -> None:
    file = next(f for f in list_images(photos).files if f.relative == "scenes/sea.jpg")
    (photos / file.relative).chmod(0)
    request.getfixturevalue("unprivileged_user")
    outcome = load(file, bundle.manifest.image_inputs)
    assert isinstance(outcome, Skipped)
    assert (outcome.reason, outcome.what) == ("unreadable", "cannot be read (Permission denied)")


def test_unreadable_folder_error_names_folder(photos: Path, request: pytest.FixtureRequest) -> None:
    photos.chmod(0)
    request.getfixturevalue("unprivileged_user")
    with pytest.raises(SourceError, match="photos cannot be read \\(Permission denied\\)"):
        list_images(photos)


def test_folder_without_usable_images_raises_and_leaves_no_index(
    bundle: Bundle, store: VectorStore, tmp_path: Path
) -> None:
    for name in ("empty", "texts", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts/a.txt").write_text("words")
    (tmp_path / "broken/a.jpg").write_text("words")
    for folder, message in [
        ("nowhere", "there is no folder"),
        ("texts/a.txt", "is not a folder"),
        ("empty", "is empty"),
        ("texts", "contains no images"),
        ("broken", "none of the 1 images"),
    ]:
        with pytest.raises(SourceError, match=message):
            index_folder(tmp_path / folder, bundle, store)
    assert store.live() is None
    assert store.generations() == []
