"""Indexing, updating and searching a folder work alike on every engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import VectorStore
from sceneseek_indexer.build import index_folder
from tests.drawing import NAMES, draw_gallery


def test_folder_is_indexed_updated_and_searched(
    bundle: Bundle, store: VectorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = draw_gallery(tmp_path / "photos")
    first = index_folder(photos, bundle, store)
    assert (first.indexed, first.unchanged) == (len(NAMES), 0)
    with monkeypatch.context() as patch:
        # A run without changes creates, copies and deletes nothing, also if the folder has a broken file.
        for method in ("create", "resume", "publish", "discard", "glance"):
            patch.setattr(store, method, lambda *_, name=method, **__: pytest.fail(f"{name} is called"))
        (photos / "broken.jpg").write_text("words")
        again = index_folder(photos, bundle, store)
    assert len(again.skipped) == 1
    assert (again.indexed, again.unchanged, again.generation) == (0, len(NAMES), first.generation)
    (photos / "scenes/meadow.webp").write_bytes((photos / "scenes/house.bmp").read_bytes())
    changed = index_folder(photos, bundle, store)
    assert (changed.usable, store.live()) == (len(NAMES), changed.generation)
    assert {info.name for info in store.generations()} == {first.generation, changed.generation}
    search = Search(ModelRegistry(bundle, "cpu"), store)
    results = search.query(Query(text="the sea", k=len(NAMES), filter=["path^=shapes"])).results
    search.close()
    assert {result.path for result in results} == {name for name in NAMES if name.startswith("shapes/")}
