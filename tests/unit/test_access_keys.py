"""API keys: their creation and storage, the headers that carry them, and the response without a valid one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import stat
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from sceneseek.errors import InvalidRequest, NotFound, SourceError
from sceneseek_server.access import keys as keys_module
from sceneseek_server.access.keys import KeyRing, read_keys, remove_key
from sceneseek_server.command import keys as keys_command
from sceneseek_server.service import AccessSettings
from tests.controlled_app import SEARCH, controlled_client, made_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def key(file: Path) -> str:
    return made_key(file)


@pytest.fixture
def client(file: Path, key: str) -> FlaskClient:
    return controlled_client(AccessSettings(api_keys=file))


@pytest.fixture
def refresh_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reload the key file at every request instead of once a second."""
    monkeypatch.setattr(keys_module, "_REFRESH_INTERVAL", 0.0)


def one_key(**fields: str) -> str:
    """The content of a file with one key that has these fields."""
    return json.dumps({"keys": [{"name": "x", "sha256": "0" * 64, "created": "2026-01-31T12:00:00Z", **fields}]})


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


VALID_HEADERS: dict[str, Callable[[str], dict[str, str]]] = {
    "bearer": lambda key: {"Authorization": f"Bearer {key}"},
    "lowercase bearer": lambda key: {"Authorization": f"bearer {key}"},
    "X-API-Key": lambda key: {"X-API-Key": key},
    "basic password": lambda key: {"Authorization": basic("anyone", key)},
    "basic password without user": lambda key: {"Authorization": basic("", key)},
    "X-API-Key with proxy credentials": lambda key: {"X-API-Key": key, "Authorization": basic("proxy", "secret")},
}
INVALID_HEADERS: dict[str, Callable[[str], dict[str, str]]] = {
    "no header": lambda _: {},
    "wrong key": lambda key: {"X-API-Key": key[:-1] + ("A" if key[-1] != "A" else "B")},
    "empty": lambda _: {"X-API-Key": ""},
    "key hash": lambda key: {"X-API-Key": hashlib.sha256(key.encode()).hexdigest()},
    "invalid base64": lambda _: {"Authorization": "Basic ?"},
    "invalid UTF-8": lambda _: {"Authorization": "Basic " + base64.b64encode(b":\xff").decode()},
    "other scheme": lambda key: {"Authorization": f"Digest {key}"},
    "key as user": lambda key: {"Authorization": basic(key, "")},
    "not ASCII": lambda _: {"X-API-Key": "schlüssel"},
}


@pytest.mark.parametrize("headers_for", VALID_HEADERS.values(), ids=list(VALID_HEADERS))
def test_key_is_accepted_in_each_supported_header(
    client: FlaskClient, key: str, headers_for: Callable[[str], dict[str, str]]
) -> None:
    response = client.get(SEARCH, headers=headers_for(key))
    assert response.status_code == 200
    assert response.get_json()["key"] == "phone"


@pytest.mark.parametrize("headers_for", INVALID_HEADERS.values(), ids=list(INVALID_HEADERS))
def test_invalid_keys_get_identical_401_response(
    client: FlaskClient, key: str, headers_for: Callable[[str], dict[str, str]]
) -> None:
    response = client.get(SEARCH, headers=headers_for(key))
    assert (response.status_code, response.content_type) == (401, "application/problem+json")
    assert response.get_json(force=True)["detail"] == "an API key is required"
    challenges = response.headers.getlist("WWW-Authenticate")
    assert [challenge.split()[0] for challenge in challenges] == ["Bearer", "Basic"], "browsers prompt for Basic"


def test_key_in_url_is_ignored(client: FlaskClient, key: str) -> None:
    assert client.get(f"{SEARCH}?api_key={key}&key={key}&access_token={key}").status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/static/page.js", "/metrics", "/openapi.json", "/nowhere", "/v1/images/1", "//"]
)
def test_every_path_requires_key_whether_it_exists_or_not(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_checks_require_no_key(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_no_key_is_required_without_key_file() -> None:
    response = controlled_client(AccessSettings()).get(SEARCH)
    assert response.get_json() == {"address": "127.0.0.1", "key": None, "bytes": 0}


def test_key_file_stores_hashes_and_is_private(file: Path, key: str) -> None:
    text = file.read_text()
    assert key not in text
    assert key.removeprefix("sceneseek_") not in text
    assert hashlib.sha256(key.encode()).hexdigest() in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(key.removeprefix("sceneseek_")) == 43, "256 bits"


def test_generated_keys_are_unique(file: Path) -> None:
    assert len({made_key(file, f"key-{i}") for i in range(3)}) == 3


@pytest.mark.usefixtures("refresh_always")
def test_keys_are_added_and_removed_without_restart(client: FlaskClient, file: Path, key: str) -> None:
    new = made_key(file, "phone-2")
    assert [client.get(SEARCH, headers={"X-API-Key": each}).status_code for each in (key, new)] == [200, 200]
    remove_key(file, "phone")
    assert [client.get(SEARCH, headers={"X-API-Key": each}).status_code for each in (key, new)] == [401, 200]
    remove_key(file, "phone-2")
    assert client.get(SEARCH, headers={"X-API-Key": new}).status_code == 401, "an empty key file accepts no key"


def test_expired_key_is_rejected(file: Path) -> None:
    old, good = made_key(file, "old", expires=timedelta(seconds=1)), made_key(file, "good", expires=timedelta(36_000))
    client = controlled_client(AccessSettings(api_keys=file))
    assert [client.get(SEARCH, headers={"X-API-Key": each}).status_code for each in (old, good)] == [401, 200]


@pytest.mark.usefixtures("refresh_always")
@pytest.mark.parametrize("damage", ["", "{", "[]", '{"keys": [{"name": "x"}]}', None], ids=repr)
def test_damaged_key_file_keeps_previous_keys_and_is_reported_once(
    client: FlaskClient, file: Path, key: str, damage: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    content = file.read_text()
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    problem = client.get("/readyz").get_json()["problem"]  # before any request with a key
    for _ in range(3):
        assert client.get(SEARCH, headers={"X-API-Key": key}).status_code == 200
    assert "keys before its last change are still valid" in problem
    assert str(file) not in problem
    assert [str(file) in record.getMessage() for record in caplog.records] == [True], "once, not at each request"
    file.write_text(content)
    file.chmod(0o600)
    assert client.get("/readyz").get_json()["problem"] is None
    assert client.get(SEARCH, headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "key file .* does not exist"),
        ("", "is damaged"),
        ('{"keys": []}', "has no keys"),
        (one_key(sha256="sceneseek_secret"), "is damaged"),
        (one_key(rate="no"), "is damaged .*'no' is not a rate"),
    ],
    ids=["missing", "empty", "no keys", "key instead of hash", "invalid rate"],
)  # fmt: skip
def test_service_does_not_start_with_invalid_key_file(file: Path, content: str | None, says: str) -> None:
    if content is not None:
        file.write_text(content)
        file.chmod(0o600)
    with pytest.raises(SourceError, match=says) as refused:
        controlled_client(AccessSettings(api_keys=file))
    assert "sceneseek_secret" not in str(refused.value)


def test_key_file_writable_by_others_is_rejected(file: Path, key: str) -> None:
    file.chmod(0o620)
    with pytest.raises(SourceError, match="can be written by others"):
        KeyRing(file)


def test_duplicate_key_names_and_hashes_are_rejected(file: Path, key: str) -> None:
    with pytest.raises(InvalidRequest, match="there is a key named phone"):
        made_key(file)
    document = json.loads(file.read_text())
    file.write_text(json.dumps({"keys": [*document["keys"], {**document["keys"][0], "name": "other"}]}))
    with pytest.raises(SourceError, match="two entries with the same sha256"):
        read_keys(file)


def test_keys_added_concurrently_are_all_stored(file: Path) -> None:
    adding = [threading.Thread(target=made_key, args=(file, f"key-{i}")) for i in range(8)]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert {entry.name for entry in read_keys(file)} == {f"key-{i}" for i in range(8)}


@pytest.mark.parametrize("name", ["", "-x", "a b", "x\n", "a/b", "x" * 65])
def test_invalid_key_name_is_rejected(file: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="not a valid key name"):
        made_key(file, name)


def test_lookup_compares_every_key_regardless_of_match(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [made_key(file, f"key-{i}") for i in range(5)]
    ring = KeyRing(file)
    compared: list[str] = []

    def record(stored: str, digest: str) -> bool:
        compared.append(stored)
        return stored == digest

    monkeypatch.setattr(hmac, "compare_digest", record)
    for secret in [*secrets, "none"]:
        compared.clear()
        ring.find(secret)
        assert len(compared) == 5


def test_invalid_keys_are_rate_limited_by_address_and_valid_key_passes(
    client: FlaskClient, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen = [client.get(SEARCH, headers={"X-API-Key": f"guess-{i}"}).status_code for i in range(30)]
    assert seen[:20] == [401] * 20
    assert set(seen[20:]) == {429}
    limited = client.get(SEARCH, headers={"X-API-Key": "guess"})
    assert int(limited.headers["Retry-After"]) >= 1
    assert client.get(SEARCH, headers={"X-API-Key": key}).status_code == 200, "a client cannot lock others out"
    elsewhere = client.get(SEARCH, headers={"X-API-Key": "guess"}, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert elsewhere.status_code == 401
    assert len(caplog.records) == 21, "rate-limited guesses are not logged"
    assert "guess" not in caplog.text


def test_keys_do_not_appear_in_output_or_logs(
    client: FlaskClient, file: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for headers_for in (*VALID_HEADERS.values(), *INVALID_HEADERS.values()):
        for path in (SEARCH, "/nowhere", "/broken"):
            client.get(path, headers=headers_for(key))
    digest = hashlib.sha256(key.encode()).hexdigest()
    shown = caplog.text + repr(KeyRing(file)) + repr(read_keys(file)) + str(read_keys(file)[0])
    assert caplog.records
    for secret in (key, key.removeprefix("sceneseek_"), digest, basic("anyone", key).split()[1]):
        assert secret not in shown


def test_keys_command_adds_lists_and_removes_keys(file: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(keys_command, [*words, "--api-keys", str(file)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    secret = run("add", "phone", "--expires", "90", "--rate", "5/second").strip()
    run("add", "desk", "--write")
    phone, desk = run("list").splitlines()
    assert phone.startswith("phone  created ")
    assert phone.endswith("  5/second")
    assert "  expires " in phone
    assert "does not expire" in desk
    assert desk.endswith("  may write")
    assert secret not in run("list")
    entry = KeyRing(file).find(secret)
    assert entry is not None
    assert entry.expires == entry.created + timedelta(days=90)
    assert not entry.write
    run("remove", "phone")
    assert KeyRing(file).find(secret) is None
    with pytest.raises(NotFound, match="no key is named phone"):
        keys_command.main(["remove", "phone", "--api-keys", str(file)], standalone_mode=False)


def test_keys_command_requires_key_file_and_valid_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCENESEEK_API_KEYS", raising=False)
    with pytest.raises(click.UsageError, match="no key file is set"):
        keys_command.main(["list"], standalone_mode=False)
    with pytest.raises(click.BadParameter, match="is not a rate"):
        keys_command.main(["add", "x", "--rate", "fast"], standalone_mode=False)
