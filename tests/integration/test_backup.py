"""Back up a `file:` index as docs/how-to/operations.md says: copied while a service answers, restored, served."""

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
    """An index of the gallery that belongs to one test."""
    return Path(shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index"))


def told(first_words: str) -> str:
    """The page's command that begins so."""
    (line,) = re.findall(rf"^{re.escape(first_words)}.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line)


def as_told(command: str, where: Path) -> None:
    subprocess.run(["bash", "-e", "-c", command], check=True, cwd=where)


def answers(index: Path, bundle: Bundle) -> list[tuple[str, float | None]]:
    search = Search(ModelRegistry(bundle), open_store(f"file:{index}"))
    try:
        return [(result.id, result.score) for result in search.query(Query(text="a red circle", k=5)).results]
    finally:
        search.close()


def test_a_copy_taken_while_a_service_answers_gives_the_same_answers(index: Path, bundle: Bundle) -> None:
    serving = Search(ModelRegistry(bundle), open_store(f"file:{index}"))
    try:
        as_told(told("cp --recursive --sparse=always index "), index.parent)
        before = [(result.id, result.score) for result in serving.query(Query(text="a red circle", k=5)).results]
    finally:
        serving.close()
    shutil.rmtree(index)

    restore, _, serve = told("cp --recursive --sparse=always index.backup ").partition(" && ")
    assert serve == "sceneseek serve"
    as_told(restore, index.parent)
    assert answers(index, bundle) == before


def test_the_alias_goes_back_to_the_generation_before(
    index: Path, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    store = open_store(f"file:{index}")
    before = store.live()
    folder = Path(shutil.copytree(gallery, tmp_path / "others"))
    index_folder(folder, bundle, store)
    assert store.live() != before
    (line,) = re.findall(r"`ls -t index/generations; (echo .*)`", PAGE.read_text(encoding="utf-8"))
    as_told(line.replace("THE_ONE_BEFORE", str(before)), index.parent)
    assert store.live() == before
    assert answers(index, bundle)
