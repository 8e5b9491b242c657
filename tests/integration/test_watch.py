"""A watched folder is indexed once its changes have settled, and the watch survives failed runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sceneseek.bundle import Bundle
from sceneseek.store import open_store
from sceneseek_indexer.build import BuildOptions
from sceneseek_indexer.report import IndexReport
from sceneseek_indexer.source_scan import Folder
from sceneseek_indexer.watch import Watch

Noise = Callable[[int, int], Image.Image]


class Watched:
    """A folder, a watch over it, and the messages of the watch."""

    def __init__(self, bundle: Bundle, home: Path) -> None:
        self.folder = home / "photos"
        self.folder.mkdir()
        self.store = open_store(f"file:{home}/index")
        self.messages: list[str] = []
        self.reports: list[IndexReport] = []
        self.watch = Watch(
            [Folder(self.folder)], bundle, self.store, BuildOptions("cpu"), self.messages.append, self.reports.append
        )

    def scan(self, count: int) -> list[tuple[int, int]]:
        """Scan `count` times and return the runs as pairs of the number of indexed and skipped images."""
        before = len(self.reports)
        for _ in range(count):
            self.watch.check()
        return [(report.indexed, len(report.skipped)) for report in self.reports[before:]]


@pytest.fixture
def watched(bundle: Bundle, tmp_path: Path) -> Watched:
    return Watched(bundle, tmp_path)


def test_file_is_indexed_after_two_equal_scans(watched: Watched, noise: Noise) -> None:
    noise(20, 20).save(watched.folder / "a.png")
    assert watched.scan(1) == []
    assert watched.scan(1) == [(1, 0)]
    assert watched.scan(3) == []
    whole = (watched.folder / "a.png").read_bytes()
    growing = watched.folder / "b.png"
    for size in (10, 20, 30):
        growing.write_bytes(whole[:size])
        assert watched.scan(1) == []
    noise(30, 30).save(growing)
    assert watched.scan(2) == [(1, 0)]


def test_growing_file_does_not_block_others_or_lose_its_entry(watched: Watched, noise: Noise) -> None:
    noise(20, 20).save(watched.folder / "a.png")
    watched.scan(2)
    (watched.folder / "a.png").write_bytes(b"being written")
    noise(30, 30).save(watched.folder / "b.png")
    watched.scan(1)
    (watched.folder / "a.png").write_bytes(b"being written anew")
    assert watched.scan(1) == [(1, 0)]
    collection = watched.store.open(str(watched.store.live()))
    assert collection.count() == 2
    collection.close()
    noise(40, 40).save(watched.folder / "a.png")
    assert watched.scan(3) == [(1, 0)]


def test_an_error_is_reported_once_and_the_watch_continues(watched: Watched, noise: Noise, tmp_path: Path) -> None:
    assert watched.scan(3) == []
    assert len(watched.messages) == 1
    assert "is empty" in watched.messages[0]
    noise(20, 20).save(watched.folder / "a.png")
    watched.watch.store = open_store(watched.store.url)
    watched.watch.options = replace(watched.watch.options, wait=False)
    with watched.store.writing():
        assert watched.scan(3) == []
    assert len(watched.messages) == 2
    assert "being written by process" in watched.messages[1]
    assert watched.scan(1) == [(1, 0)]


def test_failing_files_are_not_retried_at_every_scan(watched: Watched, noise: Noise) -> None:
    (watched.folder / "a.png").write_text("words")
    watched.scan(4)
    assert len(watched.messages) == 1
    assert "none of the 1 images" in watched.messages[0]
    noise(20, 20).save(watched.folder / "b.png")
    assert watched.scan(2) == [(1, 1)]
