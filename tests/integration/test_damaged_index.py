"""Damaged index files: each failure raises one error, the alias follower survives, and no data is lost silently."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sceneseek.alias_follower import AliasFollower
from sceneseek.errors import IndexUnavailable, UnfitGeneration
from sceneseek.store import CollectionInfo, open_store
from sceneseek_indexer.generations import generations, roll_back, verify
from tests.integration.test_alias_follower import SameGraph
from tests.integration.test_store_contract import INFO, points, published

Damage = Callable[[Path], object]


def edit(home: Path, **fields: object) -> None:
    """Change fields of `generation.json`; None removes one."""
    file = home / "generation.json"
    raw = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({name: value for name, value in raw.items() if value is not None}))


def truncate(home: Path, pattern: str) -> None:
    for file in home.rglob(pattern):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def overwrite(home: Path, pattern: str) -> None:
    for file in home.rglob(pattern):
        file.write_bytes(b"\xff" * min(file.stat().st_size, 10_000))


def overwrite_unrecorded(home: Path) -> None:
    """Overwrite the segment of a generation without checksums, as written by older versions."""
    edit(home, files=None)
    overwrite(home, "segment.json")


def make_folder(file: Path) -> None:
    """Replace a file or folder with an empty folder."""
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    file.mkdir()


def make_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


GENERATION: dict[str, Damage] = {
    "manifest empty": lambda home: (home / "generation.json").write_text(""),
    "manifest not JSON": lambda home: (home / "generation.json").write_bytes(b"\xff\x00"),
    "manifest a list": lambda home: (home / "generation.json").write_text("[1]"),
    "manifest nested too deeply": lambda home: (home / "generation.json").write_text("[" * 100_000),
    "manifest without sources": lambda home: edit(home, sources=None),
    "manifest without a vector size": lambda home: edit(home, joint=None),
    "sources of the wrong type": lambda home: edit(home, sources=[{"path": "/x"}]),
    "points of the wrong type": lambda home: edit(home, points="many"),
    "manifest of another generation": lambda home: edit(home, name="first"),
    "manifest a folder": lambda home: make_folder(home / "generation.json"),
    "manifest missing": lambda home: (home / "generation.json").unlink(),
    "too many points": lambda home: edit(home, points=6),
    "wrong vector size": lambda home: edit(home, joint=4, files=None),
    "ids truncated": lambda home: truncate(home, "mutable_id_tracker.mappings"),
    "vectors truncated": lambda home: truncate(home, "chunk_0.mmap"),
    "segment overwritten": lambda home: overwrite(home, "segment.json"),
    "segment overwritten, no checksums": overwrite_unrecorded,
    "configuration overwritten": lambda home: overwrite(home, "edge_config.json"),
    "shard missing": lambda home: shutil.rmtree(home / "shard"),
    "shard a file": lambda home: make_file(home / "shard"),
    "generation missing": shutil.rmtree,
}
ALIAS: dict[str, Damage] = {
    "not ASCII": lambda root: (root / "alias-images").write_text("größe"),
    "not text": lambda root: (root / "alias-images").write_bytes(b"\xff\xfe"),
    "a path": lambda root: (root / "alias-images").write_text("../generations/first"),
    "a folder": lambda root: make_folder(root / "alias-images"),
    "a missing generation": lambda root: (root / "alias-images").write_text("gone"),
}


@pytest.mark.parametrize("damage", GENERATION)
def test_damaged_generation_is_one_error_and_previous_one_serves_until_repaired(tmp_path: Path, damage: str) -> None:
    root = tmp_path / "index"
    store = open_store(f"file:{root}")
    published(store, INFO, points(3))
    live = AliasFollower(store, SameGraph(INFO.image_fingerprint))
    published(store, replace(INFO, name="second"), points(5))
    home = root / "generations/second"
    backup = shutil.copytree(home, tmp_path / "whole")
    GENERATION[damage](home)
    with pytest.raises(IndexUnavailable) as failure:
        store.open("second")
    assert "\n" not in str(failure.value)
    assert not live.refresh()
    assert problem(live) is not None
    with live.borrow() as snapshot:
        assert snapshot.collection.count() == 3
    # Repair by rollback, then by restoring the files.
    assert roll_back(store, "first") == "first"
    assert not live.refresh()
    assert problem(live) is None
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(backup, home)
    assert roll_back(store) == "second"
    assert live.refresh()
    assert (live.name, live.problem) == ("second", None)
    live.close()


@pytest.mark.parametrize("damage", ALIAS)
def test_damaged_alias_is_reported_while_generation_still_serves(tmp_path: Path, damage: str) -> None:
    store = open_store(f"file:{tmp_path}")
    published(store, INFO, points(3))
    live = AliasFollower(store, SameGraph(INFO.image_fingerprint))
    live.follow(0.01)
    ALIAS[damage](tmp_path)
    wait_until(lambda: live.problem is not None)
    with live.borrow() as snapshot:
        assert snapshot.collection.count() == 3
    assert [generation.info.name for generation in generations(store)] == ["first"]
    if (tmp_path / "alias-images").is_dir():
        (tmp_path / "alias-images").rmdir()
    assert roll_back(store) == "first"
    wait_until(lambda: live.problem is None)
    assert live.watching()
    live.close()


def test_moved_index_is_reported_until_restored(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}/index")
    published(store, INFO, points(3))
    live = AliasFollower(store, SameGraph(INFO.image_fingerprint))
    (tmp_path / "index").rename(tmp_path / "elsewhere")
    assert not live.refresh()
    assert "is gone" in str(problem(live))
    (tmp_path / "elsewhere").rename(tmp_path / "index")
    assert not live.refresh()
    assert live.problem is None
    live.close()


def test_follower_survives_any_exception_from_new_generation(tmp_path: Path) -> None:
    class Failing(SameGraph):
        fails = False

        def fitting(self, info: CollectionInfo, store_url: str) -> None:
            super().fitting(info, store_url)
            if self.fails:
                raise MemoryError("too large")

    store, source = open_store(f"file:{tmp_path}"), Failing(INFO.image_fingerprint)
    published(store, INFO, points(3))
    live = AliasFollower(store, source)
    source.fails = True
    published(store, replace(INFO, name="second"), points(5))
    live.follow(0.01)
    wait_until(lambda: live.problem is not None)
    assert "second cannot be opened (MemoryError: too large)" in str(live.problem)
    assert (live.watching(), live.name) == (True, "first")
    live.close()


def test_verify_and_rollback_detect_damage_by_checksum(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    published(store, INFO, points(3))
    published(store, replace(INFO, name="second"), points(5))
    for name in ("first", "second"):  # opening a generation must not invalidate its checksums
        store.open(name).close()
    assert verify(store) == ["first", "second"]
    (file,) = (tmp_path / "generations/first").rglob("vector_storage-joint/vectors/chunk_0.mmap")
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    store.open("first").close()
    for operation in (lambda: verify(store), lambda: verify(store, "first"), lambda: roll_back(store)):
        with pytest.raises(UnfitGeneration, match=r"chunk_0.mmap is damaged"):
            operation()
    assert store.live() == "second"


def problem(live: AliasFollower[None]) -> str | None:
    return live.problem


def wait_until(condition: Callable[[], bool]) -> None:
    timer = threading.Event()
    for _ in range(6_000):
        if condition():
            return
        timer.wait(0.01)
    raise AssertionError("condition not met within a minute")
