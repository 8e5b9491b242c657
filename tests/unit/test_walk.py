"""Listing the images of a folder: order, exclusions, links, mount points and errors."""

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


def test_files_are_listed_in_path_order_with_metadata(tmp_path: Path) -> None:
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
def test_folders_without_files_are_reported_as_empty(tmp_path: Path, names: list[str], empty: set[str]) -> None:
    touch(tmp_path / "x.jpg")
    for name in names:
        (tmp_path / name).mkdir(parents=True) if name.endswith("/") else touch(tmp_path / name)
    assert list_images(tmp_path, Patterns(exclude=["excluded/"])).empty == empty


SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a mount point that needs no privileges


@pytest.mark.skipif(not SHARED_MEMORY.is_mount(), reason="no shared-memory mount point")
def test_mount_points_are_reported() -> None:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as home:
        touch(Path(home) / "x.jpg")
        assert "shm" in list_images(Path("/dev"), Patterns(include=[f"{Path(home).name}/"])).mounts
        assert list_images(Path(home)).mounts == set()
        assert "" in list_images(SHARED_MEMORY, Patterns(include=[f"{Path(home).name}/"])).mounts


def test_symlinked_folder_is_not_followed(tmp_path: Path) -> None:
    touch(tmp_path / "outside" / "x.jpg")
    touch(tmp_path / "photos" / "y.jpg")
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "photos" / "round").symlink_to(tmp_path / "photos")
    assert [file.relative for file in list_images(tmp_path / "photos").files] == ["y.jpg"]


def test_nesting_may_exceed_recursion_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        # shutil.rmtree, which pytest uses to clean up, exceeds the recursion limit.
        subprocess.run(["rm", "-r", photos], check=True)


@pytest.mark.parametrize(("name", "message"), [("nowhere", "there is no folder"), ("file.jpg", "is not a folder")])
def test_missing_folder_and_file_are_rejected(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file.jpg").touch()
    with pytest.raises(SourceError, match=message):
        list_images(tmp_path / name)


def test_image_without_plugin_is_skipped_with_install_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sceneseek_indexer.walk.extensions", lambda: frozenset({".jpg"}))
    monkeypatch.setattr("sceneseek_indexer.walk.lacking_plugins", lambda: {".heic": "install it"})
    touch(tmp_path / "phone.HEIC")
    assert [(s.relative, s.reason, s.what) for s in list_images(tmp_path).skipped] == [
        ("phone.HEIC", "no-plugin", "install it")
    ]


def test_unsupported_formats_are_counted_by_extension(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.PSD", "c.psd", "d.jxl", "e.jp2", "raw/f.psd", "notes.txt", ".hidden.xcf"):
        touch(tmp_path / name)
    listing = list_images(tmp_path)
    assert [file.relative for file in listing.files] == ["a.jpg"]
    assert not listing.skipped
    report = IndexReport()
    report.ignore(listing.ignored)
    assert (report.unsupported, report.ignored) == ({".psd": 3, ".jxl": 1, ".jp2": 1}, 7)
    assert "3 .psd, 1 .jxl, 1 .jp2: not supported" in report.lines()


def test_folder_of_unsupported_formats_only_is_rejected(tmp_path: Path) -> None:
    for name in ("a.psd", "b.psd"):
        touch(tmp_path / name)
    with pytest.raises(SourceError, match=r"2 other files, 2 \.psd: not supported"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("replacement", "reason"),
    [
        ("link out", "link-out"),
        ("pipe", "not-a-file"),
        ("folder", "not-a-file"),
        ("loop", "unreadable"),
        ("", "unreadable"),
    ],
)
def test_file_replaced_after_listing_is_not_read(tmp_path: Path, replacement: str, reason: str) -> None:
    photos = tmp_path / "photos"
    for name in ("a.png", "b.png"):
        touch(photos / name)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    file, _ = list_images(photos).files
    path = photos / "a.png"
    path.unlink()
    match replacement:
        case "link out":
            path.symlink_to(tmp_path / "secret.png")
        case "loop":
            path.symlink_to("a.png")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    loaded = load(file, ())
    assert isinstance(loaded, Skipped)
    assert loaded.reason == reason
    assert content_hash(file) is None
