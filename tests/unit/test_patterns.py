"""Patterns read as those of a .gitignore."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.errors import InvalidRequest, SourceError
from sceneseek_indexer.walk import Patterns, list_images


@pytest.mark.parametrize(
    ("include", "exclude", "path", "wanted"),
    [
        ([], [], "a/b.png", True),
        (["*.png"], [], "a/b.png", True),
        (["*.png"], [], "a/b.jpg", False),
        (["2023/"], [], "x/2023/b.jpg", True),
        (["/2023/"], [], "x/2023/b.jpg", False),
        ([], ["raw/"], "raw/b.jpg", False),
        ([], ["*.jpg", "!keep.jpg"], "keep.jpg", True),
        (["*.jpg"], ["thumb*"], "thumb.jpg", False),
        ([], ["caf*"], "caf\udce9.jpg", False),
        ([], ["a?b.jpg"], "a\nb.jpg", False),
        ([], ["Bücher/"], "Bu\u0308cher/b.jpg", False),
        ([], ["Bu\u0308cher/"], "Bücher/b.jpg", False),
        (["zürich*"], [], "zu\u0308rich.jpg", True),
        ([], ["b?cher.jpg"], "bu\u0308cher.jpg", False),
    ],
)
def test_the_last_pattern_that_matches_decides(include: list[str], exclude: list[str], path: str, wanted: bool) -> None:
    assert Patterns(include, exclude).wants(path) is wanted


@pytest.mark.parametrize("pattern", ["", "!", "\\", "#", "/", "["])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="is no pattern"):
        Patterns(exclude=[pattern])


def test_an_excluded_folder_is_not_entered_and_named_once(tmp_path: Path) -> None:
    for name in ("keep/a.jpg", "raw/b.jpg", "raw/deep/c.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listing = list_images(tmp_path, Patterns(exclude=["raw/"]))
    assert [file.relative for file in listing.files] == ["keep/a.jpg"]
    assert [(e.relative, e.reason) for e in listing.ignored] == [("notes.txt", "other-kind"), ("raw", "excluded")]
    with pytest.raises(SourceError, match="patterns leave no image"):
        list_images(tmp_path, Patterns(include=["*.png"]))
