"""A full disk causes a one-line error that names the directory, and no existing data is lost."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from PIL.Image import Image

from sceneseek.bundle import Bundle
from sceneseek.errors import NoSpace
from sceneseek.payload import point_id
from sceneseek.pending_changes import Change, PendingChanges
from tests.command_line import PROGRAM, CommandLine


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A 100 MB ext4 file system; a tmpfs would allocate memory for holes in the engine's sparse files."""
    disk, image = tmp_path / "disk", tmp_path / "image"
    disk.mkdir()
    image.touch()
    os.truncate(image, 100 * 2**20)
    make = 'mkfs.ext4 -q -O ^has_journal "$0" && mount -o loop "$0" "$1"'
    done = subprocess.run(["sh", "-c", make, image, disk], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill_except(disk: Path, megabytes: int) -> None:
    """Fill a disk until only `megabytes` are free."""
    with (disk / "ballast").open("wb") as ballast:
        while (free := shutil.disk_usage(disk).free - megabytes * 2**20) > 0:
            ballast.write(bytes(min(free, 2**20)))
            ballast.flush()


@pytest.mark.parametrize("megabytes", [1, 12, 40])
def test_index_reports_full_disk_before_encoding(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, small_disk: Path, megabytes: int
) -> None:
    fill_except(small_disk, megabytes)
    done = sceneseek.process("index", gallery, "--index", f"file:{small_disk}/index", SCENESEEK_BUNDLE=str(bundle.path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: the disk of the index {small_disk}/index is full: 67 MB are needed, ")


def test_index_keeps_live_generation_on_full_disk(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, small_disk: Path, tmp_path: Path
) -> None:
    places = {"SCENESEEK_BUNDLE": str(bundle.path), "SCENESEEK_INDEX": f"file:{small_disk}/index"}
    photos = Path(shutil.copytree(gallery, tmp_path / "photos"))
    assert sceneseek.process("index", photos, **places).returncode == 0
    shutil.copy(next(photos.glob("*/*.png")), photos / "copied.png")
    fill_except(small_disk, 20)
    done = sceneseek.process("index", photos, **places)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"the disk of the index {small_disk}/index is full" in done.stderr
    (small_disk / "ballast").unlink()
    (generation,) = json.loads(sceneseek.process("index", "status", "--json", **places).stdout)
    assert generation["live"]
    assert "copied 1" in sceneseek.process("index", photos, **places).stdout


def fill(disk: Path) -> None:
    """Fill a disk to the last block."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def test_pending_changes_reject_uploads_and_keep_images_on_full_disk(
    small_disk: Path, noise: Callable[[int, int], Image]
) -> None:
    pending, picture = PendingChanges(small_disk), BytesIO()
    pending.prepare()
    noise(200, 200).save(picture, "PNG")

    def put(path: str) -> Change:
        picture.seek(0)
        with pending.receive() as received:
            received.write(picture)
            return pending.put(point_id(path), path, received, if_none=True)

    put("a.png")
    fill(small_disk)
    for change in (partial(put, "b.png"), partial(pending.delete, point_id("a.png"), "a.png")):
        with pytest.raises(NoSpace, match="there is no room for more pictures"):
            change()
    assert [path.name for path in small_disk.glob("*.png")] == ["a.png"]
    assert (small_disk / "a.png").read_bytes() == picture.getvalue()
    assert [change.path for change in pending.all().values()] == ["a.png"]
    (small_disk / "ballast").unlink()
    assert put("b.png").open


@pytest.mark.parametrize("command", ["index", "export"])
def test_file_size_limit_error_names_directory(bundle: Bundle, gallery: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out"
    rest = [gallery, "--bundle", bundle.path, "--index", f"file:{out}"] if command == "index" else ["--out", out]
    limit = (1_000_000, 1_000_000)
    done = subprocess.run(
        [PROGRAM, command, *map(str, rest)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert str(out) in last
    assert "File too large" in last
    assert "bug" not in last
