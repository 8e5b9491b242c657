"""`/v1/search` through the test client: responses and validation errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.payload import point_id
from sceneseek.search import Search
from tests.drawing import NAMES

WHERE = "/v1/search"


def test_get_and_post_return_same_results(client: FlaskClient) -> None:
    by_get = client.get(WHERE, query_string={"q": "a red circle", "k": 3}).get_json()
    by_post = client.post(WHERE, json={"q": "a red circle", "k": 3}).get_json()
    assert len(by_get["results"]) == 3
    assert by_get["results"] == by_post["results"]


def test_response_describes_query_index_and_threshold(client: FlaskClient, search: Search) -> None:
    answer = client.get(WHERE, query_string={"q": " a  red\tcircle "}).get_json()
    timings = answer.pop("timings_ms")
    results = answer.pop("results")
    assert answer == {
        "query": "a red circle",
        "truncated": False,
        "shortlist": len(NAMES),
        "generation": search.follower.name,
        "bundle": search.bundle.manifest.fingerprints.bundle,
        "calibrated": True,
        "match": results[0]["score"] >= 0.52,
        "matches": sum(result["score"] >= 0.52 for result in results),
        "threshold": 0.52,
        "offset": 0,
        "next_offset": 5,
        "hints": [],
    }
    assert timings["total"] >= timings["encode"] > 0
    assert set(results[0]) == {
        *("rank", "id", "score", "match", "similarity", "path", "width", "height", "format", "metadata", "duplicates"),
        *("image", "thumbnail"),
    }


def test_results_are_sorted_by_score_with_ranks_from_one(client: FlaskClient) -> None:
    results = client.get(WHERE, query_string={"q": "the sea", "k": 100}).get_json()["results"]
    assert [result["rank"] for result in results] == list(range(1, len(NAMES) + 1))
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 and score == round(score, 6) for score in scores)
    assert {result["id"] for result in results} == {point_id(name) for name in NAMES}


def test_default_k_is_five(client: FlaskClient) -> None:
    for arguments in ({"q": "a house"}, {"q": "a house", "k": "", "shortlist": ""}):
        assert len(client.get(WHERE, query_string=arguments).get_json()["results"]) == 5


def test_shortlist_limits_scored_candidates(client: FlaskClient) -> None:
    answer = client.post(WHERE, json={"q": "a house", "k": 2, "shortlist": 4}).get_json()
    assert answer["shortlist"] == 4


def test_overlong_query_is_marked_as_truncated(client: FlaskClient) -> None:
    assert client.get(WHERE, query_string={"q": "dog " * 200}).get_json()["truncated"] is True


def test_response_is_compact_json_with_no_store(client: FlaskClient) -> None:
    response = client.get(WHERE, query_string={"q": "a house"})
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert b'": ' not in response.data


@pytest.mark.parametrize(
    ("query_string", "detail"),
    [
        ("", "the field q is missing"),
        ("q=", "the query is empty"),
        ("q=%20%09%20", "the query is empty"),
        ("q=a%00b", "the query contains the control character U+0000"),
        ("q=" + "word+" * 1_000, "the query has 5,000 characters, the limit is 1,000"),
        ("q=x&k=0", "k is 0"),
        ("q=x&k=-1", "k is -1"),
        ("q=x&k=10000", "k is 10000"),
        ("q=x&k=five", "k is 'five', which is not a whole number"),
        ("q=x&k=1.5", "k is '1.5', which is not a whole number"),
        ("q=x&k=" + "9" * 5_000, f"k is '{'9' * 37}...', which is not a whole number"),
        ("q=x&k=%0a", "k is '\\n', which is not a whole number"),
        ("q=x&shortlist=0", "shortlist is 0"),
        ("q=x&shortlist=10001", "shortlist is 10001"),
        ("q=x&limit=5", "the field 'limit' is unknown"),
        ("q=x&q=y", "q is given 2 times"),
    ],
)
def test_invalid_query_string_is_rejected(client: FlaskClient, query_string: str, detail: str) -> None:
    _assert_refused(client.get(f"{WHERE}?{query_string}"), 400, detail)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "the body is not JSON (EOF while parsing a value at line 1 column 0)"),
        (b"{", "the body is not JSON (EOF while parsing an object at line 1 column 1)"),
        (b"\xff\xfe", "the body is not JSON (expected value at line 1 column 1)"),
        (b"[]", "the body is not a JSON object"),
        (b'"a dog"', "the body is not a JSON object"),
        (b"{}", "the field q is missing"),
        (b'{"q": 5}', "q is 5, which is not text"),
        (b'{"q": null}', "the field q is missing"),
        (b'{"q": ["a", "b"]}', "q is a list, which is not text"),
        (b'{"q": " "}', "the query is empty"),
        (b'{"q": "a\\u0007b"}', "the query contains the control character U+0007"),
        (b'{"q": "x", "k": 0}', "k is 0"),
        (b'{"q": "x", "k": -1}', "k is -1"),
        (b'{"q": "x", "k": 10000}', "k is 10000"),
        (b'{"q": "x", "k": ' + b"9" * 4_000 + b"}", "k is a number with too many digits"),
        (b'{"q": "x", "k": "five"}', "k is 'five', which is not a whole number"),
        (b'{"q": "x", "k": "5"}', "k is '5', which is not a whole number"),
        (b'{"q": "x", "k": true}', "k is true, which is not a whole number"),
        (b'{"q": "x", "k": 1.5}', "k is 1.5, which is not a whole number"),
        (b'{"q": "x", "k": {}}', "k is an object, which is not a whole number"),
        (b'{"q": "x", "filter": 5}', "filter is 5, which is not an object"),
        (b'{"q": "x", "filter": {}}', "the condition '{}' is not an object"),
        (
            b'{"q": "x", "filter": {"field": "width"}}',
            """the condition '{"field": "width"}' must have exactly one known operator""",
        ),
        (b'{"q": "x", "filter": ["width"]}', "the condition 'width' has no comparison"),
        (b'{"q": "x", "\\n": 1}', "the field '\\n' is unknown"),
    ],
)
def test_invalid_body_is_rejected(client: FlaskClient, body: bytes, detail: str) -> None:
    _assert_refused(client.post(WHERE, data=body, content_type="application/json"), 400, detail)


def test_filter_is_object_in_body_and_strings_in_query_string(client: FlaskClient) -> None:
    filter_document = {"all": [{"path_prefix": "scenes"}, {"field": "format", "any_of": ["JPEG", "GIF"]}]}
    by_post = client.post(WHERE, json={"q": "the sea", "k": 12, "filter": filter_document}).get_json()["results"]
    filter_strings = ["path^=scenes/", "format=JPEG|GIF"]
    by_get = client.get(WHERE, query_string={"q": "the sea", "k": 12, "filter": filter_strings}).get_json()["results"]
    expected = {name for name in NAMES if name.startswith("scenes/") and name.endswith((".jpg", ".gif"))}
    assert {result["id"] for result in by_post} == {point_id(name) for name in expected}
    assert by_get == by_post


def test_filter_without_matches_returns_no_results(client: FlaskClient) -> None:
    assert client.get(WHERE, query_string={"q": "the sea", "filter": "width>=10000"}).get_json()["results"] == []
    assert len(client.get(f"{WHERE}?q=the+sea&filter=").get_json()["results"]) == 5


def test_query_of_ten_thousand_words_is_rejected(client: FlaskClient) -> None:
    _assert_refused(
        client.post(WHERE, json={"q": "word " * 10_000}),
        400,
        "the query has 50,000 characters, the limit is 1,000",
    )


def test_body_with_other_content_type_is_rejected(client: FlaskClient) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", None):
        response = client.post(WHERE, data=b'{"q": "x"}', content_type=content_type)
        _assert_refused(response, 415, "the media type of the body is not supported")


def test_body_over_one_megabyte_is_rejected(client: FlaskClient) -> None:
    _assert_refused(client.post(WHERE, json={"q": "x" * 2**20}), 413, "the body is too large")


def test_unsupported_method_gets_405_with_allow_header(client: FlaskClient) -> None:
    response = client.delete(WHERE)
    _assert_refused(response, 405, "DELETE is not allowed here")
    assert {"GET", "POST"} <= set(response.headers["Allow"].split(", "))


@settings(max_examples=40, deadline=None)
@given(query=st.text())
def test_arbitrary_query_text_causes_no_server_error(client: FlaskClient, query: str) -> None:
    try:
        query.encode()
    except UnicodeEncodeError:  # an unpaired surrogate cannot be encoded in a URL
        return
    assert client.get(WHERE, query_string={"q": query}).status_code in (200, 400)


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["q", "k", "shortlist", "filter", "x"]), inner),
)


@settings(max_examples=40, deadline=None)
@given(body=_json_values)
def test_arbitrary_json_body_causes_no_server_error(client: FlaskClient, body: Any) -> None:
    response = client.post(WHERE, data=json.dumps(body), content_type="application/json")
    assert response.status_code in (200, 400)


def _assert_refused(response: Any, status: int, detail: str) -> None:
    problem = response.get_json(force=True)
    assert response.content_type == "application/problem+json"
    assert (response.status_code, problem["status"], problem["detail"]) == (status, status, detail)
    assert problem["title"]
    assert problem["type"]
    assert problem["hint"]
    assert "\n" not in problem["detail"] + problem["hint"]
