"""Malformed and hostile requests get a valid response or a problem document, never a 500."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from sceneseek_server.responses import PROBLEM_MEDIA_TYPE
from tests.hostile import encoded, picture

SEARCH, SCORE = "/v1/search", "/v1/score"
PICTURE = encoded(picture(), "PNG")
DEEP = 100_000
fuzzing = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def image(client: FlaskClient) -> str:
    """The URL path of an image."""
    path: str = client.get(f"{SEARCH}?q=a+red+circle&k=1").get_json()["results"][0]["image"]
    return path


def valid_response(response: TestResponse, *statuses: int) -> dict[str, Any]:
    """Assert an expected status and a JSON response, and return its document."""
    assert response.status_code in (statuses or (200, 400, 404, 413, 415, 422)), response.data[:500]
    assert response.mimetype == (PROBLEM_MEDIA_TYPE if response.status_code >= 400 else "application/json")
    document: dict[str, Any] = json.loads(response.data, parse_constant=pytest.fail)
    return document


@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP,
        b'{"q":' * DEEP,
        b'{"q": "a", "filter": ' + b'{"not":' * DEEP + b"{}" + b"}" * (DEEP + 1),
        b'{"q": "a", "filter": ' + b'{"all":[' * 200 + b"{}" + b"]}" * 200 + b"}",
        b'{"q": "a", "filter": ["' + b'{\\"not\\":' * 20_000 + b'"]}',
        b'{"q": "a", "k": NaN}',
        b'{"q": "a", "min_score": NaN}',
        b'{"q": "a", "min_score": -Infinity}',
        b'{"q": "a", "text_weight": 1e999}',
        b'{"q": "a", "k": 1e999}',
        b'{"q": "a", "k": ' + b"9" * 50_000 + b"}",
        b'{"q": "a", "filter": {"field": "x", "equals": ' + b"9" * 50_000 + b"}}",
        b'{"q": "a", "filter": {"field": "x", "gt": 1e400}}',
        b'{"q": "a", "filter": {"field": "x", "gt": NaN}}',
        b'{"q": "a", "filter": {"field": "a\\\\b", "equals": 1}}',
        b'{"q": "\\ud800"}',
        b'{"q": "a", "filter": {"field": "x", "equals": "\\udfff"}}',
        b'{"q": "\xff\xfe"}',
        b'\xef\xbb\xbf{"q": "a"}',
        '{"q": "a"}'.encode("utf-16"),
        b'{"q": "a"}{"q": "b"}',
        b'{"q": "a",}',
        b"{'q': 'a'}",
        b'{"q": "a"} // a dog',
        b'{"\\ud800": 1}',
        b'{"' + b"x" * 100_000 + b'": 1}',
        b'{"queries": [' + b'{"q": "a"},' * 40 + b'{"q": "a"}]}',
        b'{"queries": [' * 1_000,
        b"\0",
    ],
)
@pytest.mark.parametrize("where", [SEARCH, SCORE])
def test_malformed_json_body_returns_400(client: FlaskClient, where: str, body: bytes) -> None:
    valid_response(client.post(where, data=body, content_type="application/json"), 400)


@pytest.mark.parametrize("field", ["x\0y", "a." * 20_000 + "b", "\u202e", "[0]", "a[]", "*", "'", "\ufeff"])
def test_filter_accepts_any_field_name(client: FlaskClient, field: str) -> None:
    condition = {"field": field, "equals": "\0"}
    assert valid_response(client.post(SEARCH, json={"q": "a house", "filter": condition}), 200)["results"] == []


def test_last_value_of_a_repeated_json_member_is_used(client: FlaskClient) -> None:
    answer = client.post(SEARCH, data=b'{"q": "a", "q": "a house"}', content_type="application/json")
    assert valid_response(answer, 200)["query"] == "a house"


@pytest.mark.parametrize(
    ("content_type", "statuses"),
    [
        ("application/json; charset=utf-8", [200]),
        ("application/json; charset=utf-16", [200]),  # JSON is read as UTF-8 regardless of the charset
        ("APPLICATION/JSON", [200]),
        ("application/json;", [200]),
        ('application/json; x="', [200]),
        ("application/problem+json", [200]),
        ("text/json", [415]),
        ("application/jsonp", [415]),
        ("application/json, text/plain", [415]),
        ("application/x-www-form-urlencoded", [415]),
        ("multipart/mixed; boundary=x", [415]),
        ("multipart/form-data", [400]),
        ("multipart/form-data; boundary=", [400]),
        ('multipart/form-data; boundary=""', [400]),
        ("multipart/form-data; boundary=" + "x" * 5_000, [400]),
        ("multipart/form-data; boundary=é", [400]),
        ("*/*", [415]),
        ("", [415]),
        (";", [415]),
    ],
)
def test_only_json_and_form_media_types_are_accepted(
    client: FlaskClient, content_type: str, statuses: list[int]
) -> None:
    headers = {"Content-Type": content_type.encode().decode("latin-1")}
    valid_response(client.post(SEARCH, data=b'{"q": "a house"}', headers=headers), *statuses)


@pytest.mark.parametrize(
    ("query", "statuses"),
    [
        ("q=%00", [400]),
        ("q=%", [200]),
        ("q=%zz", [200]),
        ("q=%ff%fe", [200, 400]),
        ("q=%ed%a0%80", [200, 400]),
        ("q=a+house&q%00=b", [400]),
        ("q=a+house&%6B=1", [200]),
        ("q=a+house&k=%D9%A3", [200, 400]),
        ("q=a+house&k=0x5", [400]),
        ("q=a+house&k=1e2", [400]),
        ("q=a+house&text_weight=nan", [400]),
        ("q=a+house&min_score=inf", [400]),
        ("q=a+house;k=1", [200]),
        ("&&&=&=&q=a+house", [400]),
        ("q=a+house&" + "filter=x%3D1&" * 300, [400]),
        ("q=a+house&filter=" + "%7B%22not%22%3A" * 2_000, [400]),
        ("q=a+house&image=%7B00000000-0000-0000-0000-000000000000%7D", [404]),
        ("q=a+house&filter[]=x", [400]),
        ("?q=a+house", [400]),
    ],
)
def test_unusual_query_strings_are_parsed_or_rejected(client: FlaskClient, query: str, statuses: list[int]) -> None:
    valid_response(client.get(SEARCH, query_string=query), *statuses)


@pytest.mark.parametrize(
    "where",
    [
        "/v1/images/..%2f..%2fetc%2fpasswd",
        "/v1/images/%2e%2e/details",
        "/v1/images/%00",
        "/v1/images/00000000-0000-0000-0000-00000000000g",
        "/v1/images/00000000000000000000000000000000",
        "/v1/images/00000000-0000-0000-0000-000000000000%0a",
        "/v1/search/",
        "//v1/search",
        "/v1//search?q=a",
        "/V1/SEARCH",
        "/v1/search%3Fq=a",
        "/%ff%fe",
        "/static/..%2f..%2fapp.py",
        "/static/%00",
        "/" + "x" * 5_000,
    ],
)
def test_unknown_paths_are_not_found(client: FlaskClient, where: str) -> None:
    response = client.get(where)
    # Any path below /v1/images accepts PUT, but no GET.
    expected = (404, 405) if where.startswith("/v1/images/") else (404, 308)
    assert response.status_code in expected, response.data[:300]


@pytest.mark.parametrize("where", ["/", "/healthz", "/openapi.json", "/v1/collections", f"{SEARCH}?q=a+house", "IMAGE"])
def test_head_request_returns_headers_without_a_body(client: FlaskClient, image: str, where: str) -> None:
    where = where.replace("IMAGE", image)
    head, full = client.head(where), client.get(where)
    assert (head.status_code, head.data) == (200, b"")
    assert head.content_type == full.content_type
    head.close()
    full.close()


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PUT", "TRACE", "CONNECT", "BREW", "PROPFIND"])
def test_unsupported_methods_return_405_with_allow(client: FlaskClient, image: str, method: str) -> None:
    for where in (SEARCH, SCORE, image, "/healthz", "/openapi.json"):
        response = client.open(where, method=method)
        if where == image and method == "DELETE":
            assert valid_response(response, 403)["status"] == 403  # uploads are disabled
            continue
        assert valid_response(response, 405)["status"] == 405
        assert {"GET", "POST"} & set(response.headers["Allow"].split(", "))


def test_options_returns_the_allowed_methods(client: FlaskClient, image: str) -> None:
    assert set(client.options(SEARCH).headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert set(client.options(image).headers["Allow"].split(", ")) == {"DELETE", "GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("tail", ["", "/thumbnail"])
@pytest.mark.parametrize(
    "headers",
    [
        {"If-None-Match": "*"},
        {"If-None-Match": 'W/"'},
        {"If-None-Match": "," * 5_000},
        {"If-Modified-Since": "yesterday"},
        {"If-Modified-Since": "Thu, 01 Jan 99999 00:00:00 GMT"},
        {"If-Match": '"nothing"'},
        {"If-Range": "soon", "Range": "bytes=0-1"},
        {"If-Range": '"nothing"', "Range": "bytes=0-1"},
        {"Accept": "text/html;q=huge"},
        {"Accept": "application/xml"},
        {"Accept-Encoding": "gzip;q=0,*;q=0"},
    ],
)
def test_unusual_request_headers_do_not_break_image_responses(
    client: FlaskClient, image: str, tail: str, headers: dict[str, str]
) -> None:
    response = client.get(f"{image}{tail}", headers=headers)
    response.close()
    assert response.status_code in (200, 206, 304, 412)


def test_response_is_json_for_any_accept_header(client: FlaskClient) -> None:
    for accept in ("application/xml", "", "*", ";;;", "text/html;q=x", "a/" + "b" * 5_000):
        valid_response(client.get(f"{SEARCH}?q=a+house", headers={"Accept": accept}), 200)


def form(*parts: bytes, boundary: bytes = b"b", end: bytes = b"--b--\r\n") -> bytes:
    """A multipart body of these parts, each with headers, an empty line and a body."""
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + end


def file_part(data: bytes = PICTURE, name: bytes = b"file", more: bytes = b'; filename="x.png"') -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"' + more + b"\r\n\r\n" + data


def text_part(value: bytes, name: bytes = b"q") -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value


# If parsing fails, Werkzeug leaves the parts that it opened to the garbage collector.
ignore_unclosed_parts = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@ignore_unclosed_parts
@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (form(file_part(), text_part(b"a house")), [200]),
        (form(file_part(), text_part(b"a house"), end=b""), [200, 400]),
        (form(file_part(b""), text_part(b"a house")), [422]),
        (form(file_part(more=b""), text_part(b"a house")), [400]),
        (form(file_part(more=b'; filename=""'), text_part(b"a house")), [400, 200]),
        (form(file_part(more=b'; filename="../../etc/passwd\0"'), text_part(b"a house")), [200, 400]),
        (form(file_part(more=b'; filename="' + b"x" * 100_000 + b'"'), text_part(b"a house")), [200, 400, 413]),
        (form(file_part(name=b"x" * 100_000), text_part(b"a house")), [400, 413]),
        (form(file_part(), text_part(b"a house"), text_part(b"a dog")), [400]),
        (form(file_part(), text_part(b"\xff\xfe")), [200, 400]),
        (form(file_part(), text_part(b"\0")), [400]),
        (form(file_part(), text_part(b"x" * 2_000_000)), [400, 413]),
        (form(*[text_part(b"a")] * 2_000), [400, 413]),
        (form(*[file_part(b"")] * 2_000), [400, 413, 422]),
        (form(file_part(), text_part(b"a house"), text_part(b"1", name=b"__proto__")), [400]),
        (form(file_part(), text_part(b"a house"), b"no head at all"), [200, 400]),
        (form(b"", file_part(), text_part(b"a house")), [200, 400]),
        (form(b"Content-Disposition: attachment\r\n\r\nx"), [400]),
        (form(b"X: " + b"y" * 100_000 + b"\r\n\r\nx"), [400, 413]),
        (b"", [400]),
        (b"--b", [400]),
        (b"\r\n" * 100_000, [400, 413]),
    ],
)
@pytest.mark.parametrize("where", [SEARCH, SCORE])
def test_malformed_form_is_parsed_or_rejected(
    client: FlaskClient, where: str, body: bytes, statuses: list[int]
) -> None:
    valid_response(client.post(where, data=body, content_type="multipart/form-data; boundary=b"), *statuses)


values = st.text(max_size=20) | st.sampled_from(["", "5", "0", "true", "nan", "1e9", "year>=1990", "a house", "-1"])
names = st.sampled_from(["q", "k", "offset", "shortlist", "min_score", "text_weight", "explain", "filter", "image"])


@pytest.mark.parametrize("where", [SEARCH, SCORE])
@given(
    fields=st.dictionaries(names | st.text(max_size=10), st.lists(values, min_size=1, max_size=2), max_size=5),
    files=st.lists(
        st.tuples(
            st.sampled_from(["file", "file", "file", "picture"]),
            st.sampled_from([PICTURE, PICTURE[:-30], b"", b"\x89PNG"]) | st.binary(max_size=50),
            st.text(st.characters(codec="utf-8"), max_size=20),
        ),
        max_size=10,
    ),
)
@fuzzing
def test_random_forms_get_a_valid_response(
    client: FlaskClient, where: str, fields: dict[str, list[str]], files: list[tuple[str, bytes, str]]
) -> None:
    data: dict[str, Any] = dict(fields)
    for name, content, filename in files:
        data.setdefault(name, [])
        data[name] = [*data[name], (io.BytesIO(content), filename or "x")]
    valid_response(client.post(where, data=data, content_type="multipart/form-data"))


@ignore_unclosed_parts
@pytest.mark.parametrize("where", [SEARCH, SCORE])
@given(body=st.binary(max_size=200), at=st.integers(0, 600), cut=st.booleans())
@fuzzing
def test_corrupted_forms_get_a_valid_response(client: FlaskClient, where: str, body: bytes, at: int, cut: bool) -> None:
    intact = form(file_part(), text_part(b"a house"))
    damaged = intact[:at] + body + (b"" if cut else intact[at + len(body) :])
    valid_response(client.post(where, data=damaged, content_type="multipart/form-data; boundary=b"))
