"""Rate limits: how clients are grouped, response headers, and bounded memory."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from sceneseek.errors import InvalidRequest
from sceneseek_server.access.control import network
from sceneseek_server.access.rates import RateLimiter, parsed_rate
from sceneseek_server.service import AccessSettings
from tests.controlled_app import SEARCH, controlled_client, made_key


class Clock:
    """A fake clock that tests advance."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr("sceneseek_server.access.rates.monotonic", fake.monotonic)
    return fake


def get_status(client: FlaskClient, path: str = SEARCH, address: str = "192.0.2.1", **headers: str) -> int:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(path, headers=fields, environ_overrides={"REMOTE_ADDR": address}).status_code


@pytest.mark.usefixtures("clock")
def test_request_over_rate_limit_gets_429_with_retry_after() -> None:
    client = controlled_client(AccessSettings(rate_limit="3/minute"))
    answers = [client.get(SEARCH) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"requests";q=3;w=60'}
    refused = answers[-1]
    assert refused.content_type == "application/problem+json"
    assert refused.get_json(force=True)["type"] == "urn:sceneseek:problem:rate-limited"
    assert f"t={refused.headers['Retry-After']}" in refused.headers["RateLimit"]


@pytest.mark.parametrize("rate", ["1/second", "3/second", "20/second", "7/minute", "100 per 5 minutes"])
@pytest.mark.parametrize("offset", [0.0, 0.4, 0.999])
def test_client_is_served_after_retry_after(clock: Clock, rate: str, offset: float) -> None:
    client = controlled_client(AccessSettings(rate_limit=rate))
    clock.now += offset
    for _ in range(5):
        while (answer := client.get(SEARCH)).status_code == 200:
            clock.now += 0.001
        clock.now += int(answer.headers["Retry-After"])
        assert client.get(SEARCH).status_code == 200


def test_rate_limit_uses_sliding_window(clock: Clock) -> None:
    client = controlled_client(AccessSettings(rate_limit="10/minute"))
    answered = 0
    for _ in range(600):  # one request per second for ten minutes
        answered += client.get(SEARCH).status_code == 200
        clock.now += 1
    assert 90 <= answered <= 110


@pytest.mark.usefixtures("clock")
def test_ipv4_addresses_and_ipv6_networks_have_separate_limits() -> None:
    client = controlled_client(AccessSettings(rate_limit="1/minute"))
    assert [get_status(client, address=each) for each in ("192.0.2.1", "192.0.2.2", "192.0.2.1")] == [200, 200, 429]
    assert [get_status(client, address=each) for each in ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1")] == [
        200,
        429,
        200,
    ]
    assert network("::ffff:192.0.2.1") == "192.0.2.1"


@pytest.mark.usefixtures("clock")
def test_keys_have_separate_limits_and_optional_rates(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    slow, fast = made_key(file, "slow"), made_key(file, "fast", expires=timedelta(36_000), rate="3/minute")
    client = controlled_client(AccessSettings(api_keys=file, rate_limit="1/minute"))
    assert [get_status(client, address=each, X_API_Key=slow) for each in ("192.0.2.1", "192.0.2.2")] == [200, 429]
    assert [get_status(client, X_API_Key=fast) for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.usefixtures("clock")
def test_image_requests_have_separate_limit_of_fifty_times_the_rate() -> None:
    client = controlled_client(AccessSettings(rate_limit="1/minute"))
    images = [get_status(client, path) for path in ("/v1/images/1", "/v1/images/1/thumbnail") for _ in range(25)]
    assert set(images) == {200}
    assert get_status(client, "/v1/images/1") == 429
    assert [get_status(client), get_status(client)] == [200, 429]


@pytest.mark.usefixtures("clock")
def test_page_and_health_endpoints_are_not_limited() -> None:
    client = controlled_client(AccessSettings(rate_limit="1/minute"))
    for path in ("/", "/static/page.js", "/healthz", "/readyz"):
        assert {get_status(client, path) for _ in range(3)} == {200}
    assert {get_status(client, "/nowhere") for _ in range(3)} == {404, 429}, "unknown paths are counted"


def test_no_limit_by_default() -> None:
    client = controlled_client(AccessSettings())
    assert {get_status(client) for _ in range(100)} == {200}
    assert "RateLimit" not in client.get(SEARCH).headers


def test_number_of_counters_is_bounded() -> None:
    rates = RateLimiter(max_counters=100)
    rate = parsed_rate("1/hour")
    for i in range(1_000):
        assert rates.hit(rate, f"address {i}").allowed
    assert len(rates) == 100
    assert not rates.hit(rate, "address 999").allowed, "the latest counters are kept"


def test_x_forwarded_for_is_trusted_for_configured_number_of_proxies() -> None:
    def address(trusted: int) -> str:
        client = controlled_client(AccessSettings(trusted_proxies=trusted))
        response = client.get(SEARCH, headers={"X-Forwarded-For": "192.0.2.1, 192.0.2.2, 192.0.2.3"})
        return str(response.get_json()["address"])

    assert [address(trusted) for trusted in (0, 1, 2)] == ["127.0.0.1", "192.0.2.3", "192.0.2.2"]


@pytest.mark.parametrize(
    ("first", "second", "same_client"),
    [
        ("192.0.2.1:1024", "192.0.2.1:65535", True),
        ("192.0.2.1:1024", "192.0.2.1", True),
        ("192.0.2.1:1024", "192.0.2.2:1024", False),
        ("[2001:db8::1]:1024", "[2001:db8::1]:2048", True),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("[2001:db8::1]:1024", "[2001:db8:0:1::1]:1024", False),
        ('"[2001:db8::1]:1024"', "2001:db8::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1:80", True),
        ("fe80::1%eth0", "fe80::1", True),
        ("unknown", "_hidden", True),
        ("x" * 8_000, "y" * 8_000, True),
    ],
)
@pytest.mark.usefixtures("clock")
def test_client_address_is_normalized_across_proxy_formats(first: str, second: str, same_client: bool) -> None:
    client = controlled_client(AccessSettings(rate_limit="1/minute", trusted_proxies=1))
    answers = [client.get(SEARCH, headers={"X-Forwarded-For": address}) for address in (first, second)]
    assert [answer.status_code for answer in answers] == [200, 429 if same_client else 200]


@pytest.mark.parametrize("size", [1, 2, 19, 20, 21, 1_000])
@pytest.mark.parametrize("used", [0, 1, 19, 20])
def test_batch_of_any_size_passes_after_retry_after(clock: Clock, size: int, used: int) -> None:
    client = controlled_client(AccessSettings(rate_limit="20/minute"))
    for _ in range(used):
        client.get(SEARCH)
    answers = [client.post(f"/v1/batch/{size}")]
    while answers[-1].status_code == 429:
        clock.now += int(answers[-1].headers["Retry-After"])
        answers.append(client.post(f"/v1/batch/{size}"))
    # With no quota left, a request is rejected before its size is known.
    assert len(answers) == 1 + (used > 0 and used + size > 20) + (used == 20 and size > 1)
    assert answers[0].headers["RateLimit"].split(";")[1] == f"r={max(0, 20 - size - used)}" or len(answers) > 1


def test_batch_costs_as_much_as_its_searches(clock: Clock) -> None:
    client = controlled_client(AccessSettings(rate_limit="60/minute"))
    answered = 0
    for _ in range(600):
        answered += 8 * (client.post("/v1/batch/8").status_code == 200)
        clock.now += 1
    assert 500 <= answered <= 660


@pytest.mark.parametrize(
    "text",
    ["", "fast", "0/second", "20", "-1/second", "20/fortnight", "1/second;2/minute", "1/0 second"],
)
def test_malformed_rate_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a rate"):
        parsed_rate(text)
