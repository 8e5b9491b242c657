"""The engines behind `VectorStore`, for contract tests that run against all of them.

``played`` and ``played-grpc`` are the real client over HTTP and gRPC against a fake Qdrant server; see
`tests.played_qdrant` and `tests.played_grpc`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from sceneseek.payload import relative_path
from sceneseek.store import VectorStore, open_store
from sceneseek.store.qdrant import QdrantSettings, QdrantStore

ENGINES = ["edge", "played", "played-grpc", "server"]
SERVER = "SCENESEEK_TEST_QDRANT_URL"
on_edge = pytest.mark.parametrize("store", ["edge"], indirect=True)
on_qdrant = pytest.mark.parametrize("store", ["played", "played-grpc", "server"], indirect=True)


def adopted(index: Path, folder: Path, original: Path) -> VectorStore:
    """Rewrite a copied index of `original` with the path and file times of `folder`, a copy of `original`."""
    (manifest,) = index.glob("generations/*/generation.json")
    raw = json.loads(manifest.read_text().replace(str(original), str(folder)))
    manifest.write_text(json.dumps({**raw, "files": {}}))  # the times are set below
    store = open_store(f"file:{index}")
    collection = store.open(str(store.live()))
    times = {r.id: (folder / relative_path(r.payload)).stat().st_ctime_ns for r in collection.scroll()}
    collection.set_payload({identity: {"ctime_ns": time} for identity, time in times.items()})
    collection.close()
    return store


@contextmanager
def opened(engine: str, directory: Path) -> Iterator[VectorStore]:
    """Open an empty store of the engine; on a real server, its collections are deleted at the end."""
    if engine == "edge":
        yield open_store(f"file:{directory}/index")
    elif engine.startswith("played"):
        with _played(over_grpc=engine == "played-grpc") as store:
            yield store
    else:
        url = os.environ.get(SERVER)
        if not url:
            pytest.skip(f"{SERVER} names no Qdrant server")
        store = QdrantStore(url, replace(QdrantSettings.from_environment(), alias=f"test-{uuid.uuid4().hex[:12]}"))
        try:
            yield store
        finally:
            for name in store._names():
                if name.startswith(store._prefix):
                    store._connection.call(partial(QdrantClient.delete_collection, collection_name=name))
            store.close()


@contextmanager
def _played(over_grpc: bool) -> Iterator[QdrantStore]:
    from tests.played_grpc import PlayedGrpc  # noqa: PLC0415
    from tests.played_qdrant import PlayedQdrant  # noqa: PLC0415

    http = PlayedQdrant()
    grpc = PlayedGrpc(http.client, http.guard)
    with http.serving(), grpc.serving(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.01)  # the fake server is always green
        settings = QdrantSettings(prefer_grpc="yes" if over_grpc else "no", grpc_port=grpc.port, patience=5.0)
        store = QdrantStore(http.url, settings)
        yield store
        store.close()
        assert over_grpc or not grpc.seen


def another(store: VectorStore) -> VectorStore:
    """Return a second store over the same index."""
    if isinstance(store, QdrantStore):
        return QdrantStore(store.url, store.settings)
    return open_store(store.url)
