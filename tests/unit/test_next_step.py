"""Hints suggest the next command, depending on what already exists, in a form that can be run."""

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
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to an empty directory."""
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
def test_export_command_writes_the_bundle_to_its_path(bundle: str, command: str) -> None:
    assert export_command(Path(bundle)) == command


def test_packs_in_hints_equal_those_of_export() -> None:
    assert list(PACKS) == pack_names()


def test_index_command_has_only_non_default_options() -> None:
    assert index_command(DEFAULT_INDEX) == "sceneseek index DIR"
    other = ("file:my index", Path("b"))
    assert index_command(*other) == "sceneseek index DIR --bundle b --index 'file:my index'"
    assert public_index_command(*other) == "sceneseek index DIR --bundle BUNDLE --index INDEX"
    assert public_index_command(DEFAULT_INDEX) == "sceneseek index DIR"


def test_missing_hints_name_an_existing_bundle_or_index() -> None:
    assert missing_bundle_hint(DEFAULT_BUNDLE) == "run `sceneseek export`"
    assert "add" not in missing_index_hint(DEFAULT_INDEX)
    bundle_at(Path("bundles/clip"))
    index_at(".cache/demo-index")
    assert missing_bundle_hint(DEFAULT_BUNDLE).endswith(", or add `--bundle bundles/clip` to use the existing one")
    suffix = ", or add `--index file:.cache/demo-index` to use the existing one"
    assert missing_index_hint(DEFAULT_INDEX).endswith(suffix)
    assert not missing_index_hint("http://localhost:6333").endswith(suffix)
    index_at("index")
    assert missing_index_hint("file:indx").endswith(", or add `--index file:index` to use the existing one")


def test_next_steps_lead_from_export_to_search() -> None:
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
    server = "http://localhost:6333"  # the server is not queried
    assert steps(server)[0] == f"Index a folder: `sceneseek index DIR --index {server}` (DIR: a folder of pictures)"
    assert len(steps(server)) == 3
