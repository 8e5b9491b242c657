"""Backup and restore of a `file:` index with the commands of docs/how-to/operations.md, during service."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek_indexer.build import index_folder

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "operations.md"


@pytest.fixture
def index(index_url: str, tmp_path: Path) -> Path:
    """A copy of the gallery's index for one test."""
    return Path(shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index"))


def documented_command(prefix: str) -> str:
    """The command of the page with this prefix."""
    (line,) = re.findall(rf"^{re.escape(prefix)}.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line)


def run_shell(command: str, cwd: Path) -> None:
    subprocess.run(["bash", "-e", "-c", command], check=True, cwd=cwd)


def answers(index: Path, bundle: Bundle) -> list[tuple[str, float | None]]:
    search = Search(ModelRegistry(bundle), open_store(f"file:{index}"))
    try:
        return [(result.id, result.score) for result in search.query(Query(text="a red circle", k=5)).results]
    finally:
        search.close()


def test_backup_taken_during_service_restores_same_results(index: Path, bundle: Bundle) -> None:
    serving = Search(ModelRegistry(bundle), open_store(f"file:{index}"))
    try:
        run_shell(documented_command("cp --recursive --sparse=always index "), index.parent)
        before = [(result.id, result.score) for result in serving.query(Query(text="a red circle", k=5)).results]
    finally:
        serving.close()
    shutil.rmtree(index)

    restore, _, serve = documented_command("cp --recursive --sparse=always index.backup ").partition(" && ")
    assert serve == "sceneseek serve"
    run_shell(restore, index.parent)
    assert answers(index, bundle) == before


def test_documented_command_rolls_alias_back_to_previous_generation(
    index: Path, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    store = open_store(f"file:{index}")
    before = store.live()
    folder = Path(shutil.copytree(gallery, tmp_path / "others"))
    index_folder(folder, bundle, store)
    assert store.live() != before
    (line,) = re.findall(r"`ls -t index/generations; (echo .*)`", PAGE.read_text(encoding="utf-8"))
    run_shell(line.replace("THE_ONE_BEFORE", str(before)), index.parent)
    assert store.live() == before
    assert answers(index, bundle)
