"""A watched folder is indexed when it has changed and come to rest, whatever single runs meet with."""

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
    """A folder, the watch over it, and what the watch said."""

    def __init__(self, bundle: Bundle, home: Path) -> None:
        self.folder = home / "photos"
        self.folder.mkdir()
        self.store = open_store(f"file:{home}/index")
        self.told: list[str] = []
        self.reports: list[IndexReport] = []
        self.watch = Watch(
            [Folder(self.folder)], bundle, self.store, BuildOptions("cpu"), self.told.append, self.reports.append
        )

    def looks(self, count: int) -> list[tuple[int, int]]:
        """So many looks; the runs they led to, each as images indexed and skipped."""
        before = len(self.reports)
        for _ in range(count):
            self.watch.look()
        return [(report.indexed, len(report.skipped)) for report in self.reports[before:]]


@pytest.fixture
def watched(bundle: Bundle, tmp_path: Path) -> Watched:
    return Watched(bundle, tmp_path)


def test_a_file_is_indexed_once_two_looks_have_found_it_the_same(watched: Watched, noise: Noise) -> None:
    noise(20, 20).save(watched.folder / "a.png")
    assert watched.looks(1) == []
    assert watched.looks(1) == [(1, 0)]
    assert watched.looks(3) == []
    whole = (watched.folder / "a.png").read_bytes()
    growing = watched.folder / "b.png"
    for size in (10, 20, 30):
        growing.write_bytes(whole[:size])
        assert watched.looks(1) == []
    noise(30, 30).save(growing)
    assert watched.looks(2) == [(1, 0)]


def test_a_growing_file_blocks_no_other_and_loses_no_entry(watched: Watched, noise: Noise) -> None:
    noise(20, 20).save(watched.folder / "a.png")
    watched.looks(2)
    (watched.folder / "a.png").write_bytes(b"being written")
    noise(30, 30).save(watched.folder / "b.png")
    watched.looks(1)
    (watched.folder / "a.png").write_bytes(b"being written anew")
    assert watched.looks(1) == [(1, 0)]
    collection = watched.store.open(str(watched.store.live()))
    assert collection.count() == 2
    collection.close()
    noise(40, 40).save(watched.folder / "a.png")
    assert watched.looks(3) == [(1, 0)]


def test_an_error_is_reported_once_and_the_watch_continues(watched: Watched, noise: Noise, tmp_path: Path) -> None:
    assert watched.looks(3) == []
    assert len(watched.told) == 1
    assert "is empty" in watched.told[0]
    noise(20, 20).save(watched.folder / "a.png")
    watched.watch.store = open_store(watched.store.url)
    watched.watch.options = replace(watched.watch.options, wait=False)
    with watched.store.writing():
        assert watched.looks(3) == []
    assert len(watched.told) == 2
    assert "being written by process" in watched.told[1]
    assert watched.looks(1) == [(1, 0)]


def test_files_that_all_fail_are_not_tried_at_every_look(watched: Watched, noise: Noise) -> None:
    (watched.folder / "a.png").write_text("words")
    watched.looks(4)
    assert len(watched.told) == 1
    assert "none of the 1 images" in watched.told[0]
    noise(20, 20).save(watched.folder / "b.png")
    assert watched.looks(2) == [(1, 1)]
