"""Patterns read as those of a .gitignore."""

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
def test_the_last_pattern_that_matches_decides(include: list[str], exclude: list[str], path: str, wanted: bool) -> None:
    assert (Patterns(include, exclude).exclusion(path) is None) is wanted


@pytest.mark.parametrize("pattern", ["", "!", "\\", "#", "/", "["])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="is no pattern"):
        Patterns(exclude=[pattern])


NOT_THE_USERS = [
    *("@eaDir", "@EADIR", "photos/@eaDir", "#recycle", "#snapshot", "@tmp", "@Recycle", "@Recently-Snapshot"),
    *("@__thumb", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "FOUND.000", "System Volume Information", "lost+found"),
    *("LOST.DIR", "@snapshots", "~snapshot", "@GMT-2026.05.31-10.00.00", "__MACOSX", "My.photoslibrary/resources"),
    *("a/Old.photolibrary/Thumbnails", "Catalog.lrdata", "THMBNL", "appdata_oc1x/preview", "files_trashbin"),
]
HIDDEN = [".snapshots", ".snapshot", ".zfs", ".Trash-1000", ".Trashes", ".thumbnails", ".@__thumb", ".stversions"]
THE_USERS = ["eaDir", "recycle", "2024 #recycled", "snapshot", "Thumbnails", "lost", "My.photoslibrary/originals"]


@pytest.mark.parametrize("folder", [*NOT_THE_USERS, *HIDDEN, *THE_USERS])
def test_thumbnails_deleted_files_and_snapshots_are_excluded_by_default(tmp_path: Path, folder: str) -> None:
    for name in ("a.jpg", f"{folder}/b.jpg", f"{folder}/deep/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    below = [f"{folder}/b.jpg", f"{folder}/deep/c.jpg"]
    found = {file.relative for file in list_images(tmp_path).files}
    assert found == {"a.jpg", *(below if folder in THE_USERS else ())}
    found = {file.relative for file in list_images(tmp_path, Patterns(defaults=False)).files}
    assert found == {"a.jpg", *(() if folder in HIDDEN else below)}


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
        ({"": "\ufeffb/\r\nc/\r\n"}, {"a/b/1.jpg", "a/c/1.jpg"}),  # as Windows' editors write
        ({"a/": "Bu\u0308cher/\n"}, {"a/B\u00fccher/1.jpg"}),
        ({"": "!@eaDir/\n"}, {"never"}),  # the default exclusions give way
        ({"": ""}, set()),
    ],
)
def test_ignore_files_are_read_as_those_of_git(
    tmp_path: Path, ignore_files: dict[str, str], excluded: set[str]
) -> None:
    every = {"1.jpg", "2.jpg", "a/1.jpg", "a/b/1.jpg", "a/c/1.jpg", "a/B\u00fccher/1.jpg", "@eaDir/3.jpg"}
    for name in every:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for folder, content in ignore_files.items():
        (tmp_path / folder / ".sceneseekignore").write_bytes(content.encode())
    by_default = set() if excluded == {"never"} else {"@eaDir/3.jpg"}
    assert {file.relative for file in list_images(tmp_path).files} == every - excluded - by_default


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("a\n!\n"), r"/a/\.sceneseekignore:2: '!' is no pattern"),
        (lambda path: path.mkdir(), "not a file"),
        (os.mkfifo, "not a file"),
        (lambda path: path.symlink_to("/etc/passwd"), "cannot be read"),
        (lambda path: path.write_bytes(bytes(2**20 + 1)), "larger than 1,048,576 bytes"),
    ],
    ids=["a pattern", "a directory", "a FIFO", "a link", "too large"],
)
def test_an_ignore_file_that_cannot_be_used_ends_the_run(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").touch()
    make(tmp_path / "a" / ".sceneseekignore")
    with pytest.raises(SourceError, match=said):
        list_images(tmp_path)


def test_what_is_excluded_by_default_and_linked_folders_are_named_in_the_summary(tmp_path: Path) -> None:
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


def test_a_folder_that_is_itself_marked_is_an_error(tmp_path: Path) -> None:
    for name in ("a.jpg", ".nomedia"):
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"it contains \.nomedia: .*--no-default-excludes"):
        list_images(tmp_path)
    assert len(list_images(tmp_path, Patterns(defaults=False)).files) == 1


def test_an_excluded_folder_is_not_entered_and_named_once(tmp_path: Path) -> None:
    for name in ("keep/a.jpg", "raw/b.jpg", "raw/deep/c.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listing = list_images(tmp_path, Patterns(exclude=["raw/"]))
    assert [file.relative for file in listing.files] == ["keep/a.jpg"]
    assert [(e.relative, e.reason) for e in listing.ignored] == [("notes.txt", "other-kind"), ("raw", "excluded")]
    with pytest.raises(SourceError, match="patterns leave no image"):
        list_images(tmp_path, Patterns(include=["*.png"]))
