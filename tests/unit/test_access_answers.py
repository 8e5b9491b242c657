"""What responses may reveal, and the maximum size of request bodies."""

from __future__ import annotations

import io
from typing import Any

import pytest

from sceneseek.errors import BundleError, InvalidRequest
from sceneseek.queries import Query
from sceneseek_server.access.control import check_query
from sceneseek_server.service import AccessSettings
from tests.controlled_app import SEARCH, controlled_client


@pytest.mark.parametrize("show", [False, True])
def test_error_details_with_paths_are_sent_only_where_paths_are_shown(
    show: bool, caplog: pytest.LogCaptureFixture
) -> None:
    response = controlled_client(AccessSettings(show_paths=show)).get("/broken")
    assert response.status_code == 503
    assert (b"/srv/private" in response.data) == show
    problem = response.get_json(force=True)
    assert problem["type"] == "urn:sceneseek:problem:index-unavailable"
    assert problem["detail"]
    assert problem["hint"]
    assert "/srv/private" in caplog.text, "the log has them always"


def test_details_of_errors_are_hidden_from_clients_by_default() -> None:
    assert BundleError.for_clients is False
    assert InvalidRequest.for_clients is True


@pytest.mark.parametrize(
    "words",
    [
        ["path^=animals"],
        ["path=a.jpg"],
        ["path=a.jpg|b.jpg"],
        ["path_bytes=YQ"],
        ["folders=animals"],
        ["source>=1"],
        ["year>=1990", "path!=a.jpg"],
        ['{"any": [{"field": "year", "gte": 1}, {"not": {"all": [{"path_prefix": "a"}]}}]}'],
    ],
)
def test_filters_on_paths_are_rejected_where_paths_are_hidden(words: list[str]) -> None:
    query = Query(text="x", filter=words)
    with (
        controlled_client(AccessSettings()).application.app_context(),
        pytest.raises(InvalidRequest, match="does not show"),
    ):
        check_query(query)
    with controlled_client(AccessSettings(show_paths=True)).application.app_context():
        check_query(query)


def test_other_filters_are_accepted_where_paths_are_hidden() -> None:
    with controlled_client(AccessSettings()).application.app_context():
        check_query(Query(text="x", sort="-taken"))
        check_query(Query(text="x", filter=["year>=1990", "tags=dog|cat", "metadata.path=x", "format=JPEG"]))
        check_query(Query(text="x", filter={"field": "place", "near": {"lat": 1, "lon": 2, "meters": 3}}))


@pytest.mark.parametrize("sort", ["path", "-path", "folders", "-path_bytes", "source"])
def test_sort_by_path_is_rejected_where_paths_are_hidden(sort: str) -> None:
    query = Query(text="x", sort=sort)
    with (
        controlled_client(AccessSettings()).application.app_context(),
        pytest.raises(InvalidRequest, match="does not show"),
    ):
        check_query(query)
    with controlled_client(AccessSettings(show_paths=True)).application.app_context():
        check_query(query)


def test_request_body_has_a_maximum_size() -> None:
    client = controlled_client(AccessSettings())
    fits, too_large = b"x" * 2**20, b"x" * (2**20 + 1)
    assert client.post(SEARCH, data=fits).get_json()["bytes"] == 2**20
    refused = client.post(SEARCH, data=too_large)
    assert (refused.status_code, refused.content_type) == (413, "application/problem+json")


def test_chunked_body_is_read_up_to_the_maximum_size() -> None:
    response = controlled_client(AccessSettings()).post(
        SEARCH,
        input_stream=io.BytesIO(b"x" * 3 * 2**20),
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert response.get_json()["bytes"] == 2**20


def form(fields: dict[str, bytes], kind: str = "") -> dict[str, Any]:
    """Return the request arguments for a form; encoded here, because the test client leaves a file open."""
    head = '--x\r\nContent-Disposition: form-data; name="{name}"{kind}\r\n\r\n'
    parts = [head.format(name=name, kind=kind).encode() + content + b"\r\n" for name, content in fields.items()]
    return {"data": b"".join([*parts, b"--x--\r\n"]), "content_type": "multipart/form-data; boundary=x"}


def test_upload_size_limit_is_configurable() -> None:
    client = controlled_client(AccessSettings(max_upload=3 * 2**20))
    fits, too_large = (form({"image": b"x" * size * 2**20}, '; filename="a.jpg"') for size in (3, 4))
    assert client.post("/v1/upload", **fits).get_json() == {"image": 3 * 2**20}
    assert client.post("/v1/upload", **too_large).status_code == 413


def test_form_has_limits_on_parts_and_text() -> None:
    client = controlled_client(AccessSettings())
    assert client.post("/v1/upload", **form({f"field{i}": b"x" for i in range(32)})).status_code == 200
    assert client.post("/v1/upload", **form({f"field{i}": b"x" for i in range(33)})).status_code == 413
    assert client.post("/v1/upload", **form({"text": b"x" * (2**20 + 1)})).status_code == 413
