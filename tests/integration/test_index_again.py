"""Repeated runs encode only new content, remove images only on request, and index several folders together."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sceneseek_indexer.pipeline
from sceneseek.bundle import Bundle
from sceneseek.errors import InvalidRequest, SourceError
from sceneseek.payload import open_source_file, point_id, relative_path
from sceneseek.store import Source, VectorStore, open_store
from sceneseek_indexer.build import BuildOptions, dry_run_folders, index_folder, index_folders
from sceneseek_indexer.patterns import Patterns
from sceneseek_indexer.source_scan import Folder
from tests.drawing import NAMES
from tests.engines import adopted

Noise = Callable[[int, int], Image.Image]


@pytest.fixture
def store(index_url: str, gallery: Path, photos: Path, tmp_path: Path) -> VectorStore:
    """A copy of the shared index, rewritten as an index of `photos`."""
    home = tmp_path / "index"
    shutil.copytree(index_url.removeprefix("file:"), home)
    return adopted(home, photos, gallery)


@pytest.fixture
def photos(gallery: Path, tmp_path: Path) -> Path:
    """A copy of the gallery with the same modification times."""
    return Path(shutil.copytree(gallery, tmp_path / "photos"))


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if an image would be decoded or encoded."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("an image was to be encoded")

    monkeypatch.setattr(sceneseek_indexer.pipeline, "ImageEncoder", fail)


def state_of(home: Path) -> dict[Path, int | None]:
    """Return all paths below a directory, with the modification times of files."""
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in home.rglob("*")}


def contents(store: VectorStore) -> dict[tuple[int, str], Any]:
    """Return the joint vectors by source and path, after checking that every id derives from them."""
    collection = store.open(str(store.live()))
    try:
        records = list(collection.scroll())
        labels = [source.label for source in collection.info.sources]
        for record in records:
            assert record.id == point_id(relative_path(record.payload), labels[record.payload["source"]])
        vectors = collection.vectors([record.id for record in records])
        return {(r.payload["source"], relative_path(r.payload)): vectors[r.id].joint for r in records}
    finally:
        collection.close()


def report_lines(store: VectorStore) -> list[dict[str, Any]]:
    text = Path(f"{store.url.removeprefix('file:')}/reports/{store.live()}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_only_changed_files_are_encoded(bundle: Bundle, photos: Path, store: VectorStore, noise: Noise) -> None:
    noise(90, 60).save(photos / "new.png")
    noise(91, 61).save(photos / "shapes/red circle.png")
    report = index_folder(photos, bundle, store)
    assert (report.indexed, report.unchanged, report.removed) == (2, len(NAMES) - 1, 0)
    assert {path for _, path in contents(store)} == {*NAMES, "new.png"}


def test_renamed_touched_and_copied_images_keep_their_vectors_without_being_decoded(
    bundle: Bundle, photos: Path, store: VectorStore, no_encoder: None
) -> None:
    before = contents(store)
    (photos / "scenes").rename(photos / "views")
    os.utime(photos / "shapes/red circle.png")
    shutil.copy(photos / "shapes/blue square.png", photos / "square.png")
    report = index_folder(photos, bundle, store)
    assert (report.renamed, report.touched, report.copied, report.indexed, report.gone) == (7, 1, 1, 0, 0)
    after = contents(store)
    expected = {(0, path.replace("scenes/", "views/")): vector for (_, path), vector in before.items()}
    expected[0, "square.png"] = before[0, "shapes/blue square.png"]
    assert after.keys() == expected.keys()
    for at, vector in expected.items():
        np.testing.assert_allclose(after[at], vector, atol=1e-6)
    again = index_folder(photos, bundle, store)
    assert (again.unchanged, again.generation) == (len(NAMES) + 1, report.generation)


@pytest.mark.parametrize("emptied", ["unmounted", "emptied", "without images"])
def test_prune_keeps_images_of_a_folder_that_may_be_unmounted(
    bundle: Bundle, photos: Path, store: VectorStore, no_encoder: None, emptied: str
) -> None:
    folder, mounts = photos / "scenes", {}
    if emptied == "unmounted":
        (manifest,) = Path(f"{store.url.removeprefix('file:')}/generations").glob("*/generation.json")
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "mounts": (mounts := {"0": ["scenes"]})}))
        shutil.rmtree(folder)
    else:
        for file in folder.rglob("*.*"):
            file.unlink()
        if emptied == "without images":
            (folder / "notes.txt").write_text("a file of another kind")
    affected = sum(name.startswith("scenes/") for name in NAMES)
    report = index_folder(photos, bundle, store, BuildOptions(prune=True))
    if emptied == "without images":
        assert (report.removed, report.gone, report.away) == (affected, 0, [])
        return
    assert (report.removed, report.gone, len(contents(store))) == (0, affected, len(NAMES))
    assert "folders that are empty or not mounted" in "\n".join(report.lines())
    assert dry_run_folders([Folder(photos)], bundle, store, BuildOptions(prune=True)).away == report.away
    (photos / "copy.png").write_bytes((photos / "shapes/red circle.png").read_bytes())
    index_folder(photos, bundle, store, BuildOptions(prune=True))
    assert store.generations()[-1].mounts == mounts
    accepted = index_folder(photos, bundle, store, BuildOptions(prune=True, remove_any=True))
    assert (accepted.removed, accepted.gone, store.generations()[-1].mounts) == (affected, 0, {})


@pytest.fixture(scope="module")
def many(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of thirty tiny images and their index beside it. Read only."""
    home = tmp_path_factory.mktemp("many")
    (home / "photos").mkdir()
    for number in range(30):
        Image.new("RGB", (8, 8), (8 * number, 0, 0)).save(home / "photos" / f"{number}.png")
    index_folder(home / "photos", bundle, open_store(f"file:{home}/index"))
    return home


@pytest.mark.parametrize(
    ("deleted", "options", "removed"),
    [
        (20, BuildOptions(prune=True), 20),
        (21, BuildOptions(prune=True), None),
        (21, BuildOptions(prune=True, max_removed=0.9), 21),
        (21, BuildOptions(prune=True, remove_any=True), 21),
        (21, BuildOptions(), 0),
    ],
)
def test_prune_of_a_large_share_requires_confirmation(
    bundle: Bundle, many: Path, tmp_path: Path, deleted: int, options: BuildOptions, removed: int | None
) -> None:
    shutil.copytree(many, tmp_path / "many")
    photos = tmp_path / "many" / "photos"
    store = adopted(tmp_path / "many" / "index", photos, many / "photos")
    for number in range(deleted):
        (photos / f"{number}.png").unlink()
    if removed is not None:
        assert index_folder(photos, bundle, store, options).removed == removed
        return
    for run in (index_folders, dry_run_folders):
        with pytest.raises(SourceError, match=rf"would remove {deleted} of the 30 images of .*--yes"):
            run([Folder(photos)], bundle, store, options)
    assert len(contents(store)) == 30


@pytest.mark.parametrize("change", ["rotated", "copied over", "permissions", "linked"])
def test_file_with_unchanged_size_and_mtime_is_read_if_its_ctime_changed(
    bundle: Bundle, photos: Path, store: VectorStore, change: str
) -> None:
    file = photos / "scenes/house.bmp"
    before = file.stat()
    if change == "rotated":
        with Image.open(file) as image:
            rotated = image.rotate(180)
        rotated.save(file)
    elif change == "copied over":
        shutil.copy(file, photos / "aside")
        (photos / "aside").replace(file)
    elif change == "permissions":
        file.chmod(0o600)
    else:
        (photos.parent / "link").hardlink_to(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    report = index_folder(photos, bundle, store)
    changed = change == "rotated"
    assert (report.indexed, report.touched, report.unchanged) == (changed, not changed, len(NAMES) - 1)
    assert index_folder(photos, bundle, store).unchanged == len(NAMES)


def test_swapped_images_swap_their_vectors(bundle: Bundle, photos: Path, store: VectorStore, no_encoder: None) -> None:
    one, other = photos / "shapes/red circle.png", photos / "shapes/blue square.png"
    before = contents(store)
    aside = photos / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    index_folder(photos, bundle, store)
    after = contents(store)
    np.testing.assert_allclose(after[0, "shapes/red circle.png"], before[0, "shapes/blue square.png"], atol=1e-6)
    np.testing.assert_allclose(after[0, "shapes/blue square.png"], before[0, "shapes/red circle.png"], atol=1e-6)


def test_identical_images_are_encoded_once(bundle: Bundle, tmp_path: Path, noise: Noise) -> None:
    folder = tmp_path / "repeated"
    folder.mkdir()
    noise(30, 30).save(folder / "a.png")
    shutil.copy(folder / "a.png", folder / "b.png")
    store = open_store(f"file:{tmp_path}/new")
    report = index_folder(folder, bundle, store)
    assert (report.indexed, report.copied) == (1, 1)
    assert {path for _, path in contents(store)} == {"a.png", "b.png"}


def test_deleted_images_stay_in_the_index_until_pruned(bundle: Bundle, photos: Path, store: VectorStore) -> None:
    (photos / "scenes/sea.jpg").unlink()
    kept = index_folder(photos, bundle, store)
    assert (kept.gone, kept.removed, len(contents(store))) == (1, 0, len(NAMES))
    assert "gone 1, deleted or excluded: pass --prune to remove them from the index" in kept.lines()
    pruned = index_folder(photos, bundle, store, BuildOptions(prune=True))
    assert (pruned.gone, pruned.removed, len(contents(store))) == (0, 1, len(NAMES) - 1)
    assert [line["path"] for line in report_lines(store) if line.get("outcome") == "removed"] == ["scenes/sea.jpg"]


@pytest.mark.parametrize("left", ["missing", "empty"])
def test_missing_or_empty_folder_raises_and_keeps_the_index(
    bundle: Bundle, photos: Path, store: VectorStore, left: str
) -> None:
    shutil.rmtree(photos)
    if left == "empty":
        photos.mkdir()
    before = store.live()
    with pytest.raises(SourceError, match=r"there is no folder|is empty"):
        index_folder(photos, bundle, store, BuildOptions(prune=True))
    assert store.live() == before


def test_file_with_invalid_new_content_is_removed_from_the_index(
    bundle: Bundle, photos: Path, store: VectorStore
) -> None:
    (photos / "scenes/sea.jpg").write_text("not a picture any more")
    report = index_folder(photos, bundle, store)
    assert [(entry.relative, entry.reason) for entry in report.skipped] == [("scenes/sea.jpg", "not-an-image")]
    assert (0, "scenes/sea.jpg") not in contents(store)


def test_patterns_select_files_and_excluded_files_are_counted(bundle: Bundle, photos: Path, store: VectorStore) -> None:
    options = BuildOptions(patterns=Patterns(["*.png", "*.jpg"], ["scenes/*", "!scenes/sea.jpg"]), prune=True)
    report = index_folder(photos, bundle, store, options)
    assert {path for _, path in contents(store)} == {*(n for n in NAMES if n.endswith("png")), "scenes/sea.jpg"}
    assert (report.removed, report.excluded) == (6, 6)
    assert {line.get("outcome") for line in report_lines(store)} == {None, "removed", "unchanged"}


@pytest.mark.parametrize("marked", ["shapes/.nomedia", ".sceneseekignore", "shapes -> #recycle"])
def test_newly_excluded_images_stay_in_the_index_until_pruned(
    bundle: Bundle, photos: Path, store: VectorStore, marked: str
) -> None:
    name, arrow, excluded = marked.partition(" -> ")
    if arrow:
        (photos / name).rename(photos / excluded)
    else:
        (photos / name).write_text("" if "/" in name else "shapes/\n")
    kept = index_folder(photos, bundle, store, BuildOptions(report=photos.parent / "report"))
    assert (kept.gone, kept.excluded, len(contents(store))) == (5, 1, len(NAMES))
    lines = [json.loads(line) for line in (photos.parent / "report").read_text().splitlines()]
    reasons = {line.get("reason") for line in lines if line.get("outcome") == "gone"}
    assert reasons == ({None} if arrow else {"no-media"} if "/" in name else {"excluded"})
    pruned = index_folder(photos, bundle, store, BuildOptions(prune=True))
    assert (pruned.gone, pruned.removed, len(contents(store))) == (0, 5, len(NAMES) - 5)


def test_dry_run_reports_the_changes_and_writes_nothing(
    bundle: Bundle, photos: Path, store: VectorStore, noise: Noise
) -> None:
    noise(90, 60).save(photos / "new.png")
    (photos / "shapes/red circle.png").rename(photos / "circle.png")
    (photos / "scenes/sea.jpg").unlink()
    home = Path(store.url.removeprefix("file:"))
    held = store.open(str(store.live()))  # as a server does
    before = state_of(home)
    options = BuildOptions(prune=True)
    dry_run = dry_run_folders([Folder(photos)], bundle, store, options)
    assert state_of(home) == before
    held.close()
    assert dry_run.planned == [
        {"outcome": "indexed", "source": 0, "path": "new.png"},
        {"outcome": "renamed", "source": 0, "path": "circle.png", "from": "shapes/red circle.png"},
        {"outcome": "removed", "source": 0, "path": "scenes/sea.jpg"},
    ]
    report = index_folder(photos, bundle, store, options)
    assert dry_run.counts() == report.counts()


def test_folders_share_an_index_with_distinct_ids(
    bundle: Bundle, photos: Path, store: VectorStore, tmp_path: Path, noise: Noise
) -> None:
    other = Path(shutil.copytree(photos / "shapes", tmp_path / "other" / "shapes"))
    noise(30, 30).save(other / "own.png")
    report = index_folder(other, bundle, store)
    assert (report.indexed, report.copied) == (1, 5)
    info = store.generations()[-1]
    assert info.sources == (Source("", str(photos)), Source("shapes", str(other)))
    vectors = contents(store)
    assert len(vectors) == len(NAMES) + 6
    np.testing.assert_allclose(vectors[1, "red circle.png"], vectors[0, "shapes/red circle.png"], atol=1e-6)
    collection = store.open(info.name)
    (record,) = collection.retrieve([point_id("own.png", "shapes")])
    collection.close()
    with open_source_file(info, record.payload).content as file:
        assert os.path.samestat(os.fstat(file.fileno()), (other / "own.png").stat())

    (other / "own.png").rename(photos / "mine.png")
    moved = index_folders([Folder(other), Folder(photos)], bundle, store)
    assert (moved.renamed, moved.indexed, moved.unchanged) == (1, 0, len(NAMES) + 5)
    third = Path(shutil.copytree(photos / "shapes", tmp_path / "third" / "shapes"))
    index_folders([Folder(third)], bundle, store)
    assert [source.label for source in store.generations()[-1].sources] == ["", "shapes", "shapes-2"]


def test_moved_folder_keeps_its_vectors_when_the_old_path_is_forgotten(
    bundle: Bundle, photos: Path, store: VectorStore, tmp_path: Path, no_encoder: None
) -> None:
    moved = photos.rename(tmp_path / "archive")
    report = index_folders([Folder(moved)], bundle, store, BuildOptions(forget=(photos,)))
    assert (report.renamed, report.removed) == (len(NAMES), 0)
    assert contents(store).keys() == {(1, name) for name in NAMES}


def test_conflicting_folders_are_rejected(bundle: Bundle, photos: Path, store: VectorStore, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="overlap"):
        index_folder(photos / "shapes", bundle, store)
    with pytest.raises(InvalidRequest, match="has no label in the index"):
        index_folders([Folder(photos, "holidays")], bundle, store)
    with pytest.raises(SourceError, match="is not in the index"):
        index_folders([Folder(photos)], bundle, store, BuildOptions(forget=(tmp_path,)))


def test_changed_image_graph_requires_all_folders(
    bundle: Bundle, photos: Path, store: VectorStore, tmp_path: Path, noise: Noise
) -> None:
    (manifest,) = Path(store.url.removeprefix("file:")).glob("generations/*/generation.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "image_fingerprint": "other"}))
    other = tmp_path / "other"
    other.mkdir()
    noise(30, 30).save(other / "own.png")
    for attempt in (index_folders, dry_run_folders):
        with pytest.raises(SourceError, match="--forget"):
            attempt([Folder(other)], bundle, store)
    report = index_folders([Folder(photos), Folder(other)], bundle, store)
    assert report.indexed == len(NAMES) + 1


def test_report_lists_every_file_and_ends_with_the_counts(
    bundle: Bundle, photos: Path, store: VectorStore, tmp_path: Path, noise: Noise
) -> None:
    noise(90, 60).save(photos / "new.png")
    (photos / "shapes/red circle.png").rename(photos / "circle.png")
    (photos / "scenes/sea.jpg").unlink()
    (photos / "bad.jpg").write_text("words")
    (photos / "notes.txt").write_text("words")
    report = index_folder(photos, bundle, store)
    first, *files, last = report_lines(store)
    assert (first["kind"], first["generation"], first["resumed"]) == ("run", report.generation, False)
    assert first["sources"] == [{"label": "", "folder": str(photos)}]
    assert (last["kind"], last["counts"]) == ("end", report.counts())
    outcomes = {line["path"]: line["outcome"] for line in files}
    assert len(outcomes) == len(files)
    others = {"new.png": "indexed", "circle.png": "renamed", "scenes/sea.jpg": "gone", "bad.jpg": "skipped"}
    others["notes.txt"] = "ignored"
    moved = "shapes/red circle.png"
    assert outcomes == {name: "unchanged" for name in NAMES if name != moved} | others
    (renamed,) = (line for line in files if line["outcome"] == "renamed")
    assert (renamed["from"], renamed["id"]) == (moved, point_id("circle.png"))
    assert all("sha256" in line for line in files if line["outcome"] not in ("skipped", "ignored"))

    own = tmp_path / "own.jsonl"
    index_folder(photos, bundle, store, BuildOptions(report=own))
    index_folder(photos, bundle, store, BuildOptions(report=own))
    assert [json.loads(line)["kind"] for line in own.read_text().splitlines()].count("end") == 2


def test_reports_are_removed_with_their_generations(
    bundle: Bundle, photos: Path, store: VectorStore, noise: Noise
) -> None:
    for side in (30, 40, 50):
        noise(side, side).save(photos / "new.png")
        index_folder(photos, bundle, store)
    home = Path(store.url.removeprefix("file:"))
    assert {path.stem for path in (home / "reports").iterdir()} == {info.name for info in store.generations()}
