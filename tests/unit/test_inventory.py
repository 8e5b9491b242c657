"""The inventory preserves file names, times and order, and reports a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sceneseek_indexer.inventory import Known, open_inventory, place
from sceneseek_indexer.sync_plan import files_to_hash, make_plan
from sceneseek_indexer.walk import ImageFile, Listing

NAMES = ["a/b.png", "a.png", "\udce9.png", "\ud7ff.png", "\U0001f600.png", "\ue000.png", "line\nbreak.png"]


@pytest.mark.parametrize("time_ns", [0, -1, 1 << 62, 13_569_465_600_000_000_000])
def test_files_and_images_keep_insertion_order(time_ns: int) -> None:
    files = [ImageFile(name, Path("/photos"), 5, time_ns, 3, time_ns) for name in NAMES]
    images = [Known(ascii(name), 3, name, 5, time_ns, "hash", ctime_ns=time_ns) for name in reversed(NAMES)]
    with open_inventory() as inventory:
        for file in files:
            inventory.add_file(file)
        inventory.add_images(images)
        assert (list(inventory.files()), list(inventory.images())) == (files, images)
        plan = make_plan(inventory, {3: Listing()})
        assert [image.relative for image in plan.unchanged] == NAMES


def test_images_with_same_content_are_renamed_in_name_order() -> None:
    with open_inventory() as inventory:
        for number in range(len(NAMES)):
            inventory.add_file(ImageFile(f"new {number}", Path("/photos"), 5, 1))
        inventory.add_images(Known(ascii(name), 0, name, 5, 0, "hash") for name in NAMES)
        inventory.add_hashes((file, "hash") for file in files_to_hash(inventory))
        plan = make_plan(inventory, {0: Listing()})
        assert [reuse.origin.relative for reuse in plan.reused] == sorted(NAMES)
        assert {reuse.outcome for reuse in plan.reused} == {"renamed"}


def test_has_finds_files_and_images_by_place() -> None:
    file, image = ImageFile("\udce9.png", Path("/photos"), 5, 0), Known("id", 1, "\udce9.png", 5, 0, "hash")
    with open_inventory() as inventory:
        inventory.add_file(file)
        inventory.add_images([image])
        assert (inventory.has(place(file)), inventory.has_image(place(file))) == (True, False)
        assert (inventory.has(place(image)), inventory.has_image(place(image))) == (True, True)
        assert not inventory.has((0, "other.png"))


def test_mapping_keeps_last_value_and_first_insertion_order() -> None:
    with open_inventory() as inventory:
        one, other = inventory.mapping(), inventory.mapping()
        for key, value in ((2, "two"), ((0, "\udce9"), {"path": "\udce9"}), (2, "again")):
            one[key] = value
        assert list(one.values()) == ["again", {"path": "\udce9"}]
        assert (one.get(2), one.get(3), other.get(2)) == ("again", None, None)


FULL = """
import resource, signal
from pathlib import Path
from sceneseek.errors import IndexUnavailable
from sceneseek_indexer.inventory import open_inventory
from sceneseek_indexer.walk import ImageFile
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    with open_inventory() as inventory:
        for number in range(2_000_000):
            inventory.add_file(ImageFile(f"{number:0100}.png", Path("/photos"), 1, 1))
except IndexUnavailable as error:
    print(error)
"""


def test_full_disk_error_mentions_sqlite_tmpdir() -> None:
    out = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=True).stdout
    assert "the temporary database of the run cannot be used (" in out
    assert "SQLITE_TMPDIR" in out
