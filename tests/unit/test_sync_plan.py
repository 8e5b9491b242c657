"""After any change of the folders, the plan updates the index and encodes only new contents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.payload import point_id
from sceneseek.store import CollectionInfo, Source
from sceneseek.vectors import Vectors
from sceneseek_indexer.inventory import Inventory, Known, Place, known_images, open_inventory, place
from sceneseek_indexer.load import Loaded
from sceneseek_indexer.report import IndexReport, ReportFile
from sceneseek_indexer.sync_plan import Plan, files_to_hash, make_plan
from sceneseek_indexer.walk import UNREADABLE, ImageFile, Listing, Skipped
from sceneseek_indexer.writing import Writing
from tests.memory_collection import Killed, MemoryCollection

INFO = CollectionInfo("g", "f", 32, 0, (Source("", "/a"), Source("b", "/b")), "2026-01-01T00:00:00.000000+00:00")
PATHS = [(source, f"{name}.png") for source in (0, 1) for name in "pqrstu"]


def sha(content: int) -> str:
    return hashlib.sha256(str(content).encode()).hexdigest()


def vector(sha256: str) -> np.ndarray:
    """A distinct vector for each content."""
    return np.frombuffer(bytes.fromhex(sha256), np.uint8).astype(np.float32)


@dataclass
class Disk:
    """The files of two folders: content and modification time by place."""

    files: dict[Place, tuple[int, int]] = field(default_factory=dict)
    clock: int = 0

    def apply(self, step: tuple[str, Place, Place, int]) -> None:
        """Apply one event. Contents often have equal sizes, as images of one camera do."""
        kind, one, other, content = step
        self.clock += 1
        match kind:
            case "write":
                self.files[one] = (content, self.clock)
            case "touch" if one in self.files:
                self.files[one] = (self.files[one][0], self.clock)
            case "move" if one in self.files and one != other:
                self.files[other] = self.files.pop(one)
            case "copy" if one in self.files:
                self.files[other] = (self.files[one][0], self.clock)
            case "swap" if one in self.files and other in self.files:
                self.files[one], self.files[other] = self.files[other], self.files[one]
            case "delete":
                self.files.pop(one, None)

    def listings(self) -> dict[int, Listing]:
        listings = {0: Listing(), 1: Listing()}
        for (source, relative), (content, changed) in sorted(self.files.items()):
            image = ImageFile(relative, Path("/"), 100 + content % 3, changed, source)
            listings[source].files.append(image)
        return listings


def run(disk: Disk, index: MemoryCollection, prune: bool) -> tuple[Plan, IndexReport]:
    """Run the steps of `sceneseek_indexer.build` without files and models."""
    contents = {at: content for at, (content, _) in disk.files.items()}
    with planned(disk.listings(), known_images(index), contents, pruned=(0, 1) if prune else ()) as (inventory, plan):
        report = IndexReport(unchanged=len(plan.unchanged))
        writing = Writing(index.info, lambda: index, inventory, report, ReportFile(None), datetime.now(UTC))
        writing.reuse(plan)
        writing.remove(plan.removed)
        for file in plan.encode:
            content = sha(disk.files[place(file)][0])
            loaded = Loaded(file, (), content, 1, 1, "PNG", "", {}, None, 0.0)
            writing.add([loaded], Vectors(vector(content)[None], np.zeros((1, 0), np.float32)))
        writing.check()
        return read(plan), report


@contextmanager
def planned(
    listings: dict[int, Listing], images: Iterable[Known], contents: dict[Place, int], **options: Any
) -> Iterator[tuple[Inventory, Plan]]:
    """The plan for listings, the images of an index, and the contents of the readable files."""
    with open_inventory() as inventory:
        for listing in listings.values():
            for file in listing.files:
                inventory.add_file(file)
        inventory.add_images(images)
        files = files_to_hash(inventory)
        inventory.add_hashes((file, sha(contents[place(file)])) for file in files if place(file) in contents)
        yield inventory, make_plan(inventory, listings, **options)


def read(plan: Plan) -> Plan:
    """Read the whole plan into memory."""
    return Plan(**{part.name: list(getattr(plan, part.name)) for part in fields(plan)})


def indexed_contents(index: MemoryCollection) -> dict[Place, str]:
    """Check the id and the vector of each point, and return the contents by place."""
    contents = {}
    for image in known_images(index):
        assert image.id == point_id(image.relative, INFO.sources[image.source].label)
        assert (index.points[image.id].joint == vector(image.sha256)).all()
        contents[place(image)] = image.sha256
    return contents


def disk_contents(disk: Disk) -> dict[Place, str]:
    return {at: sha(content) for at, (content, _) in disk.files.items()}


steps = st.tuples(
    st.sampled_from(["write", "write", "touch", "move", "copy", "swap", "delete"]),
    st.sampled_from(PATHS),
    st.sampled_from(PATHS),
    st.integers(0, 8),
)
histories = st.lists(st.lists(steps, max_size=12), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(histories)
def test_pruned_index_equals_folders_and_encodes_only_new_contents(
    history: list[list[tuple[str, Place, Place, int]]],
) -> None:
    disk, index = Disk(), MemoryCollection(INFO)
    for events in history:
        for event in events:
            disk.apply(event)
        before = set(indexed_contents(index).values())
        plan, report = run(disk, index, prune=True)
        assert indexed_contents(index) == disk_contents(disk)
        assert {sha(disk.files[place(file)][0]) for file in plan.encode}.isdisjoint(before)
        assert report.usable == len(disk.files)
        again, _ = run(disk, index, prune=True)
        assert again.empty


@settings(max_examples=60, deadline=None)
@given(histories)
def test_run_without_prune_removes_only_renamed_images(
    history: list[list[tuple[str, Place, Place, int]]],
) -> None:
    disk, index = Disk(), MemoryCollection(INFO)
    for events in history:
        for event in events:
            disk.apply(event)
        before = indexed_contents(index)
        plan, _ = run(disk, index, prune=False)
        renamed = {place(t.origin) for t in plan.reused if t.outcome == "renamed"}
        assert indexed_contents(index) == {
            at: content for at, content in before.items() if at not in renamed
        } | disk_contents(disk)


@settings(max_examples=60, deadline=None)
@given(histories, st.lists(st.integers(0, 6), min_size=1, max_size=6))
def test_rerun_after_kill_at_any_write_completes_index(
    history: list[list[tuple[str, Place, Place, int]]], lives: list[int]
) -> None:
    disk, index = Disk(), MemoryCollection(INFO)
    for events in history:
        for event in events:
            disk.apply(event)
        for left in lives:
            index.lives = left
            try:
                run(disk, index, prune=True)
            except Killed:
                continue
        index.lives = None
        run(disk, index, prune=True)
        assert indexed_contents(index) == disk_contents(disk)


def known(at: Place, content: int, changed: int = 0) -> Known:
    source, relative = at
    return Known(f"id of {at}", source, relative, 100, changed, sha(content))


def listing(*files: tuple[str, int], source: int = 0, **others: object) -> Listing:
    return Listing([ImageFile(name, Path("/"), 100, changed, source) for name, changed in files], **others)  # type: ignore[arg-type]


def plan_of(listings: dict[int, Listing], images: Iterable[Known], contents: dict[Place, int], **options: Any) -> Plan:
    with planned(listings, images, contents, **options) as (_, plan):
        return read(plan)


def test_only_changed_files_of_known_size_are_hashed() -> None:
    index = [known((0, "same"), 1, 5), known((0, "touched"), 2, 5)]
    files = listing(("same", 5), ("touched", 6), ("new", 7))
    files.files.append(ImageFile("other size", Path("/"), 99, 1))
    with planned({0: files}, index, {}) as (inventory, _):
        assert [file.relative for file in files_to_hash(inventory)] == ["touched", "new"]


def test_renamed_image_reuses_missing_point_and_further_files_are_copies() -> None:
    plan = plan_of({0: listing(("new1", 9), ("new2", 9))}, [known((0, "old"), 1)], {(0, "new1"): 1, (0, "new2"): 1})
    assert [(t.file.relative, t.outcome, t.origin.relative) for t in plan.reused] == [
        ("new1", "renamed", "old"),
        ("new2", "copied", "old"),
    ]
    assert (plan.gone, plan.encode) == ([], [])


def test_image_moved_between_sources_reuses_vector() -> None:
    plan = plan_of({1: listing(("x", 9), source=1)}, [known((0, "x"), 1)], {(1, "x"): 1})
    assert [t.outcome for t in plan.reused] == ["copied"]
    plan = plan_of({0: listing(), 1: listing(("x", 9), source=1)}, [known((0, "x"), 1)], {(1, "x"): 1})
    assert [t.outcome for t in plan.reused] == ["renamed"]


@pytest.mark.parametrize("skipped", ["dir", "dir/sub", "dir/sub/x"])
def test_images_in_unreadable_folders_are_not_gone(skipped: str) -> None:
    files = listing(("y", 0), skipped=[Skipped(skipped, UNREADABLE, "")])
    plan = plan_of({0: files}, [known((0, "dir/sub/x"), 1), known((0, "y"), 2)], {}, pruned=(0,))
    assert plan.gone == []
    files = listing(("y", 0), skipped=[Skipped("dir/su", UNREADABLE, ""), Skipped("dir/sub/x", "dangling-link", "")])
    plan = plan_of({0: files}, [known((0, "dir/sub/x"), 1), known((0, "y"), 2)], {}, pruned=(0,))
    assert [image.relative for image in plan.removed] == ["dir/sub/x"]


@pytest.mark.parametrize("away", ["", "nas", "nas/deep"])
@pytest.mark.parametrize("pruned", [(), (0,)])
def test_images_of_unavailable_folder_are_gone_but_not_removed(away: str, pruned: tuple[int, ...]) -> None:
    index = [known((0, "nas/deep/x"), 1), known((0, "y"), 2), known((1, "nas/deep/x"), 3)]
    files = listing(("copy", 9), ("y", 0), away={away})
    plan = plan_of({0: files}, index, {(0, "copy"): 1}, pruned=pruned)
    assert [image.relative for image in plan.gone] == ["nas/deep/x"]
    assert (plan.away, plan.removed) == (plan.gone, [])
    assert [(reuse.file.relative, reuse.outcome) for reuse in plan.reused] == [("copy", "copied")]


def test_withheld_image_is_neither_gone_nor_indexed() -> None:
    plan = plan_of({0: listing(("y", 0), withheld={"x"})}, [known((0, "x"), 1), known((0, "y"), 2)], {}, pruned=(0,))
    assert plan.empty
    assert plan.gone == []
