"""`make up`, `make reindex` and `make down`, and their errors."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import compose
from tests.stack import EXAMPLE, KEYS, ROOT


def test_missing_docker_error_suggests_installation() -> None:
    for goal in ("up", "down", "reindex"):
        done = make(goal, "DOCKER=no-such-docker")
        assert done.returncode == 2
        assert "no-such-docker compose does not run: install Docker Engine" in done.stderr
        assert "Traceback" not in done.stderr


def test_unknown_profile_is_rejected() -> None:
    assert "PROFILE is cpu or gpu, not tpu" in make("up", "PROFILE=tpu", "DOCKER=true").stderr


def test_images_folder_with_spaces_is_passed_to_indexer(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$SCENESEEK_IMAGES: $*"\n')
    docker.chmod(0o755)
    settings = ROOT / ".env"
    done = make("reindex", f"DOCKER={docker}", f"IMAGES={folder}", "CLUSTER=1", f"--assume-old={settings.name}")
    assert done.returncode == 0, done.stderr
    files = "-f docker-compose.yml -f docker-compose.cluster.yml"
    assert f"{folder}: compose {files} up --detach --wait balancer\n" in done.stdout
    assert f"{folder}: compose {files} run --rm index-cpu index /images\n" in done.stdout


@pytest.mark.parametrize("images", ["no such folder", "a file", ""])
@pytest.mark.parametrize("goal", ["up", "reindex"])
def test_missing_images_folder_is_rejected(tmp_path: Path, goal: str, images: str) -> None:
    (tmp_path / "a file").touch()
    folder = tmp_path / images if images else ""
    done = make(goal, "DOCKER=false", f"IMAGES={folder}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"there is no folder '{folder}': set IMAGES to the folder of your pictures\n")


def test_settings_are_created_from_example_with_random_keys(tmp_path: Path) -> None:
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, tmp_path)
    assert make(".env", where=tmp_path).returncode == 0
    made = tmp_path / ".env"
    settings = compose.settings(made.read_text())
    keys = {settings[name] for name in KEYS}
    assert len(keys) == len(KEYS)
    assert all(re.fullmatch("[0-9a-f]{48}", key) for key in keys)
    assert {**settings, **dict.fromkeys(KEYS, "")} == compose.settings(EXAMPLE)
    assert made.stat().st_mode & 0o077 == 0


def make(*arguments: str, where: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=where, capture_output=True, text=True, check=False, timeout=60
    )
