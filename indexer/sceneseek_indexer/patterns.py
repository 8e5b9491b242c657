"""Which files of a folder are wanted: patterns as in a .gitignore, matched against source-relative paths.

With no `include` every file is wanted, else those that match it; what matches `exclude` never is, and a
folder that matches `exclude` is not even entered. The last pattern that matches decides, so `!keep.png`
makes an exception of those before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from sceneseek.errors import InvalidRequest


class Patterns:
    """The `include` and `exclude` patterns of a run.

    Raises:
        InvalidRequest: one of them is no pattern.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = _spec(include) if include else None
        self._exclude = _spec(exclude) if exclude else None

    def wants(self, relative: str) -> bool:
        """Whether the file at this path belongs into the index."""
        if self._exclude is not None and self._exclude.match_file(relative):
            return False
        return self._include is None or self._include.match_file(relative)

    def enters(self, relative: str) -> bool:
        """Whether the folder at this path may hold files that are wanted."""
        return self._exclude is None or not self._exclude.match_file(f"{relative}/")


def _spec(patterns: Sequence[str]) -> GitIgnoreSpec:
    for pattern in patterns:
        try:
            usable = any(part.include is not None for part in GitIgnoreSpec.from_lines([pattern]).patterns)
        except GitIgnorePatternError:
            usable = False
        if not usable:
            hint = "write one as in a .gitignore, such as '*.png' or 'raw/'"
            raise InvalidRequest(f"{pattern!r} is no pattern", hint)
    return GitIgnoreSpec.from_lines(patterns)
