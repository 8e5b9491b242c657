"""The next command is named by what is there already, and can be typed as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.next_step import (
    DEFAULT_BUNDLE,
    DEFAULT_INDEX,
    PACKS,
    export_command,
    index_command,
    missing_bundle_hint,
    missing_index_hint,
    next_steps,
    public_index_command,
)
from sceneseek_export.packs import pack_names


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to be in."""
    monkeypatch.chdir(tmp_path)


def bundle_at(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "manifest.json").write_text("{}")


def index_at(path: str) -> None:
    Path(path).mkdir(parents=True)
    (Path(path) / "alias-images").write_text("one")


@pytest.mark.parametrize(
    ("bundle", "command"),
    [
        ("bundles/compact", "sceneseek export"),
        ("bundles/clip", "sceneseek export --pack clip"),
        ("/bundles/clip", "sceneseek export --pack clip --out /bundles/clip"),
        ("my bundle", "sceneseek export --out 'my bundle'"),
    ],
)
def test_a_bundle_s_command_writes_it_where_it_is_looked_for(bundle: str, command: str) -> None:
    assert export_command(Path(bundle)) == command


def test_the_packs_that_hints_know_are_those_that_export_ships() -> None:
    assert list(PACKS) == pack_names()


def test_an_index_command_has_the_options_that_are_not_the_default() -> None:
    assert index_command(DEFAULT_INDEX) == "sceneseek index DIR"
    other = ("file:my index", Path("b"))
    assert index_command(*other) == "sceneseek index DIR --bundle b --index 'file:my index'"
    assert public_index_command(*other) == "sceneseek index DIR --bundle BUNDLE --index INDEX"
    assert public_index_command(DEFAULT_INDEX) == "sceneseek index DIR"


def test_a_bundle_or_an_index_that_is_elsewhere_is_named() -> None:
    assert missing_bundle_hint(DEFAULT_BUNDLE) == "run `sceneseek export`"
    assert "add" not in missing_index_hint(DEFAULT_INDEX)
    bundle_at(Path("bundles/clip"))
    index_at(".cache/demo-index")
    assert missing_bundle_hint(DEFAULT_BUNDLE).endswith(", or add `--bundle bundles/clip` to use the existing one")
    there = ", or add `--index file:.cache/demo-index` to use the existing one"
    assert missing_index_hint(DEFAULT_INDEX).endswith(there)
    assert not missing_index_hint("http://localhost:6333").endswith(there)
    index_at("index")
    assert missing_index_hint("file:indx").endswith(", or add `--index file:index` to use the existing one")


def test_hints_lead_from_export_to_a_search() -> None:
    def steps(index_url: str = DEFAULT_INDEX) -> list[str]:
        return next_steps(DEFAULT_BUNDLE, index_url)

    assert steps() == ["There is no bundle of models in bundles/compact yet: run `sceneseek export`"]
    bundle_at(DEFAULT_BUNDLE)
    index = "`sceneseek index DIR` (DIR: a folder of pictures)"
    assert steps() == [f"Nothing is indexed yet: {index}"]
    index_at(".cache/demo-index")
    assert steps() == [
        "Search: `sceneseek search 'two dogs in the snow' --index file:.cache/demo-index`",
        "Search in a browser: `sceneseek serve --index file:.cache/demo-index`",
        f"Nothing is indexed in file:index yet: {index}",
    ]
    index_at("index")
    searches = ["Search: `sceneseek search 'two dogs in the snow'`", "Search in a browser: `sceneseek serve`"]
    assert steps() == searches
    server = "http://localhost:6333"  # which is not asked what it holds
    assert steps(server)[0] == f"Index a folder: `sceneseek index DIR --index {server}` (DIR: a folder of pictures)"
    assert len(steps(server)) == 3
