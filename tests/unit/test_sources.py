"""Source folders keep their numbers and labels across runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.errors import InvalidRequest, SourceError
from sceneseek.store import Source
from sceneseek_indexer.source_scan import Folder, join_sources


def test_first_folder_has_empty_label_and_others_their_name(tmp_path: Path) -> None:
    folders = [Folder(tmp_path / name) for name in ("a", "x/b", "y/b", "z/b")]
    sources = join_sources((), folders)
    assert [source.label for source in sources.every] == ["", "b", "b-2", "b-3"]
    assert sources.read == dict(enumerate(folder.path for folder in folders))


def test_known_folders_keep_their_numbers_in_any_order(tmp_path: Path) -> None:
    known = (Source("", str(tmp_path / "a")), Source("bees", str(tmp_path / "b")))
    sources = join_sources(known, [Folder(tmp_path / "c"), Folder(tmp_path / "b"), Folder(tmp_path / "b", "bees")])
    assert sources.every == (*known, Source("c", str(tmp_path / "c")))
    assert list(sources.read) == [1, 2]


def test_symlink_to_known_folder_is_same_source(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    known = (Source("", str(tmp_path / "a")),)
    assert join_sources(known, [Folder(tmp_path / "link")]).every == known


def test_given_label_is_used_unless_taken(tmp_path: Path) -> None:
    known = (Source("bees", str(tmp_path / "b")),)
    assert join_sources(known, [Folder(tmp_path / "c", "sea")]).every[1].label == "sea"
    with pytest.raises(InvalidRequest, match="used by another folder"):
        join_sources(known, [Folder(tmp_path / "c", "bees")])
    with pytest.raises(InvalidRequest, match="has the label bees"):
        join_sources(known, [Folder(tmp_path / "b", "wasps")])


@pytest.mark.parametrize("other", ["b/inner", ".", "b/inner/deeper"])
def test_nested_folders_are_rejected(tmp_path: Path, other: str) -> None:
    known = (Source("", str(tmp_path / "b")),)
    with pytest.raises(SourceError, match="overlap"):
        join_sources(known, [Folder(tmp_path / other)])
    assert join_sources(known, [Folder(tmp_path / other)], [tmp_path / "b"]).forgotten == {0}


def test_folder_cannot_be_indexed_and_forgotten_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="both a folder to index and to --forget"):
        join_sources((Source("", str(tmp_path)),), [Folder(tmp_path)], [tmp_path])


@pytest.mark.parametrize(
    ("text", "label", "path"),
    [
        ("photos", None, "photos"),
        ("sea=photos", "sea", "photos"),
        ("/a=b/photos", None, "/a=b/photos"),
        ("=photos", None, "=photos"),
        ("exists=here", None, "exists=here"),
    ],
)
def test_label_is_parsed_before_equals_sign_unless_it_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, label: str | None, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exists=here").mkdir()
    assert Folder.parse(text) == Folder(Path(path), label)
