"""One URL chooses the engine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sceneseek.errors import InvalidRequest
from sceneseek.store.base import VectorStore
from sceneseek.store.edge import EdgeStore


def open_store(url: str) -> VectorStore:
    """The store behind a URL: ``file:DIR`` is the embedded engine.

    Raises:
        InvalidRequest: the URL names no engine.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return EdgeStore(Path(unquote(parts.path)))
    raise InvalidRequest(f"{url!r} names no index", "write file: and a directory, such as file:index")
