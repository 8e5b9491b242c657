"""Host checks, CORS and cross-site requests."""

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
def loopback_client() -> FlaskClient:
    return controlled_client(AccessSettings(bound_to="127.0.0.1"))


@pytest.fixture
def cors_client() -> FlaskClient:
    return controlled_client(AccessSettings(cors_origins=(FRIEND,)))


def status_for_host(client: FlaskClient, host: str, path: str = SEARCH) -> int:
    return client.get(path, headers={"Host": host}).status_code


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "localhost."])
def test_loopback_names_are_accepted_on_loopback(loopback_client: FlaskClient, host: str) -> None:
    assert status_for_host(loopback_client, host) == 200


@pytest.mark.parametrize(
    "host", ["rebound.example", "rebound.example:8080", "127.0.0.1.rebound.example", "localhost.x.example", "[::2]"]
)
def test_other_host_names_are_rejected_on_loopback(loopback_client: FlaskClient, host: str) -> None:
    response = loopback_client.get(SEARCH, headers={"Host": host})
    assert (response.status_code, response.content_type) == (421, "application/problem+json")
    assert "--allowed-host" in response.get_json(force=True)["hint"]
    assert status_for_host(loopback_client, host, "/readyz") == 200, "load balancers may use any host name"


@pytest.mark.parametrize("bound_to", ["0.0.0.0", "::", "192.0.2.1", "photos.example"])  # noqa: S104 - nothing is bound
def test_any_host_name_is_accepted_on_a_network_unless_configured(bound_to: str) -> None:
    assert status_for_host(controlled_client(AccessSettings(bound_to=bound_to)), "any.example") == 200
    named = controlled_client(AccessSettings(bound_to=bound_to, allowed_hosts=("photos.example",)))
    assert [status_for_host(named, host) for host in ("Photos.example:80", "localhost", "any.example")] == [
        200,
        200,
        421,
    ]


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
def test_allowed_hosts_match_the_host_header_of_browsers(allowed: str, host: str) -> None:
    client = controlled_client(AccessSettings(bound_to="127.0.0.1", allowed_hosts=(allowed,)))
    assert [status_for_host(client, host), status_for_host(client, f"x.{host}")] == [200, 421]


def test_wildcard_accepts_any_host_name() -> None:
    assert (
        status_for_host(controlled_client(AccessSettings(bound_to="127.0.0.1", allowed_hosts=("*",))), "any.example")
        == 200
    )


def test_x_forwarded_host_is_ignored() -> None:
    client = controlled_client(AccessSettings(bound_to="127.0.0.1", trusted_proxies=1))
    assert client.get(SEARCH, headers={"Host": "x.example", "X-Forwarded-Host": "localhost"}).status_code == 421


def test_cors_is_disabled_by_default() -> None:
    client = controlled_client(AccessSettings())
    for method in ("GET", "OPTIONS"):
        headers = client.open(SEARCH, method=method, headers={"Origin": ELSEWHERE}).headers
        assert not [name for name, _ in headers if name.startswith("Access-Control")]


def test_cors_headers_are_sent_to_configured_origins_only(cors_client: FlaskClient) -> None:
    headers = cors_client.get(SEARCH, headers={"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}).headers
    assert headers["Access-Control-Allow-Origin"] == FRIEND
    assert "Access-Control-Allow-Credentials" not in headers
    assert "Retry-After" in headers["Access-Control-Expose-Headers"]
    for origin in (ELSEWHERE, "null", "http://friend.example", FRIEND + ":8443", "https://friend.example.org"):
        headers = cors_client.get(SEARCH, headers={"Origin": origin}).headers
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Vary"] == "Origin", "so that caches distinguish origins"


def test_preflight_of_a_configured_origin_succeeds(tmp_path: Path) -> None:
    key = made_key(tmp_path / "keys.json")
    client = controlled_client(AccessSettings(api_keys=tmp_path / "keys.json", cors_origins=(FRIEND,)))
    asking = {"Origin": FRIEND, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    preflight = client.options(SEARCH, headers=asking)
    assert (preflight.status_code, preflight.data) == (204, b"")
    assert preflight.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "X-API-Key" in preflight.headers["Access-Control-Allow-Headers"]
    # With a key that may write, its pages may also upload, replace and delete.
    assert {"PUT", "DELETE"} <= set(preflight.headers["Access-Control-Allow-Methods"].split(", "))
    assert "If-Match" in preflight.headers["Access-Control-Allow-Headers"]
    assert client.options(SEARCH, headers={**asking, "Origin": ELSEWHERE}).status_code == 401
    refused = client.post(SEARCH, headers={"Origin": FRIEND})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, FRIEND), (
        "the origin can read the error"
    )
    assert client.post(SEARCH, headers={"Origin": FRIEND, "X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("text", ["*", "null", "friend.example", "https://", "https://a.example/", "https://a.example/x",
    "ftp://a.example", "https://u:p@a.example", "https://a.example:port", "https://*.example/"])  # fmt: skip
def test_invalid_origin_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an origin"):
        checked_origin(text)


def test_origin_may_have_a_port() -> None:
    assert checked_origin("http://localhost:3000") == "http://localhost:3000"
    assert checked_origin("https://Friend.example") == FRIEND


CROSS_SITE = {
    "image": ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}),
    "frame": ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}),
    "form": ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}),
    "script of a sibling site": ("POST", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}),
    "form in an old browser": ("POST", {"Origin": ELSEWHERE}),
    "form with a null origin": ("POST", {"Origin": "null"}),
}
ALLOWED = {
    "search page": ("POST", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Origin": "http://localhost"}),
    "search page behind a proxy": ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "https://photos.example"}),
    "search page in an old browser": ("POST", {"Origin": "http://localhost"}),
    "typed URL": ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}),
    "link": ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}),
    "API client": ("POST", {}),
}


@pytest.mark.parametrize(("method", "headers"), CROSS_SITE.values(), ids=list(CROSS_SITE))
def test_cross_site_requests_return_403(method: str, headers: dict[str, str]) -> None:
    response = controlled_client(AccessSettings()).open(SEARCH, method=method, headers=headers)
    assert (response.status_code, response.content_type) == (403, "application/problem+json")


@pytest.mark.parametrize(("method", "headers"), ALLOWED.values(), ids=list(ALLOWED))
def test_same_origin_direct_and_api_requests_are_allowed(method: str, headers: dict[str, str]) -> None:
    assert controlled_client(AccessSettings()).open(SEARCH, method=method, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("cors_origins", "mode", "hint"),
    [((FRIEND,), "no-cors", "crossorigin"), ((FRIEND,), "cors", "--cors-origin"), ((), "no-cors", "--cors-origin")],
)
def test_cross_site_image_is_rejected_with_a_hint(cors_origins: tuple[str, ...], mode: str, hint: str) -> None:
    client = controlled_client(AccessSettings(cors_origins=cors_origins))
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": "image"}
    assert hint in client.get(SEARCH, headers=headers).get_json(force=True)["hint"]


def test_image_with_crossorigin_is_sent_to_an_allowed_origin(cors_client: FlaskClient) -> None:
    headers = {"Origin": FRIEND, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "image"}
    assert cors_client.get("/v1/images/1/thumbnail", headers=headers).headers["Access-Control-Allow-Origin"] == FRIEND
