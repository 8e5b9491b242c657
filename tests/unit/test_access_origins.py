"""Host names, and pages of other sites: what a browser can be made to send, and to read."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from sceneseek.errors import InvalidRequest
from sceneseek_server.access.origins import checked_origin
from sceneseek_server.service import AccessSettings
from tests.controlled_app import SEARCH, controlled_client, made_key

ELSEWHERE = "https://elsewhere.example"
FRIEND = "https://friend.example"


@pytest.fixture
def closed() -> FlaskClient:
    return controlled_client(AccessSettings(bound_to="127.0.0.1"))


@pytest.fixture
def friendly() -> FlaskClient:
    return controlled_client(AccessSettings(cors_origins=(FRIEND,)))


def asked_as(client: FlaskClient, host: str, path: str = SEARCH) -> int:
    return client.get(path, headers={"Host": host}).status_code


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "localhost."])
def test_on_loopback_its_names_are_accepted(closed: FlaskClient, host: str) -> None:
    assert asked_as(closed, host) == 200


@pytest.mark.parametrize(
    "host", ["rebound.example", "rebound.example:8080", "127.0.0.1.rebound.example", "localhost.x.example", "[::2]"]
)
def test_on_loopback_no_other_name_is_accepted(closed: FlaskClient, host: str) -> None:
    response = closed.get(SEARCH, headers={"Host": host})
    assert (response.status_code, response.content_type) == (421, "application/problem+json")
    assert "--allowed-host" in response.get_json(force=True)["hint"]
    assert asked_as(closed, host, "/readyz") == 200, "load balancers use any name"


@pytest.mark.parametrize("bound_to", ["0.0.0.0", "::", "192.0.2.1", "photos.example"])  # noqa: S104 - not bound to
def test_in_a_network_any_name_is_accepted_until_names_are_configured(bound_to: str) -> None:
    assert asked_as(controlled_client(AccessSettings(bound_to=bound_to)), "any.example") == 200
    named = controlled_client(AccessSettings(bound_to=bound_to, allowed_hosts=("photos.example",)))
    assert [asked_as(named, host) for host in ("Photos.example:80", "localhost", "any.example")] == [200, 200, 421]


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("Photos.Example", "photos.example:8080"),
        ("photos.example.", "photos.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[2001:db8::1]", "[2001:DB8::1]:8080"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("sceneseek_server_1", "sceneseek_server_1:8080"),
    ],
)
def test_a_configured_name_is_the_one_that_browsers_send(allowed: str, host: str) -> None:
    client = controlled_client(AccessSettings(bound_to="127.0.0.1", allowed_hosts=(allowed,)))
    assert [asked_as(client, host), asked_as(client, f"x.{host}")] == [200, 421]


def test_a_star_accepts_any_name() -> None:
    assert asked_as(controlled_client(AccessSettings(bound_to="127.0.0.1", allowed_hosts=("*",))), "any.example") == 200


def test_x_forwarded_host_is_ignored() -> None:
    client = controlled_client(AccessSettings(bound_to="127.0.0.1", trusted_proxies=1))
    assert client.get(SEARCH, headers={"Host": "x.example", "X-Forwarded-Host": "localhost"}).status_code == 421


def test_by_default_no_other_origin_may_read_anything() -> None:
    client = controlled_client(AccessSettings())
    for method in ("GET", "OPTIONS"):
        headers = client.open(SEARCH, method=method, headers={"Origin": ELSEWHERE}).headers
        assert not [name for name, _ in headers if name.startswith("Access-Control")]


def test_only_a_configured_origin_may_read_answers(friendly: FlaskClient) -> None:
    headers = friendly.get(SEARCH, headers={"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}).headers
    assert headers["Access-Control-Allow-Origin"] == FRIEND
    assert "Access-Control-Allow-Credentials" not in headers
    assert "Retry-After" in headers["Access-Control-Expose-Headers"]
    for origin in (ELSEWHERE, "null", "http://friend.example", FRIEND + ":8443", "https://friend.example.org"):
        headers = friendly.get(SEARCH, headers={"Origin": origin}).headers
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Vary"] == "Origin", "caches tell them apart"


def test_a_configured_origin_gets_an_answer_to_its_preflight(tmp_path: Path) -> None:
    key = made_key(tmp_path / "keys.json")
    client = controlled_client(AccessSettings(api_keys=tmp_path / "keys.json", cors_origins=(FRIEND,)))
    asking = {"Origin": FRIEND, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    told = client.options(SEARCH, headers=asking)
    assert (told.status_code, told.data) == (204, b"")
    assert told.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "X-API-Key" in told.headers["Access-Control-Allow-Headers"]
    assert client.options(SEARCH, headers={**asking, "Origin": ELSEWHERE}).status_code == 401
    refused = client.post(SEARCH, headers={"Origin": FRIEND})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, FRIEND), "it may read why"
    assert client.post(SEARCH, headers={"Origin": FRIEND, "X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("text", ["*", "null", "friend.example", "https://", "https://a.example/", "https://a.example/x",
    "ftp://a.example", "https://u:p@a.example", "https://a.example:port", "https://*.example/"])  # fmt: skip
def test_a_malformed_origin_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no origin"):
        checked_origin(text)


def test_an_origin_may_have_a_port() -> None:
    assert checked_origin("http://localhost:3000") == "http://localhost:3000"
    assert checked_origin("https://Friend.example") == FRIEND


CROSS_SITE = {
    "a picture": ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}),
    "a frame": ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}),
    "a form": ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}),
    "a sibling's script": ("POST", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}),
    "an old browser's form": ("POST", {"Origin": ELSEWHERE}),
    "a form of no origin": ("POST", {"Origin": "null"}),
}
INTENDED = {
    "our page": ("POST", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Origin": "http://localhost"}),
    "our page behind a proxy": ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "https://photos.example"}),
    "our page in an old browser": ("POST", {"Origin": "http://localhost"}),
    "an address typed in": ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}),
    "a link": ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}),
    "a program": ("POST", {}),
}


@pytest.mark.parametrize(("method", "headers"), CROSS_SITE.values(), ids=list(CROSS_SITE))
def test_requests_that_another_site_makes_a_browser_send_get_403(method: str, headers: dict[str, str]) -> None:
    response = controlled_client(AccessSettings()).open(SEARCH, method=method, headers=headers)
    assert (response.status_code, response.content_type) == (403, "application/problem+json")


@pytest.mark.parametrize(("method", "headers"), INTENDED.values(), ids=list(INTENDED))
def test_requests_of_people_and_programs_are_answered(method: str, headers: dict[str, str]) -> None:
    assert controlled_client(AccessSettings()).open(SEARCH, method=method, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("cors_origins", "mode", "hint"),
    [((FRIEND,), "no-cors", "crossorigin"), ((FRIEND,), "cors", "--cors-origin"), ((), "no-cors", "--cors-origin")],
)
def test_a_picture_in_another_sites_page_is_refused_with_what_helps(
    cors_origins: tuple[str, ...], mode: str, hint: str
) -> None:
    client = controlled_client(AccessSettings(cors_origins=cors_origins))
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": "image"}
    assert hint in client.get(SEARCH, headers=headers).get_json(force=True)["hint"]


def test_an_allowed_origins_picture_with_crossorigin_is_sent(friendly: FlaskClient) -> None:
    headers = {"Origin": FRIEND, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "image"}
    assert friendly.get("/v1/images/1/thumbnail", headers=headers).headers["Access-Control-Allow-Origin"] == FRIEND
