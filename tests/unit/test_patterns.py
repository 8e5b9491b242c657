"""Include and exclude patterns follow the rules of .gitignore."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sceneseek.errors import InvalidRequest, SourceError
from sceneseek_indexer.patterns import Patterns
from sceneseek_indexer.report import IndexReport
from sceneseek_indexer.walk import list_images


@pytest.mark.parametrize(
    ("include", "exclude", "path", "wanted"),
    [
        ([], [], "a/b.png", True),
        (["*.png"], [], "a/b.png", True),
        (["*.png"], [], "a/b.jpg", False),
        (["2023/"], [], "x/2023/b.jpg", True),
        (["/2023/"], [], "x/2023/b.jpg", False),
        ([], ["raw/"], "raw/b.jpg", False),
        ([], ["*.jpg", "!keep.jpg"], "keep.jpg", True),
        (["*.jpg"], ["thumb*"], "thumb.jpg", False),
        ([], ["caf*"], "caf\udce9.jpg", False),
        ([], ["a?b.jpg"], "a\nb.jpg", False),
        ([], ["Bücher/"], "Bu\u0308cher/b.jpg", False),
        ([], ["Bu\u0308cher/"], "Bücher/b.jpg", False),
        (["zürich*"], [], "zu\u0308rich.jpg", True),
        ([], ["b?cher.jpg"], "bu\u0308cher.jpg", False),
        ([], [], "a/@eaDir/", False),
        ([], ["!@eaDir/"], "a/@eaDir/", True),
        (["@eaDir/"], [], "a/@eaDir/", False),
        (["*.png"], [], "a/", True),  # a folder may contain such files
    ],
)
def test_last_matching_pattern_wins(include: list[str], exclude: list[str], path: str, wanted: bool) -> None:
    assert (Patterns(include, exclude).exclusion(path) is None) is wanted


@pytest.mark.parametrize("pattern", ["", "!", "\\", "#", "/", "["])
def test_invalid_pattern_is_rejected(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a pattern"):
        Patterns(exclude=[pattern])


SYSTEM_FOLDERS = [
    *("@eaDir", "@EADIR", "photos/@eaDir", "#recycle", "#snapshot", "@tmp", "@Recycle", "@Recently-Snapshot"),
    *("@__thumb", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "FOUND.000", "System Volume Information", "lost+found"),
    *("LOST.DIR", "@snapshots", "~snapshot", "@GMT-2026.05.31-10.00.00", "__MACOSX", "My.photoslibrary/resources"),
    *("a/Old.photolibrary/Thumbnails", "Catalog.lrdata", "THMBNL", "appdata_oc1x/preview", "files_trashbin"),
]
HIDDEN_FOLDERS = [
    ".snapshots",
    ".snapshot",
    ".zfs",
    ".Trash-1000",
    ".Trashes",
    ".thumbnails",
    ".@__thumb",
    ".stversions",
]
USER_FOLDERS = ["eaDir", "recycle", "2024 #recycled", "snapshot", "Thumbnails", "lost", "My.photoslibrary/originals"]


@pytest.mark.parametrize("folder", [*SYSTEM_FOLDERS, *HIDDEN_FOLDERS, *USER_FOLDERS])
def test_system_folders_are_excluded_by_default(tmp_path: Path, folder: str) -> None:
    for name in ("a.jpg", f"{folder}/b.jpg", f"{folder}/deep/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    below = [f"{folder}/b.jpg", f"{folder}/deep/c.jpg"]
    listed = {file.relative for file in list_images(tmp_path).files}
    assert listed == {"a.jpg", *(below if folder in USER_FOLDERS else ())}
    listed = {file.relative for file in list_images(tmp_path, Patterns(defaults=False)).files}
    assert listed == {"a.jpg", *(() if folder in HIDDEN_FOLDERS else below)}


@pytest.mark.parametrize(
    ("ignore_files", "excluded"),
    [
        ({"": "b/\n"}, {"a/b/1.jpg"}),
        ({"": "/b/\n"}, set()),
        ({"": "# all of it\n\n*.jpg\n!2.jpg\n"}, {"1.jpg", "a/1.jpg", "a/b/1.jpg", "a/c/1.jpg", "a/B\u00fccher/1.jpg"}),
        ({"a/": "1.jpg\n"}, {"a/1.jpg", "a/b/1.jpg", "a/c/1.jpg", "a/B\u00fccher/1.jpg"}),
        ({"a/": "/1.jpg\n"}, {"a/1.jpg"}),
        ({"": "1.jpg\n", "a/b/": "!1.jpg\n"}, {"1.jpg", "a/1.jpg", "a/c/1.jpg", "a/B\u00fccher/1.jpg"}),
        ({"": "b/\n", "a/b/": "!*\n"}, {"a/b/1.jpg"}),  # nothing below an excluded folder can be included
        ({"": "/a/**/1.jpg"}, {"a/1.jpg", "a/b/1.jpg", "a/c/1.jpg", "a/B\u00fccher/1.jpg"}),
        ({"": "\ufeffb/\r\nc/\r\n"}, {"a/b/1.jpg", "a/c/1.jpg"}),  # as Windows editors write
        ({"a/": "Bu\u0308cher/\n"}, {"a/B\u00fccher/1.jpg"}),
        ({"": "!@eaDir/\n"}, {"never"}),  # overrides a default exclusion
        ({"": ""}, set()),
    ],
)
def test_ignore_files_follow_gitignore_rules(tmp_path: Path, ignore_files: dict[str, str], excluded: set[str]) -> None:
    every = {"1.jpg", "2.jpg", "a/1.jpg", "a/b/1.jpg", "a/c/1.jpg", "a/B\u00fccher/1.jpg", "@eaDir/3.jpg"}
    for name in every:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for folder, content in ignore_files.items():
        (tmp_path / folder / ".sceneseekignore").write_bytes(content.encode())
    by_default = set() if excluded == {"never"} else {"@eaDir/3.jpg"}
    assert {file.relative for file in list_images(tmp_path).files} == every - excluded - by_default


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("a\n!\n"), r"/a/\.sceneseekignore:2: '!' is not a pattern"),
        (lambda path: path.mkdir(), "not a file"),
        (os.mkfifo, "not a file"),
        (lambda path: path.symlink_to("/etc/passwd"), "cannot be read"),
        (lambda path: path.write_bytes(bytes(2**20 + 1)), "larger than 1,048,576 bytes"),
    ],
    ids=["invalid pattern", "directory", "FIFO", "symlink", "too large"],
)
def test_invalid_ignore_file_raises_error(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").touch()
    make(tmp_path / "a" / ".sceneseekignore")
    with pytest.raises(SourceError, match=message):
        list_images(tmp_path)


def test_default_exclusions_and_linked_folders_are_reported(tmp_path: Path) -> None:
    for name in ("a.jpg", "@eaDir/b.jpg", "c/@eaDir/d.jpg", "sent/.nomedia", "sent/deep/e.jpg", "raw/f.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "album").symlink_to(tmp_path / "c")
    (tmp_path / "round").symlink_to("round")
    listing = list_images(tmp_path, Patterns(exclude=["raw/"]))
    assert [file.relative for file in listing.files] == ["a.jpg"]
    report = IndexReport()
    report.ignore(listing.ignored)
    assert (report.excluded, report.ignored, report.linked_folders) == (4, 1, ["album"])
    assert "excluded by default: 2 @eaDir, 1 .nomedia (see --no-default-excludes)" in report.lines()
    assert "links to folders, not followed: album; index such a folder by its own path" in report.lines()
    listing = list_images(tmp_path, Patterns(defaults=False))
    assert len(listing.files) == 5


def test_root_folder_with_nomedia_file_is_rejected(tmp_path: Path) -> None:
    for name in ("a.jpg", ".nomedia"):
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"it contains \.nomedia: .*--no-default-excludes"):
        list_images(tmp_path)
    assert len(list_images(tmp_path, Patterns(defaults=False)).files) == 1


def test_excluded_folder_is_not_entered_and_reported_once(tmp_path: Path) -> None:
    for name in ("keep/a.jpg", "raw/b.jpg", "raw/deep/c.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listing = list_images(tmp_path, Patterns(exclude=["raw/"]))
    assert [file.relative for file in listing.files] == ["keep/a.jpg"]
    assert [(e.relative, e.reason) for e in listing.ignored] == [("notes.txt", "other-kind"), ("raw", "excluded")]
    with pytest.raises(SourceError, match="patterns exclude all images"):
        list_images(tmp_path, Patterns(include=["*.png"]))
