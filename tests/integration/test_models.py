"""Switching bundle and generation together: a generation is served with the models of its bundle."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sceneseek.bundle import MANIFEST, Bundle
from sceneseek.errors import IndexUnavailable
from sceneseek.models import ModelRegistry
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import VectorStore, open_store
from sceneseek_indexer.build import index_folder


def changed(bundle: Bundle, out: Path, **changes: object) -> Bundle:
    """A copy of a bundle with a changed manifest, as if another model had been exported."""
    shutil.copytree(bundle.path, out, dirs_exist_ok=True)
    bundle.manifest.changed(**changes).write(out / MANIFEST)
    return Bundle.load(out)


def other_image_graph(bundle: Bundle, out: Path) -> Bundle:
    """A copy of a bundle with different preprocessing, hence a different image fingerprint."""
    inputs = tuple(replace(spec, fit="letterbox") for spec in bundle.manifest.image_inputs)
    return changed(bundle, out, image_inputs=inputs)


@pytest.fixture
def one(bundle: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(bundle.path, tmp_path / "bundles" / "one")
    return Bundle.load(tmp_path / "bundles" / "one")


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return open_store(f"file:{tmp_path}/index")


@pytest.fixture
def search(bundle: Bundle, one: Bundle, store: VectorStore, index_url: str, tmp_path: Path) -> Iterator[Search]:
    """A search over a copy of the shared index, as if indexed with `one`."""
    shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    (info,) = (tmp_path / "index" / "generations").glob("*/generation.json")
    info.write_text(info.read_text().replace(str(bundle.path), str(one.path)))
    pipeline = Search(ModelRegistry(one, "cpu"), store)
    yield pipeline
    pipeline.close()


def answering(search: Search) -> tuple[str, str]:
    answer = search.query(Query(text="a red circle"))
    assert answer.results
    return answer.bundle, answer.generation


def test_generation_is_served_with_the_bundle_that_indexed_it(
    search: Search, one: Bundle, store: VectorStore, gallery: Path, tmp_path: Path
) -> None:
    two = other_image_graph(one, tmp_path / "elsewhere" / "two")  # found by the path recorded in the generation
    before = answering(search)
    report = index_folder(gallery, two, store)
    assert answering(search) == before
    assert search.follower.refresh()
    assert answering(search) == (two.manifest.fingerprints.bundle, report.generation)
    assert search.bundle.path == two.path


def test_restart_with_old_bundle_uses_sibling_bundle_and_logs_warning(
    one: Bundle, store: VectorStore, gallery: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two = other_image_graph(one, tmp_path / "built" / "two")
    index_folder(gallery, two, store)
    two.path.rename(one.path.with_name("two"))  # not at the recorded path, but next to the service's own bundle
    restarted = Search(ModelRegistry(one, "cpu"), store)
    try:
        assert answering(restarted)[0] == two.manifest.fingerprints.bundle
        (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        filled = f"generation {restarted.follower.name} was filled by {one.path.with_name('two')}"
        assert warning == f"the bundle {one.path} is not used: {filled}, which is used instead"
    finally:
        restarted.close()


def test_generation_is_not_followed_without_its_bundle(
    search: Search, one: Bundle, store: VectorStore, gallery: Path, tmp_path: Path
) -> None:
    two = other_image_graph(one, tmp_path / "elsewhere" / "two")
    index_folder(gallery, two, store)
    shutil.rmtree(two.path)
    before = answering(search)
    assert not search.follower.refresh()
    assert answering(search) == before
    assert "another image graph" in str(search.follower.problem)
    with pytest.raises(IndexUnavailable, match="another image graph"):
        Search(ModelRegistry(one, "cpu"), store)


def test_generation_is_followed_once_its_bundle_exists(
    search: Search,
    one: Bundle,
    store: VectorStore,
    gallery: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = other_image_graph(one, tmp_path / "elsewhere" / "two")
    index_folder(gallery, two, store)
    two.path.rename(tmp_path / "on its way")
    assert not search.follower.refresh()
    (tmp_path / "on its way").rename(one.path.with_name("two"))
    assert not search.follower.refresh()  # the check is rate-limited
    monkeypatch.setattr("sceneseek.alias_follower._RETRY_SECONDS", 0)
    assert search.follower.refresh()
    assert search.follower.problem is None
    assert answering(search)[0] == two.manifest.fingerprints.bundle


def test_replaced_bundle_with_same_image_graph_is_used_without_reindexing(
    search: Search, one: Bundle, tmp_path: Path
) -> None:
    before = answering(search)
    head = replace(one.manifest.head, validation={"note": "trained again"})
    fresh = changed(one, tmp_path / "fresh", head=head)
    shutil.copy(fresh.path / MANIFEST, tmp_path / "manifest")
    (tmp_path / "manifest").replace(one.path / MANIFEST)
    assert search.follower.refresh()
    assert answering(search) == (fresh.manifest.fingerprints.bundle, before[1])
    assert not search.follower.refresh()


def test_replaced_bundle_with_different_image_graph_waits_for_reindexing(
    search: Search, one: Bundle, store: VectorStore, gallery: Path, tmp_path: Path
) -> None:
    before = answering(search)
    fresh = other_image_graph(one, tmp_path / "fresh")
    shutil.copy(fresh.path / MANIFEST, tmp_path / "manifest")
    (tmp_path / "manifest").replace(one.path / MANIFEST)
    assert not search.follower.refresh()
    assert answering(search) == before
    assert "index the folder again" in str(search.follower.problem)
    index_folder(gallery, Bundle.load(one.path), store)
    assert search.follower.refresh()
    assert search.follower.problem is None
    assert answering(search)[0] == fresh.manifest.fingerprints.bundle


def test_generation_records_bundle_directory(one: Bundle, store: VectorStore, gallery: Path) -> None:
    index_folder(gallery, one, store)
    assert store.generations()[0].bundle == str(one.path.resolve())
