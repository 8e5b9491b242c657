"""Opens the store of a URL, which selects the engine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from sceneseek.errors import IndexUnavailable, InvalidRequest
from sceneseek.store.base import VectorStore
from sceneseek.store.edge import EdgeStore, Reading
from sceneseek.store.vector_cache import cache_bytes

_ADVICE = "write file: and a directory, such as file:index, or a Qdrant server's address, such as http://localhost:6333"


def open_store(url: str, searching: bool = False, brief: bool = False) -> VectorStore:
    """Open the store of a URL: ``file:DIR`` for the embedded engine, ``http(s)://HOST:PORT`` for a Qdrant server.

    The other settings of a server and the size of the vector cache are read from the environment, see `QdrantSettings`
    and `vector_cache.cache_bytes`.

    Args:
        url: of the index.
        searching: whether the process searches. If so, it retries for a second or two if the server is down; a process
            that writes retries much longer.
        brief: whether the process searches only once.

    Raises:
        InvalidRequest: the URL names no engine or contains credentials, or a setting is invalid.
        IndexUnavailable: qdrant-client is not installed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidRequest("the URL of the index cannot be parsed", _ADVICE) from None
    if parts.scheme == "file" and not parts.netloc and parts.path:
        reading: Reading = "nothing" if not searching else "graph" if brief else "everything"
        return EdgeStore(_directory(unquote(parts.path)), cache_bytes(), reading)
    if parts.scheme in ("http", "https") and parts.hostname:
        return _server(parts, port, searching)
    shown = "the URL (hidden, as it may contain a password)" if set(url) & set("@?#") else repr(url)
    raise InvalidRequest(f"{shown} is not the URL of an index", _ADVICE)


def _directory(path: str) -> Path:
    """Expand a ~, which shells do not expand after ``file:``."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InvalidRequest(f"the index {path!r} cannot be found ({error})", "write the path without ~") from error


def _server(parts: SplitResult, port: int | None, searching: bool) -> VectorStore:
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InvalidRequest(
            f"the URL of the Qdrant server {parts.hostname} contains credentials, a query or a fragment",
            "write http://HOST:PORT, and set the key in SCENESEEK_QDRANT_API_KEY",
        )
    try:
        # Imported here: a file: index needs no gRPC.
        from sceneseek.store.qdrant import QdrantSettings, QdrantStore  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in ("qdrant_client", "grpc"):
            raise
        raise IndexUnavailable(
            "an index on a server needs qdrant-client, which is not installed", "pip install 'sceneseek[qdrant]'"
        ) from error
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    address = f"{parts.scheme}://{host}" + (f":{port}" if port else "") + parts.path.rstrip("/")
    settings = QdrantSettings.from_environment()
    return QdrantStore(address, settings.for_searching() if searching else settings, cache_bytes())
