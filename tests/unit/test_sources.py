"""Folders keep their numbers and labels from run to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.errors import InvalidRequest, SourceError
from sceneseek.store import Source
from sceneseek_indexer.source_scan import Folder, join_sources


def test_the_first_folder_has_no_label_and_later_ones_their_names(tmp_path: Path) -> None:
    folders = [Folder(tmp_path / name) for name in ("a", "x/b", "y/b", "z/b")]
    sources = join_sources((), folders)
    assert [source.label for source in sources.every] == ["", "b", "b-2", "b-3"]
    assert sources.read == dict(enumerate(folder.path for folder in folders))


def test_known_folders_keep_their_places_in_whatever_order_they_are_named(tmp_path: Path) -> None:
    known = (Source("", str(tmp_path / "a")), Source("bees", str(tmp_path / "b")))
    sources = join_sources(known, [Folder(tmp_path / "c"), Folder(tmp_path / "b"), Folder(tmp_path / "b", "bees")])
    assert sources.every == (*known, Source("c", str(tmp_path / "c")))
    assert list(sources.read) == [1, 2]


def test_a_link_to_a_known_folder_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    known = (Source("", str(tmp_path / "a")),)
    assert join_sources(known, [Folder(tmp_path / "link")]).every == known


def test_labels_are_the_users_where_they_are_free(tmp_path: Path) -> None:
    known = (Source("bees", str(tmp_path / "b")),)
    assert join_sources(known, [Folder(tmp_path / "c", "sea")]).every[1].label == "sea"
    with pytest.raises(InvalidRequest, match="another folder's"):
        join_sources(known, [Folder(tmp_path / "c", "bees")])
    with pytest.raises(InvalidRequest, match="as bees"):
        join_sources(known, [Folder(tmp_path / "b", "wasps")])


@pytest.mark.parametrize("other", ["b/inner", ".", "b/inner/deeper"])
def test_no_folder_may_lie_in_another(tmp_path: Path, other: str) -> None:
    known = (Source("", str(tmp_path / "b")),)
    with pytest.raises(SourceError, match="one lies in the other"):
        join_sources(known, [Folder(tmp_path / other)])
    assert join_sources(known, [Folder(tmp_path / other)], [tmp_path / "b"]).forgotten == {0}


def test_a_folder_cannot_be_read_and_forgotten(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="name it once"):
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
def test_a_label_is_what_stands_before_the_equals_sign_unless_that_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, label: str | None, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exists=here").mkdir()
    assert Folder.parse(text) == Folder(Path(path), label)
