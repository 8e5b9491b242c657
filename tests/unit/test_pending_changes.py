"""Pictures are put and deleted atomically, only inside the folder, and never replaced without a precondition."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sceneseek import pending_changes
from sceneseek.errors import (
    Conflict,
    PreconditionFailed,
    PreconditionRequired,
    StartError,
    Unprocessable,
)
from sceneseek.local_folder import Facts
from sceneseek.payload import point_id
from sceneseek.pending_changes import Change, PendingChanges, checked_path, takes_pictures
from tests.conftest import ROOT

ID = point_id("a.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def pending(folder: Path) -> PendingChanges:
    pending = PendingChanges(folder)
    pending.prepare()
    return pending


def put(
    pending: PendingChanges,
    path: str,
    content: bytes = b"a picture",
    if_match: Collection[str] | None = None,
    if_none: bool = False,
) -> Change:
    with pending.receive() as received:
        received.write(io.BytesIO(content))
        return pending.put(point_id(path), path, received, if_match, if_none)


def tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def settle(pending: PendingChanges, finished: bool = True, **reasons: str) -> None:
    refused = {point_id(f"{name}.png"): reason for name, reason in reasons.items()}
    pending.settle(pending.all(), refused, finished)


def test_put_stores_picture_and_records_change(pending: PendingChanges, folder: Path) -> None:
    before = pending.version()
    change = put(pending, "2024/summer/a.png")
    status = (folder / "2024/summer/a.png").stat()
    facts = f"{status.st_size}-{status.st_mtime_ns}"
    assert change == Change("put", "2024/summer/a.png", tag(b"a picture"), facts)
    assert (folder / "2024/summer/a.png").read_bytes() == b"a picture"
    assert (folder / "2024/summer/a.png").stat().st_nlink == 1
    assert pending.all() == {point_id("2024/summer/a.png"): change}
    assert pending.version() != before
    assert list((folder / ".sceneseek/incoming").iterdir()) == []


def test_stored_files_and_folders_respect_umask(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        pending = PendingChanges(folder)
        pending.prepare()
        put(pending, "new/a.png")
    finally:
        os.umask(before)
    assert (folder / "new/a.png").stat().st_mode & 0o777 == 0o640
    assert (folder / "new").stat().st_mode & 0o777 == 0o750


def test_put_replaces_picture_only_with_matching_if_match(pending: PendingChanges, folder: Path) -> None:
    put(pending, "a.png", b"old")
    with pytest.raises(PreconditionRequired, match=r"there is another image a\.png: choose another name"):
        put(pending, "a.png", b"new")
    for tags in ({tag(b"new")}, {"x-1-2-3"}, set[str]()):
        with pytest.raises(PreconditionFailed, match="does not match If-Match"):
            put(pending, "a.png", b"new", tags)
    with pytest.raises(PreconditionFailed, match=r"there is no image b\.png to replace"):
        put(pending, "b.png", b"new", {"*"})
    assert not (folder / "b.png").exists()
    assert (folder / "a.png").read_bytes() == b"old"
    put(pending, "a.png", b"new", {tag(b"old")})
    assert (folder / "a.png").read_bytes() == b"new"
    # The service's ETag of a file that was touched since it was indexed.
    put(pending, "a.png", b"newer", {f"{tag(b'other')}-{Facts.of((folder / 'a.png').stat()).line()}"})
    put(pending, "a.png", b"newest", {"*"})
    assert (folder / "a.png").read_bytes() == b"newest"
    assert [change.sha256 for change in pending.all().values()] == [tag(b"newest")]


def test_put_of_same_content_is_idempotent_without_if_none_match(pending: PendingChanges, folder: Path) -> None:
    put(pending, "a.png", if_none=True)
    before = (folder / "a.png").stat()
    assert put(pending, "a.png") == put(pending, "a.png", if_match={tag(b"lost")})
    assert (folder / "a.png").stat() == before
    with pytest.raises(PreconditionFailed, match=r"there is an image a\.png already"):
        put(pending, "a.png", if_none=True)


def test_delete_removes_picture_and_is_idempotent(pending: PendingChanges, folder: Path) -> None:
    put(pending, "a.png")
    with pytest.raises(PreconditionFailed):
        pending.delete(ID, "a.png", {tag(b"another")})
    assert (folder / "a.png").exists()
    assert pending.delete(ID, "a.png", {tag(b"a picture")}) == Change("delete", "a.png")
    assert not (folder / "a.png").exists()
    version = pending.version()
    assert pending.delete(ID, "a.png") == Change("delete", "a.png")
    assert pending.version() == version
    assert pending.delete(point_id("gone/b.png"), "gone/b.png").open


def test_put_and_delete_do_not_follow_links_or_replace_non_files(pending: PendingChanges, folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    (folder / "out").symlink_to(outside)
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "folder.png").mkdir()
    (folder / "file").write_bytes(b"")
    os.mkfifo(folder / "pipe.png")
    for path in ("out/a.png", "out/new/a.png", "link.png", "folder.png", "file/a.png", "pipe.png"):
        for tags in (None, {"*"}):
            with pytest.raises(Conflict, match="is not a folder, or its last part not a file"):
                put(pending, path, if_match=tags)
    with pytest.raises(Conflict):
        pending.delete(point_id("out/secret.png"), "out/secret.png")
    pending.delete(point_id("link.png"), "link.png")
    assert sorted(path.name for path in outside.iterdir()) == ["secret.png"]
    assert (outside / "secret.png").read_bytes() == b"secret"
    assert not (folder / "link.png").is_symlink()


@pytest.mark.parametrize("home", ["file", "link", "missing"])
def test_unusable_upload_folder_raises_start_error(tmp_path: Path, home: str) -> None:
    folder = tmp_path / "photos"
    if home != "missing":
        folder.mkdir()
        (tmp_path / "elsewhere").mkdir()
    if home == "file":
        (folder / ".sceneseek").write_bytes(b"")
    elif home == "link":
        (folder / ".sceneseek").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartError, match=r"pictures cannot be received in .*: name a folder that exists"):
        PendingChanges(folder).prepare()
    assert home == "missing" or list((tmp_path / "elsewhere").iterdir()) == []


def test_prepare_removes_stale_temporary_files(pending: PendingChanges, folder: Path) -> None:
    put(pending, "a.png")
    home = folder / ".sceneseek"
    old, torn, recent = home / "incoming/old", home / "changes/.b.json.xyz", home / "incoming/recent"
    for path in (old, torn, recent):
        path.write_bytes(b"half a pic")
    for path in (old, torn, home / f"changes/{ID}.json"):
        os.utime(path, (0, time.time() - 7_200))
    pending.prepare()
    assert not old.exists()
    assert not torn.exists()
    assert recent.exists()
    assert pending.all().keys() == {ID}


def test_run_settles_processed_changes(pending: PendingChanges) -> None:
    for name in "abc":
        put(pending, f"{name}.png", name.encode())
    pending.delete(point_id("c.png"), "c.png")
    settle(pending, finished=False, a="broken")
    states = {change.path: (change.settled, change.reason) for change in pending.all().values()}
    assert states == {"a.png": (False, "broken"), "b.png": (False, ""), "c.png": (False, "")}
    settle(pending, a="broken")
    states = {change.path: (change.settled, change.reason) for change in pending.all().values()}
    assert states == {"a.png": (False, "broken"), "b.png": (True, ""), "c.png": (True, "")}
    settle(pending)
    assert all(change.settled for change in pending.all().values())


def test_change_replaced_during_run_stays_open(pending: PendingChanges) -> None:
    put(pending, "a.png", b"old")
    seen = pending.all()
    put(pending, "a.png", b"new", {"*"})
    pending.settle(seen, {}, True)
    assert pending.all()[ID].open
    seen = pending.all()
    pending.delete(ID, "a.png")
    pending.settle(seen, {}, True)
    assert pending.all()[ID] == Change("delete", "a.png")


def test_change_contradicting_its_file_is_dropped(pending: PendingChanges, folder: Path) -> None:
    for name in "abc":
        put(pending, f"{name}.png")
    pending.delete(point_id("b.png"), "b.png")
    (folder / "a.png").rename(folder / "b.png")
    (folder / "c.png").write_bytes(b"changed by hand")
    settle(pending)
    assert pending.all() == {}


def test_settled_changes_expire(pending: PendingChanges, monkeypatch: pytest.MonkeyPatch) -> None:
    put(pending, "a.png")
    for _ in range(3):
        settle(pending)
        assert pending.all()[ID].settled
    monkeypatch.setattr(pending_changes, "_REMEMBERED", -1.0)
    settle(pending)
    assert pending.all() == {}


def test_folder_without_changes_is_not_modified(folder: Path) -> None:
    pending = PendingChanges(folder)
    assert pending.all() == {}
    assert pending.get(ID) is None
    pending.settle({}, {}, True)
    assert list(folder.iterdir()) == []
    assert not takes_pictures(folder)


def test_damaged_change_files_are_ignored(pending: PendingChanges, folder: Path) -> None:
    for number, content in enumerate(
        ("", "[]", "{}", '{"action": "run", "path": "a"}', '{"path": 1, "action": "put"}')
    ):
        (folder / ".sceneseek/changes" / f"{number}.json").write_text(content)
    assert pending.all() == {}


def test_concurrent_puts_of_same_path_have_one_winner(pending: PendingChanges, folder: Path) -> None:
    done: list[int] = []

    def try_put(number: int) -> None:
        try:
            put(pending, "a.png", b"%d" % number)
            done.append(number)
        except PreconditionRequired:
            pass

    threads = [threading.Thread(target=try_put, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert (folder / "a.png").read_bytes() == b"%d" % done[0]
    assert pending.all()[ID].sha256 == tag(b"%d" % done[0])


@pytest.mark.parametrize("where", ["changes", "settling"])
def test_changes_are_atomic_when_killed_at_any_line(folder: Path, where: str) -> None:
    old, new = b"old" * 1000, b"new" * 1000
    (folder.parent / "old").write_bytes(old)
    (folder.parent / "new").write_bytes(new)
    run = [sys.executable, "-m", "tests.killed_changes", where, str(folder)]
    undisturbed = subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200).stdout.split()
    pending = PendingChanges(folder)
    if where == "settling":
        states = {change.path: (change.action, change.settled, change.reason) for change in pending.all().values()}
        assert states == {
            "accepted.png": ("put", True, ""),
            "refused.png": ("put", False, "it is none"),
            "deleted.png": ("delete", True, ""),
        }
        return
    for kind, before, after in (("a/put", None, new), ("b/replaced", old, new), ("c/deleted", old, None)):
        last = next(path for path in undisturbed if path.startswith(kind))
        number = int(last.removeprefix(kind).removesuffix(".png"))
        assert number > 20
        for path in (f"{kind}{n}.png" for n in range(1, number + 1)):
            content = (folder / path).read_bytes() if (folder / path).exists() else None
            assert content in (before, after)
            change = pending.get(point_id(path))
            if path == last:
                assert content == after
                assert change is not None
                assert change.action == ("delete" if after is None else "put")
            if change is not None and change.action == "put":
                assert content is not None, "a recorded change has its file"
            # Clients retry the request.
            if after is None:
                pending.delete(point_id(path), path)
            else:
                put(pending, path, new, None if before is None else {tag(old)})
    settle(pending)
    for change in pending.all().values():
        assert change.settled
        assert (folder / change.path).exists() == (change.action == "put")
    assert {path.read_bytes() for path in folder.glob("[ab]/*")} == {new}
    assert list(folder.glob("c/*")) == []


PARTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@given(st.lists(PARTS, min_size=1, max_size=5), st.sampled_from([".png", ".JPG", ".jpeg", ".txt", ""]))
@example(["..", "a"], ".png")
@example(["", "a"], ".png")
@example(["a\x00"], ".png")
@example(["a\nb"], ".png")
@example(["\ufffd"], ".png")
@example(["фото", "закат 🌅"], ".jpg")
def test_accepted_path_is_normalised_and_stays_inside_folder(parts: list[str], extension: str) -> None:
    text = "/".join(parts) + extension
    try:
        path = checked_path(text)
    except Unprocessable:
        return
    assert path == text == os.path.normpath(path)
    for part in path.split("/"):
        assert part.isprintable() or not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in part)
        assert not part.startswith(".")
        assert "\\" not in part
        assert len(os.fsencode(part)) <= 255


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "is not a valid path"),
        ("/a.png", "is not a valid path"),
        ("a//b.png", "is not a valid path"),
        ("a/", "is not a valid path"),
        ("../a.png", "is not a valid path"),
        ("a/../../b.png", "is not a valid path"),
        ("./a.png", "is not a valid path"),
        (".hidden/a.png", "is not a valid path"),
        ("a/.hidden.png", "is not a valid path"),
        ("a\\b.png", "is not a valid path"),
        ("a\x7f.png", "is not a valid path"),
        ("a\u2028.png", "is not a valid path"),
        ("a\ufffd.png", "is not a valid path"),
        ("a.png\n", "is not a valid path"),
        ("a.txt", "does not have the extension of a picture.*: use one of"),
        ("png", "is not a valid path"),
        ("é" * 126 + ".png", "is too long"),
        ("a/" * 32 + "a.png", "is too long"),
        ("/".join(["a" * 200] * 5) + ".png", "is too long"),
    ],
)
def test_invalid_path_is_rejected_with_reason(path: str, message: str) -> None:
    with pytest.raises(Unprocessable, match=message):
        checked_path(path)
