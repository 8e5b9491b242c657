"""The service never writes to Qdrant, so that it can run with a read-only API key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest

from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.search import Search
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek_indexer.build import index_folder
from sceneseek_server.app import create_app
from sceneseek_server.feedback import FeedbackStore
from sceneseek_server.service import AccessSettings
from tests.played_grpc import PlayedGrpc
from tests.played_qdrant import PlayedQdrant

# The requests of the fake server that Qdrant allows with a read-only key.
_READS_BY_HTTP = re.compile(r"GET .*|POST /collections/[^/]+/points(/(query|scroll|count))?/?")
_READS_BY_GRPC = {"HealthCheck", "Get", "List", "ListAliases", "Query", "Scroll", "Count"}


@pytest.mark.parametrize("prefer_grpc", ["no", "yes"], ids=["http", "grpc"])
def test_service_sends_only_read_requests_to_qdrant(
    bundle: Bundle, gallery: Path, tmp_path: Path, prefer_grpc: Literal["no", "yes"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.01)
    http = PlayedQdrant()
    grpc = PlayedGrpc(http.client, http.guard)
    with http.serving(), grpc.serving():
        settings = QdrantSettings(prefer_grpc=prefer_grpc, grpc_port=grpc.port)
        writer = QdrantStore(http.url, settings)
        index_folder(gallery, bundle, writer)
        writer.close()
        assert not only_reads(http, grpc), "the requests of an indexing run include writes"
        http.seen.clear()
        grpc.seen.clear()

        search = Search(ModelRegistry(bundle, "cpu"), QdrantStore(http.url, settings))
        feedback = FeedbackStore(tmp_path / "ratings.sqlite")
        search.follower.follow(0.05)
        send_every_request(search, feedback)
        search.follower.refresh()
        search.close()
        feedback.close()
        assert http.seen
        assert only_reads(http, grpc)


def only_reads(http: PlayedQdrant, grpc: PlayedGrpc) -> bool:
    """Return whether a read-only key suffices for all recorded requests."""
    return all(_READS_BY_HTTP.fullmatch(request) for request in http.seen) and set(grpc.seen) <= _READS_BY_GRPC


def send_every_request(search: Search, feedback: FeedbackStore) -> None:
    """Send a request of each kind and check that each succeeds."""
    client = create_app(search, AccessSettings(show_paths=True), feedback=feedback).test_client()
    first = client.get("/v1/search?q=a+red+circle&k=3").json["results"][0]  # type: ignore[index]
    rating = {"query": "a red circle", "image": first["id"], "rating": 4}
    answers = [
        client.get("/v1/search?q=a+circle&k=2&offset=1&explain=1"),
        client.get(f"/v1/search?image={first['id']}&k=2"),
        client.post("/v1/search", json={"q": "a circle", "filter": {"field": "format", "equals": "png"}}),
        client.post("/v1/score", json={"q": "a circle", "images": [first["id"]]}),
        client.post("/v1/feedback", json=rating),
        *(client.get(first[part]) for part in ("image", "thumbnail")),
        client.get(f"/v1/images/{first['id']}/details"),
        *(client.get(path) for path in ("/v1/collections", "/v1/fields", "/readyz", "/metrics", "/")),
    ]
    for answer in answers:
        answer.get_data()
        answer.close()
        assert answer.status_code < 400, (answer.request.path, answer.text)
