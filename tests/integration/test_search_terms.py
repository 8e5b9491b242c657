"""Searches with several terms, by vector and sorted by a field, with a real bundle and index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from sceneseek.bundle import Bundle
from sceneseek.errors import InvalidRequest, NotFound
from sceneseek.models import ModelRegistry
from sceneseek.payload import point_id
from sceneseek.picture import decode
from sceneseek.queries import Query
from sceneseek.reranker import UNRELATED, combined
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek.terms import Term
from sceneseek_indexer.build import BuildOptions, index_folder
from tests.drawing import NAMES
from tests.museum import strict_bundle

ALL = len(NAMES)
FIRST = point_id(NAMES[0])
CIRCLE, HOUSE, SEA = "a red circle", "a house under a blue sky", "the sea"


def scores(search: Search, text: str, ids: list[str]) -> np.ndarray:
    return np.array([scored.score for scored in search.score(text, ids).scores], np.float32)


def test_search_combines_scores_of_several_texts(search: Search) -> None:
    terms = [Term(text=HOUSE, weight=0.5), Term(text=SEA, weight=-1.0)]
    answer = search.query(Query(text=CIRCLE, terms=terms, k=ALL))
    ids = [result.id for result in answer.results]
    expected = combined(
        [(1.0, scores(search, CIRCLE, ids)), (0.5, scores(search, HOUSE, ids)), (-1.0, scores(search, SEA, ids))]
    )
    assert [result.score for result in answer.results] == pytest.approx(expected, abs=2e-5)
    assert sorted(expected, reverse=True) == pytest.approx(expected, abs=2e-5)
    assert answer.query == "a red circle, a house under a blue sky:0.5, -the sea"
    assert answer.shortlist == ALL
    plain = search.query(Query(text=CIRCLE, k=ALL))
    alone = search.query(Query(terms=[Term(text=CIRCLE, weight=0.5)], k=ALL))
    assert [(r.id, r.score) for r in alone.results] == [(r.id, r.score) for r in plain.results]


def test_search_ranks_images_like_a_negative_term_lower(search: Search) -> None:
    ids = [result.id for result in search.query(Query(text="a drawing", k=ALL)).results]
    ranked = search.query(Query(text="a drawing", terms=[Term(text=SEA, weight=-1)], k=ALL)).results
    best = max(ids, key=lambda identity: scores(search, SEA, [identity])[0])
    assert scores(search, SEA, [best])[0] > UNRELATED
    scores_by_id = {result.id: result.score or 0.0 for result in ranked}
    assert scores_by_id[best] == min(scores_by_id.values()) or [r.id for r in ranked].index(best) > ids.index(best)


def test_image_id_file_and_vector_terms_are_equivalent(search: Search, gallery: Path) -> None:
    picture = decode((gallery / NAMES[0]).read_bytes())
    vector = [float(v) for v in search.embed_pictures([picture])[0]]
    by_id = search.query(Query(text=HOUSE, terms=[Term(image=FIRST, weight=0.5)], k=ALL))
    by_file = search.query(Query(text=HOUSE, terms=[Term(file=0, weight=0.5)], k=ALL), pictures=[picture])
    by_vector = search.query(Query(text=HOUSE, terms=[Term(vector=vector, weight=0.5)], k=ALL))
    assert FIRST not in {result.id for result in by_id.results}, "the query image is not a result"
    for answer in (by_file, by_vector):
        others = [result for result in answer.results if result.id != FIRST]
        assert [result.id for result in others] == [result.id for result in by_id.results]
        assert [r.similarity for r in others] == pytest.approx([r.similarity for r in by_id.results], abs=1e-5)
        similarities = [result.similarity for result in answer.results]
        assert similarities == sorted(similarities, reverse=True)
    assert {r.id: r.score for r in by_id.results} == pytest.approx(
        {r.id: r.score for r in search.query(Query(text=HOUSE, k=ALL)).results if r.id != FIRST}, abs=2e-5
    )


def test_vector_search_ranks_by_similarity_without_scores(search: Search) -> None:
    vectors, tokens = search.embed_texts([CIRCLE, HOUSE])
    assert (vectors.shape, tokens > 0) == ((2, search.bundle.manifest.dimensions.joint), True)
    answer = search.query(Query(vector=[float(v) for v in 3 * vectors[0]], k=ALL))
    by_text = {result.id: result.similarity for result in search.query(Query(text=CIRCLE, k=ALL)).results}
    assert {result.id: result.similarity for result in answer.results} == pytest.approx(by_text, abs=1e-5)
    assert {(result.score, result.match) for result in answer.results} == {(None, None)}
    with pytest.raises(InvalidRequest, match="has 3 numbers"):
        search.query(Query(vector=[1.0, 0.0, 0.0]))
    with pytest.raises(NotFound):
        search.query(Query(terms=[Term(image=point_id("nowhere.png"))]))


def test_embeddings_have_the_openai_response_format(client: FlaskClient, search: Search, gallery: Path) -> None:
    pack, width = search.bundle.manifest.pack, search.bundle.manifest.dimensions.joint
    answer = client.post("/v1/embeddings", json={"input": [CIRCLE, HOUSE], "model": pack, "user": "me"}).get_json()
    assert (answer["object"], answer["model"]) == ("list", pack)
    assert [(each["object"], each["index"], len(each["embedding"])) for each in answer["data"]] == [
        ("embedding", 0, width),
        ("embedding", 1, width),
    ]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] > 4
    encoded = client.post("/v1/embeddings", json={"input": CIRCLE, "encoding_format": "base64"}).get_json()
    by_post = client.post("/v1/search", json={"vector": encoded["data"][0]["embedding"], "k": ALL}).get_json()
    by_get = client.get("/v1/search", query_string={"vector": encoded["data"][0]["embedding"], "k": ALL}).get_json()
    by_text = client.get("/v1/search", query_string={"q": CIRCLE, "k": ALL}).get_json()
    assert by_post["results"] == by_get["results"]
    assert sorted(r["similarity"] for r in by_post["results"]) == pytest.approx(
        sorted(r["similarity"] for r in by_text["results"]), abs=1e-5
    )
    with (gallery / NAMES[0]).open("rb") as file:
        pictures = client.post("/v1/embeddings", data={"file": (file, "a.png"), "model": pack}).get_json()
    assert pictures["usage"]["total_tokens"] == 0
    like = client.post("/v1/search", json={"vector": pictures["data"][0]["embedding"], "k": 1}).get_json()
    assert [result["id"] for result in like["results"]] == [FIRST]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({}, 400, "the field input is missing"),
        ({"input": 5}, 400, "input is 5, which is not a text or a list of texts"),
        ({"input": []}, 400, "input has 0 entries"),
        ({"input": ["x"] * 1_025}, 400, "input has too many entries"),
        ({"input": ""}, 400, "the query is empty"),
        ({"input": ["x", ""]}, 400, "input[1]: the query is empty"),
        ({"input": [1, 2]}, 400, "input[0] is 1, which is not a text"),
        ({"input": [[1, 2]]}, 400, "input[0] is a list, which is not a text"),
        ({"input": "x", "encoding_format": "hex"}, 400, "encoding_format is 'hex'"),
        ({"input": "x", "model": "text-embedding-3-small"}, 422, "there is no model 'text-embedding-3-small'"),
        ({"input": "x", "dimensions": 5}, 422, "dimensions is 5"),
    ],
)
def test_embeddings_reject_invalid_requests(
    client: FlaskClient, body: dict[str, object], status: int, detail: str
) -> None:
    response = client.post("/v1/embeddings", json=body)
    assert response.status_code == status
    problem = response.get_json(force=True)
    assert detail in problem["detail"]
    # OpenAI clients print this member.
    assert problem["error"]["message"] == f"{problem['detail']}: {problem['hint']}"
    assert problem["error"]["type"] == problem["type"]


def test_other_endpoints_have_no_openai_error_member(client: FlaskClient) -> None:
    for address in ("/v1/search?q=", "/v1/nowhere"):
        assert "error" not in client.get(address).get_json(force=True)


DATES = {"old": "2015-06-01", "new": "2024-01-31T10:00:00", "middle": "2019-05-31", "none": ""}


@pytest.fixture(scope="module")
def dated(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    """A search over four similar images, three of them with dates."""
    home = tmp_path_factory.mktemp("dated")
    (home / "pictures").mkdir()
    rows = ["path,taken"]
    for number, (name, date) in enumerate(DATES.items()):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(home / f"pictures/{name}.png")
        rows.append(f"{name}.png,{date}")
    (home / "metadata.csv").write_text("\n".join(rows))
    store = open_store(f"file:{home / 'index'}")
    index_folder(home / "pictures", bundle, store, BuildOptions(metadata=str(home / "metadata.csv")))
    low_threshold = Bundle.load(strict_bundle(bundle, home / "bundle", 0.0))
    search = Search(ModelRegistry(low_threshold, "cpu"), store)
    yield search
    search.close()


def names(search: Search, **fields: object) -> list[str]:
    return [Path(result.path or "").stem for result in search.query(Query(text="noise", **fields)).results]  # type: ignore[arg-type]


def test_sort_orders_by_field_with_missing_values_last(dated: Search) -> None:
    assert names(dated, sort="taken") == ["old", "middle", "new", "none"]
    assert names(dated, sort="-taken") == ["new", "middle", "old", "none"]
    assert names(dated, sort="-taken", k=2) == ["new", "middle"]
    assert names(dated, sort="-taken", k=2, offset=2) == ["old", "none"]
    pages = [dated.query(Query(text="noise", sort="taken", k=2, offset=offset)) for offset in (0, 2)]
    assert [page.next_offset for page in pages] == [2, None]
    assert [result.rank for page in pages for result in page.results] == [1, 2, 3, 4]
    assert sorted(names(dated, sort="nothing")) == sorted(DATES)
    (hint,) = dated.query(Query(text="noise", sort="-takn")).hints
    assert (hint.kind, hint.field, hint.nearest) == ("unknown-field", "takn", "taken")
    assert not dated.query(Query(text="noise", sort="taken")).hints
    assert names(dated, sort="-path") == sorted(DATES, reverse=True)


@pytest.mark.parametrize(
    ("date", "count"),
    [("2019", 1), ("May 2019", 1), ("31.5.2019", 1), ("31 мая 2019", 1), ("5/2019", 1), ("June 2019", 0)],
)
def test_filter_accepts_common_date_formats(dated: Search, date: str, count: int) -> None:
    assert len(names(dated, filter=[f"taken={date}"])) == count


def test_sort_applies_only_to_results_above_min_score(dated: Search) -> None:
    every = dated.query(Query(text="noise", k=4))
    assert (every.matches, every.match) == (4, True)
    between = sorted(result.score or 0 for result in every.results)
    least = (between[1] + between[2]) / 2
    answer = dated.query(Query(text="noise", sort="taken", min_score=least))
    assert len(answer.results) == 2
    assert answer.next_offset is None
