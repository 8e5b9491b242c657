"""Indexing and exporting on a full disk is one error that names the directory, and the live index stays."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from tests.command_line import PROGRAM, CommandLine


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 MB: ext4, since a tmpfs takes memory for the holes of the engine's sparse files too."""
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


def leave(disk: Path, megabytes: int) -> None:
    """Fill a disk so that so much is free."""
    with (disk / "ballast").open("wb") as ballast:
        while (free := shutil.disk_usage(disk).free - megabytes * 2**20) > 0:
            ballast.write(bytes(min(free, 2**20)))
            ballast.flush()


@pytest.mark.parametrize("megabytes", [1, 12, 40])
def test_a_full_disk_is_an_error_before_anything_is_encoded(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, small_disk: Path, megabytes: int
) -> None:
    leave(small_disk, megabytes)
    done = sceneseek.process("index", gallery, "--index", f"file:{small_disk}/index", SCENESEEK_BUNDLE=str(bundle.path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: the disk of the index {small_disk}/index is full: 67 MB are needed, ")


def test_a_disk_that_has_become_full_leaves_the_live_index(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, small_disk: Path, tmp_path: Path
) -> None:
    places = {"SCENESEEK_BUNDLE": str(bundle.path), "SCENESEEK_INDEX": f"file:{small_disk}/index"}
    photos = Path(shutil.copytree(gallery, tmp_path / "photos"))
    assert sceneseek.process("index", photos, **places).returncode == 0
    shutil.copy(next(photos.glob("*/*.png")), photos / "copied.png")
    leave(small_disk, 20)
    done = sceneseek.process("index", photos, **places)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"the disk of the index {small_disk}/index is full" in done.stderr
    (small_disk / "ballast").unlink()
    (generation,) = json.loads(sceneseek.process("index", "status", "--json", **places).stdout)
    assert generation["live"]
    assert "copied 1" in sceneseek.process("index", photos, **places).stdout


@pytest.mark.parametrize("command", ["index", "export"])
def test_a_limit_on_files_is_an_error_that_names_the_directory(
    bundle: Bundle, gallery: Path, tmp_path: Path, command: str
) -> None:
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
