"""May an answer name files? One setting, asked by every view, and what follows from it for filters.

With paths hidden, images are known by their ids alone. An id is a hash of the image's path within its folder, so
whoever guesses a whole path can still tell that it is there; but not by steps: filters that could confirm a folder
at a time are refused.
"""

from __future__ import annotations

from flask import Flask, current_app

from sceneseek.errors import InvalidRequest
from sceneseek.filters import All, AnyPart, Filter, InFolder, Not

SETTING = "SHOW_PATHS"
# What of the payload tells where a file lies. `dhash` and `sha256` tell of its content, which may be fetched anyway.
_PLACES = frozenset({"path", "path_bytes", "folders", "source"})


def set_paths(app: Flask, show: bool) -> None:
    """Decide for an application."""
    app.config[SETTING] = show


def shows_paths() -> bool:
    """Whether answers may hold paths and names of files; not unless somebody decided so."""
    return bool(current_app.config.get(SETTING, False))


def check_filter(where: Filter | None) -> None:
    """Let a filter pass that tells nothing of paths, or any where paths are shown.

    Raises:
        InvalidRequest: it asks for a path or a folder, and these are hidden.
    """
    if where is not None and not shows_paths() and _asks_for_place(where):
        raise InvalidRequest(
            "the filter asks for a path or folder, which this service does not show",
            "filter by another field, or have it started with --show-paths",
        )


def _asks_for_place(where: Filter) -> bool:
    if isinstance(where, All | AnyPart):
        return any(_asks_for_place(part) for part in where.parts)
    if isinstance(where, Not):
        return _asks_for_place(where.part)
    return isinstance(where, InFolder) or where.field[0] in _PLACES
