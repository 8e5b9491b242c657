"""`/v1/search` by image and by image with text, batched searches, pages, and `/v1/score`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from sceneseek.payload import point_id
from sceneseek.search import Search
from sceneseek_server.app import create_app
from sceneseek_server.service import AccessSettings
from tests.drawing import NAMES

SEARCH, SCORE = "/v1/search", "/v1/score"
FIRST = point_id(NAMES[0])


def get_search(client: FlaskClient, **arguments: Any) -> dict[str, Any]:
    response = client.get(SEARCH, query_string=arguments)
    assert response.status_code == 200, response.get_data(as_text=True)
    answer: dict[str, Any] = response.get_json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [result["id"] for result in answer["results"]]


def uploaded(gallery: Path, name: str) -> tuple[io.BytesIO, str]:
    return io.BytesIO((gallery / name).read_bytes()), "anything.bin"


def test_search_by_id_returns_similar_images_without_the_query_image(client: FlaskClient) -> None:
    answer = get_search(client, image=FIRST, k=50)
    assert sorted(ids(answer)) == sorted(point_id(name) for name in NAMES[1:])
    similarities = [result["similarity"] for result in answer["results"]]
    assert similarities == sorted(similarities, reverse=True)
    assert {(result["score"], result["match"]) for result in answer["results"]} == {(None, None)}
    assert answer["query"] is None


def test_search_by_upload_returns_the_same_image_first(client: FlaskClient, gallery: Path) -> None:
    for name in NAMES:
        response = client.post(SEARCH, data={"file": uploaded(gallery, name), "k": "1"})
        assert ids(response.get_json()) == [point_id(name)]


def test_text_weight_blends_the_orders_of_image_and_text(client: FlaskClient) -> None:
    image, text = {"image": FIRST}, {"q": "a house under a blue sky"}
    by_image, by_text = ids(get_search(client, **image, k=50)), get_search(client, **text, k=50)
    assert ids(get_search(client, **image, **text, text_weight=0, k=50)) == by_image
    mostly_text = ids(get_search(client, **image, **text, text_weight=1, k=50))
    by_similarity = sorted(by_text["results"], key=lambda result: -result["similarity"])
    assert mostly_text == [result["id"] for result in by_similarity if result["id"] != FIRST]
    between = get_search(client, **image, **text, k=50)
    assert ids(between) not in (by_image, mostly_text)
    scores = {result["id"]: result["score"] for result in by_text["results"]}
    for result in between["results"]:
        assert result["score"] == pytest.approx(scores[result["id"]], abs=2e-5), "the score is of the text alone"


@pytest.mark.parametrize(
    ("arguments", "status", "detail"),
    [
        ({"image": point_id("nowhere.png")}, 404, f"no image has the id {point_id('nowhere.png')}"),
        ({"image": "../etc/passwd"}, 400, "image is '../etc/passwd', which is not an id"),
        ({"image": FIRST, "min_score": "0.5"}, 400, "min_score is given without a text"),
        ({"q": "x", "min_score": "2"}, 400, "min_score is 2"),
        ({"q": "x", "min_score": "nan"}, 400, "min_score is nan"),
        ({"q": "x", "offset": "10000"}, 400, "offset is 10000"),
        ({"q": "x", "explain": "perhaps"}, 400, "explain is 'perhaps', which is not true or false"),
        ({}, 400, "the field q is missing"),
    ],
)
def test_invalid_search_arguments_are_rejected(
    client: FlaskClient, arguments: dict[str, str], status: int, detail: str
) -> None:
    response = client.get(SEARCH, query_string=arguments)
    problem = response.get_json(force=True)
    assert (response.status_code, problem["detail"]) == (status, detail)
    assert problem["hint"]


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        ({"q": "x"}, 400, "there are 0 parts named file"),
        ({"file": (io.BytesIO(b"GIF89a"), "a.gif")}, 422, "the picture"),
        ({"file": (io.BytesIO(b""), "a.gif")}, 422, "the picture: the file is empty"),
        ({"photo": (io.BytesIO(b"GIF89a"), "a.gif")}, 400, "the file part 'photo' is unknown"),
        (
            {"file": [(io.BytesIO(b"a"), "a.gif"), (io.BytesIO(b"b"), "b.gif")]},
            422,
            "there are two images to search by",
        ),
    ],
)
def test_invalid_upload_is_rejected(client: FlaskClient, data: dict[str, Any], status: int, detail: str) -> None:
    response = client.post(SEARCH, data=data, content_type="multipart/form-data")
    problem = response.get_json(force=True)
    assert (response.status_code, problem["status"]) == (status, status)
    assert problem["detail"].startswith(detail)


def test_upload_together_with_an_id_is_rejected(client: FlaskClient, gallery: Path) -> None:
    response = client.post(SEARCH, data={"file": uploaded(gallery, NAMES[0]), "image": FIRST})
    assert (response.status_code, response.get_json(force=True)["detail"]) == (
        422,
        "there are two images to search by",
    )


def test_batched_searches_equal_single_searches(client: FlaskClient) -> None:
    searches = [{"q": "a red circle", "k": 3}, {"image": FIRST, "k": 2}, {"q": "the sea", "k": 4, "explain": True}]
    batched = client.post(SEARCH, json={"queries": searches}).get_json()["answers"]
    single = [client.post(SEARCH, json=search).get_json() for search in searches]
    assert [ids(answer) for answer in batched] == [ids(answer) for answer in single]
    assert len({answer["generation"] for answer in batched}) == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"queries": []}, "queries has 0 entries"),
        ({"queries": [{"q": "x"}] * 33}, "queries has too many entries"),
        ({"queries": 5}, "queries is 5, which is not a list"),
        ({"queries": [{"q": "x"}, {"q": "x", "k": 0}]}, "queries[1].k is 0"),
        ({"queries": [{"q": "x"}, {"q": " "}]}, "queries[1]: the query is empty"),
        ({"queries": [{"q": "x", "limit": 1}]}, "the field 'queries[0].limit' is unknown"),
    ],
)
def test_invalid_batched_search_is_named_by_its_index(client: FlaskClient, body: dict[str, Any], detail: str) -> None:
    response = client.post(SEARCH, json=body)
    assert (response.status_code, response.get_json(force=True)["detail"]) == (400, detail)


def test_batched_searches_count_individually_towards_the_rate_limit(search: Search) -> None:
    client = create_app(search, AccessSettings(rate_limit="4/hour")).test_client()
    three = {"queries": [{"q": "x", "k": 1}] * 3}
    assert client.post(SEARCH, json=three).status_code == 200
    refused = client.post(SEARCH, json=three)
    assert (refused.status_code, refused.get_json(force=True)["type"]) == (429, "urn:sceneseek:problem:rate-limited")
    assert int(refused.headers["Retry-After"]) > 1


def test_concatenated_pages_equal_the_whole_answer(client: FlaskClient) -> None:
    whole = get_search(client, q="the sea", k=len(NAMES))
    assert whole["next_offset"] is None
    pages: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = get_search(client, q="the sea", k=5, offset=offset)
        assert [result["rank"] for result in page["results"]] == list(
            range(offset + 1, offset + 1 + len(page["results"]))
        )
        pages += ids(page)
        offset = page["next_offset"]
    assert pages == ids(whole)


def test_min_score_removes_lower_scores(client: FlaskClient) -> None:
    whole = get_search(client, q="a red circle", k=len(NAMES))["results"]
    threshold = whole[4]["score"]
    kept = get_search(client, q="a red circle", k=len(NAMES), min_score=threshold - 1e-6)["results"]
    assert [result["id"] for result in kept] == [r["id"] for r in whole if r["score"] >= threshold - 1e-6]


def test_explanation_has_the_ranks_before_and_after_reranking(client: FlaskClient) -> None:
    results = get_search(client, q="a red circle", k=len(NAMES), explain="true")["results"]
    by_similarity = sorted(results, key=lambda result: -result["similarity"])
    for result in results:
        explanation = result["explanation"]
        assert explanation["rank_after"] == result["rank"]
        assert by_similarity[explanation["rank_before"] - 1]["id"] == result["id"]
        assert explanation["text_similarity"] == pytest.approx(result["similarity"], abs=1e-5)
        assert explanation["image_similarity"] is None


def test_score_equals_the_score_of_a_search(client: FlaskClient, gallery: Path) -> None:
    whole = {result["id"]: result for result in get_search(client, q="a red circle", k=len(NAMES))["results"]}
    by_id = client.post(SCORE, json={"q": "a red circle", "images": list(whole)}).get_json()
    assert [scored["id"] for scored in by_id["scores"]] == list(whole)
    pictures = [uploaded(gallery, name) for name in NAMES[:3]]
    by_upload = client.post(SCORE, data={"q": "a red circle", "file": pictures}).get_json()
    for scored in by_id["scores"]:
        assert scored["score"] == pytest.approx(whole[scored["id"]]["score"], abs=2e-5)
    for name, scored in zip(NAMES, by_upload["scores"], strict=False):
        assert scored["id"] is None
        assert scored["score"] == pytest.approx(whole[point_id(name)]["score"], abs=1e-3)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"q": "x"}, 400, "the field images is missing"),
        ({"images": [FIRST]}, 400, "the field q is missing"),
        ({"q": "x", "images": []}, 400, "images has 0 entries"),
        ({"q": "x", "images": ["a"]}, 400, "images is 'a', which is not a list of ids"),
        ({"q": "", "images": [FIRST]}, 400, "the query is empty"),
        ({"q": "x", "images": [point_id("no")]}, 404, f"no image has the id {point_id('no')}"),
    ],
)
def test_invalid_score_request_is_rejected(client: FlaskClient, body: Any, status: int, detail: str) -> None:
    response = client.post(SCORE, json=body)
    assert (response.status_code, response.get_json(force=True)["detail"]) == (status, detail)


def test_upload_above_the_size_limit_is_rejected(client: FlaskClient) -> None:
    noise = io.BytesIO()
    Image.effect_noise((2_000, 1_500), 80).save(noise, "PNG")
    assert len(noise.getvalue()) > 2**20
    # Encoded here, because the test client writes large form parts to a file that it does not close.
    boundary, accepted_body = encode_multipart({"file": FileStorage(io.BytesIO(noise.getvalue()), "a")})
    content_type = f"multipart/form-data; boundary={boundary}"
    assert client.post(SEARCH, data=accepted_body, content_type=content_type).status_code == 200
    boundary, refused_body = encode_multipart({"file": FileStorage(io.BytesIO(b"\0" * (18 * 2**20)), "a")})
    content_type = f"multipart/form-data; boundary={boundary}"
    refused = client.post(SEARCH, data=refused_body, content_type=content_type)
    assert (refused.status_code, refused.content_type) == (413, "application/problem+json")


def test_image_details_equal_those_of_a_search_result(client: FlaskClient) -> None:
    result = get_search(client, q="a house", k=1)["results"][0]
    details = client.get(f"/v1/images/{result['id']}/details").get_json()
    assert details == {name: result[name] for name in details}
    assert client.get(f"/v1/images/{point_id('no')}/details").status_code == 404


def test_collections_include_the_live_generation(client: FlaskClient) -> None:
    answer = client.get("/v1/collections").get_json()
    (live,) = answer["collections"]
    assert (live["name"], live["live"], live["images"]) == (answer["live"], True, len(NAMES))
    assert live["fields"]["width"] == "integer"
