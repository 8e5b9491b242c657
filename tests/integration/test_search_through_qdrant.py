"""A search through a Qdrant server gives the embedded engine's results with two calls."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.queries import Query
from sceneseek.sample_queries import QUERIES
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek_indexer.move import move
from tests.drawing import NAMES
from tests.played_qdrant import PlayedQdrant

SETTINGS = QdrantSettings(prefer_grpc="no")


@pytest.fixture(scope="module")
def played(index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedQdrant]:
    """A fake Qdrant server with the gallery's index."""
    copy = tmp_path_factory.mktemp("moved") / "index"
    shutil.copytree(index_url.removeprefix("file:"), copy)
    with PlayedQdrant().serving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.01)
        target = QdrantStore(server.url, SETTINGS)
        move(open_store(f"file:{copy}"), target)
        target.close()
        yield server


def open_search(bundle: Bundle, played: PlayedQdrant, cache_bytes: int) -> Search:
    return Search(ModelRegistry(bundle, "cpu"), QdrantStore(played.url, SETTINGS.for_searching(), cache_bytes))


# Room for all twelve vectors, for four, and for none.
@pytest.mark.parametrize("cache_bytes", [2**20, 4 * 4 * 400, 0])
def test_ranking_matches_embedded_engine(
    bundle: Bundle, played: PlayedQdrant, search: Search, cache_bytes: int
) -> None:
    qdrant_search = open_search(bundle, played, cache_bytes)
    liked = search.query(Query(text="a house", k=1)).results[0].id
    queries = [Query(text=text, k=len(NAMES)) for text in QUERIES[:8]]
    queries += [
        Query(text="the sea", k=3, offset=2, explain=True),
        Query(text="the sea", k=len(NAMES), filter=["path^=shapes"]),
        Query(image=liked, k=5, explain=True),
        Query(text="at night", image=liked, k=5, explain=True),
    ]
    for _ in range(2):  # with a cold and a warm cache
        for query in queries:
            embedded, remote = search.query(query), qdrant_search.query(query)
            assert [result.id for result in remote.results] == [result.id for result in embedded.results]
            for ours, theirs in zip(embedded.results, remote.results, strict=True):
                assert theirs.score == pytest.approx(ours.score, abs=2e-6)  # both scores are rounded
                assert theirs.metadata == ours.metadata
                if ours.explanation is not None:
                    assert theirs.explanation is not None
                    assert theirs.explanation.rank_before == ours.explanation.rank_before
                    assert theirs.explanation.text_similarity == pytest.approx(
                        ours.explanation.text_similarity, abs=2e-6
                    )
    qdrant_search.close()


def test_search_makes_two_calls_plus_one_for_uncached_vectors(bundle: Bundle, played: PlayedQdrant) -> None:
    search = open_search(bundle, played, 2**20)

    def calls(query: Query) -> list[str]:
        before = len(played.bodies)
        assert search.query(query).results
        return [request.rpartition("/points")[2] for request, _ in played.bodies[before:]]

    assert search.follower.models.reranker.vectors_read(), "this bundle's head reads vectors"
    assert calls(Query(text="a house")) == ["/query", "", ""]
    assert calls(Query(text="the sea")) == ["/query", ""]
    assert calls(Query(text="the sea", explain=True)) == ["/query", ""]
    queried, payloads = (body for _, body in played.bodies[-2:])
    assert (queried["with_payload"], queried.get("with_vector", False)) == (False, False)
    assert (payloads["with_payload"], payloads["with_vector"]) == (True, False)
    search.close()
