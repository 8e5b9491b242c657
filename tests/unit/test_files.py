"""Files and directories are written atomically."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.files import directory_in_place, write_atomic


def test_write_atomic_replaces_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    write_atomic(target, b"one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert list(target.parent.iterdir()) == [target]


def test_directory_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with directory_in_place(target) as beside:
        (beside / "a").write_text("new")
        assert not target.exists()
    assert (target / "a").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_failure_keeps_old_directory_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "a").write_text("old")

    def fail_half_way() -> None:
        with directory_in_place(target) as beside:
            (beside / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_existing_directory_is_replaced_entirely(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "stale").write_text("old")
    with directory_in_place(target) as beside:
        (beside / "a").write_text("new")
    assert [p.name for p in target.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [target]
