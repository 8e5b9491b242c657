"""A folder's images are listed in a fixed order, however the folder is made."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from sceneseek.errors import SourceError
from sceneseek_indexer.load import content_hash, load
from sceneseek_indexer.patterns import Patterns
from sceneseek_indexer.report import IndexReport
from sceneseek_indexer.walk import Skipped, list_images


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_files_are_listed_by_path_with_their_facts(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.png", "a.webp", "c/d/e.TIFF", "notes.txt", ".hidden/x.jpg"):
        touch(tmp_path / name)
    listing = list_images(tmp_path)
    assert [file.relative for file in listing.files] == ["a.webp", "b/1.png", "b/2.jpg", "c/d/e.TIFF"]
    assert [(e.relative, e.reason) for e in listing.ignored] == [(".hidden", "hidden"), ("notes.txt", "other-kind")]
    assert listing.files[0].mtime_ns == (tmp_path / "a.webp").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("names", "empty"),
    [
        (["a/"], {"a"}),
        (["a/b/c/"], {"a", "a/b", "a/b/c"}),
        (["a/.hidden", "a/.trash/x.jpg"], {"a"}),
        (["a/b/", "a/notes.txt"], {"a/b"}),
        (["a/b/excluded/x.jpg"], set()),
        (["a/x.jpg"], set()),
    ],
)
def test_folders_without_any_file_are_empty(tmp_path: Path, names: list[str], empty: set[str]) -> None:
    touch(tmp_path / "x.jpg")
    for name in names:
        (tmp_path / name).mkdir(parents=True) if name.endswith("/") else touch(tmp_path / name)
    assert list_images(tmp_path, Patterns(exclude=["excluded/"])).empty == empty


SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a mount point that needs no privilege


@pytest.mark.skipif(not SHARED_MEMORY.is_mount(), reason="there is no mount point to look at")
def test_mount_points_are_found() -> None:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as home:
        touch(Path(home) / "x.jpg")
        assert "shm" in list_images(Path("/dev"), Patterns(include=[f"{Path(home).name}/"])).mounts
        assert list_images(Path(home)).mounts == set()
        assert "" in list_images(SHARED_MEMORY, Patterns(include=[f"{Path(home).name}/"])).mounts


def test_a_linked_folder_is_not_entered(tmp_path: Path) -> None:
    touch(tmp_path / "outside" / "x.jpg")
    touch(tmp_path / "photos" / "y.jpg")
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "photos" / "round").symlink_to(tmp_path / "photos")
    assert [file.relative for file in list_images(tmp_path / "photos").files] == ["y.jpg"]


def test_a_folder_may_be_nested_deeper_than_python_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    monkeypatch.chdir(photos)
    for _ in range(1_200):
        Path("d").mkdir()
        os.chdir("d")
    Path("deep.jpg").touch()
    monkeypatch.chdir(tmp_path)
    try:
        assert [file.relative for file in list_images(photos).files] == ["d/" * 1_200 + "deep.jpg"]
    finally:
        # Python's own rmtree, which pytest tidies up with, cannot go as deep.
        subprocess.run(["rm", "-r", photos], check=True)


@pytest.mark.parametrize(("name", "said"), [("nowhere", "there is no folder"), ("file.jpg", "is not a folder")])
def test_what_is_no_folder_is_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file.jpg").touch()
    with pytest.raises(SourceError, match=said):
        list_images(tmp_path / name)


def test_an_image_whose_plugin_is_missing_is_skipped_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek_indexer.walk.extensions", lambda: frozenset({".jpg"}))
    monkeypatch.setattr("sceneseek_indexer.walk.lacking_plugins", lambda: {".heic": "install it"})
    touch(tmp_path / "phone.HEIC")
    assert [(s.relative, s.reason, s.what) for s in list_images(tmp_path).skipped] == [
        ("phone.HEIC", "no-plugin", "install it")
    ]


def test_pictures_of_formats_that_are_not_supported_are_counted_by_their_endings(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.PSD", "c.psd", "d.jxl", "e.jp2", "raw/f.psd", "notes.txt", ".hidden.xcf"):
        touch(tmp_path / name)
    listing = list_images(tmp_path)
    assert [file.relative for file in listing.files] == ["a.jpg"]
    assert not listing.skipped
    report = IndexReport()
    report.ignore(listing.ignored)
    assert (report.unsupported, report.ignored) == ({".psd": 3, ".jxl": 1, ".jp2": 1}, 7)
    assert "3 .psd, 1 .jxl, 1 .jp2: not supported" in report.lines()


def test_a_folder_of_nothing_else_says_so(tmp_path: Path) -> None:
    for name in ("a.psd", "b.psd"):
        touch(tmp_path / name)
    with pytest.raises(SourceError, match=r"2 other files, 2 \.psd: not supported"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("exchanged", "reason"),
    [
        ("link out", "link-out"),
        ("pipe", "not-a-file"),
        ("folder", "not-a-file"),
        ("loop", "unreadable"),
        ("", "unreadable"),
    ],
)
def test_what_takes_a_files_place_after_the_listing_is_not_read(tmp_path: Path, exchanged: str, reason: str) -> None:
    photos = tmp_path / "photos"
    for name in ("a.png", "b.png"):
        touch(photos / name)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    file, _ = list_images(photos).files
    place = photos / "a.png"
    place.unlink()
    match exchanged:
        case "link out":
            place.symlink_to(tmp_path / "secret.png")
        case "loop":
            place.symlink_to("a.png")
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
    loaded = load(file, ())
    assert isinstance(loaded, Skipped)
    assert loaded.reason == reason
    assert content_hash(file) is None
