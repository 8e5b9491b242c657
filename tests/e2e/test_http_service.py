"""`sceneseek serve` end to end: startup, requests, generation switches, signals and shutdown."""

# ruff: noqa: RUF001 - queries in many scripts

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from sceneseek.bundle import Bundle
from sceneseek.request import MAX_QUERY_CHARACTERS
from sceneseek_server.access.keys import remove_key
from tests.controlled_app import made_key
from tests.drawing import NAMES, draw_gallery

SCENESEEK = Path(sys.executable).with_name("sceneseek")
QUERY = "/v1/search?q=a+red+circle&k=3"


class Service:
    """A running service: its process, its URL and an HTTP client."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.announced = process.stdout.readline()
        assert self.announced, "the process exited without output"
        self.url = self.announced.split()[-1]
        self.client = httpx.Client(base_url=self.url if self.url.startswith("http") else "", timeout=30)

    def worker(self) -> int:
        """PID of the worker process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def connect(self) -> socket.socket:
        """Open a new connection."""
        parts = urlsplit(self.url)
        return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=30)

    def stopped(self, number: signal.Signals = signal.SIGTERM, within: float = 20) -> tuple[int, str]:
        """Stop the service; return its exit code and standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=within)
        return self.process.returncode, errors


Start = Callable[..., Service]


@pytest.fixture
def index(index_url: str, tmp_path: Path) -> Path:
    """A copy of the gallery's index for one test."""
    return Path(shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index"))


@pytest.fixture
def start(bundle: Bundle, index: Path) -> Iterator[Start]:
    """Start the service over that index on a free port."""
    with _starting(bundle, index) as start_service:
        yield start_service


@pytest.fixture(scope="module")
def running(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service shared by tests that do not change it."""
    index = shutil.copytree(index_url.removeprefix("file:"), tmp_path_factory.mktemp("running") / "index")
    with _starting(bundle, Path(index)) as start_service:
        yield start_service()


@contextlib.contextmanager
def _starting(bundle: Bundle, index: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as cleaning:

        def start_service(*options: str) -> Service:
            command = [SCENESEEK, "serve", "--bundle", bundle.path, "--index", f"file:{index}", "--port", "0"]
            process = subprocess.Popen(
                [*map(str, command), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            cleaning.callback(process.wait)
            cleaning.callback(process.kill)
            cleaning.enter_context(process.stdout or contextlib.nullcontext())
            cleaning.enter_context(process.stderr or contextlib.nullcontext())
            service = Service(process)
            cleaning.callback(service.client.close)
            return service

        yield start_service


def test_serve_prints_url_and_answers_searches_with_fetchable_images(start: Start) -> None:
    service = start()
    assert service.announced == f"sceneseek searches {len(NAMES)} images at {service.url}\n"
    answer = service.client.get(QUERY).raise_for_status().json()
    assert answer == {**service.client.post("/v1/search", json={"q": "a red circle", "k": 3}).json(), **_times(answer)}
    assert [result["rank"] for result in answer["results"]] == [1, 2, 3]
    for result in answer["results"]:
        assert service.client.get(result["image"]).headers["Content-Type"].startswith("image/")
        assert service.client.get(result["thumbnail"]).headers["Content-Type"] == "image/jpeg"
    assert service.client.get("/readyz").json()["status"] == "ready"
    assert "<title>sceneseek</title>" in service.client.get("/").text
    assert service.stopped() == (0, "")


# One query per script and character class; the quality of the results is not tested here.
SCRIPTS = {
    "Cyrillic": "собака на пляже",
    "Greek": "ένας σκύλος στην παραλία",
    "Chinese": "沙滩上的狗",
    "Japanese": "砂浜を走る犬",
    "Korean": "해변의 개",
    "Arabic": "كلب على الشاطئ",
    "Arabic with vowel marks and tatweel": "كَلْبٌ عـــلى الشاطئ",
    "Hebrew": "כלב על החוף",
    "Hindi": "समुद्र तट पर कुत्ता",
    "Thai without spaces": "สุนัขบนชายหาด",
    "Georgian": "ძაღლი სანაპიროზე",
    "Cherokee": "ᎩᎵ",
    "outside the BMP": "𠮷野家 𐍈 𝒹𝑜𝑔",
    "private use": "\ue000\U000f0000",
    "unassigned": "\u0378 \U000e0fff",
    "emoji": "🐕🏖️",
    "emoji ZWJ sequence, flag, keycap, skin tone": "👩‍👩‍👧‍👦 🇯🇵 1️⃣ 👍🏽",
    "full width": "ｄｏｇ　ｏｎ　ａ　ｂｅａｃｈ",
    "ligature and soft hyphen": "ﬁsh and wa\u00adter",
    "decomposed": "cafe\u0301 и\u0306од",
    "many combining marks": "d" + "\u0300" * 300,
    "invisible characters only": "\u200b\u2060\ufeff",
    "bidi controls": "\u202bכלב\u202c dog\u200f",
    "punctuation only": "?!… — № € ∞",
    "Cyrillic and Latin": "красный sports car",
    "Chinese and Latin": "红色的 sports car 在街上",
    "Hebrew and Latin": "a כלב on the חוף",
    "emoji and Latin": "a 🐕 on a beach",
}


@pytest.mark.parametrize("query", SCRIPTS.values(), ids=SCRIPTS)
def test_query_in_any_script_gives_same_results_by_get_post_batch_and_score(running: Service, query: str) -> None:
    client = running.client
    response = client.get("/v1/search", params={"q": query, "k": 3})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["query"] == " ".join(unicodedata.normalize("NFC", query).split())
    assert [result["rank"] for result in answer["results"]] == [1, 2, 3]
    assert all(0 <= result["score"] <= 1 for result in answer["results"])
    batch = client.post("/v1/search", json={"queries": [{"q": query, "k": 3}, {"q": "a red circle", "k": 3}]}).json()
    others = [client.post("/v1/search", json={"q": query, "k": 3}).json(), batch["answers"][0]]
    for other in others:
        assert [result["id"] for result in other["results"]] == [result["id"] for result in answer["results"]]
        assert [result["score"] for result in other["results"]] == pytest.approx(
            [result["score"] for result in answer["results"]], abs=1e-4
        )
    first = answer["results"][0]
    scored = client.post("/v1/score", json={"q": query, "images": [first["id"]]})
    assert scored.status_code == 200, scored.text
    assert scored.json()["scores"][0]["score"] == pytest.approx(first["score"], abs=1e-3)


def test_longest_query_of_page_fits_into_url_in_any_script(running: Service) -> None:
    # A character takes up to nine bytes of a URL, and gunicorn reads at most 8,190 bytes.
    field = re.search(r'id="query"[^>]* maxlength="(\d+)"', running.client.get("/").text)
    assert field is not None
    assert running.client.get("/v1/search", params={"q": "犬" * int(field[1])}).status_code == 200
    assert running.client.post("/v1/search", json={"q": "犬" * MAX_QUERY_CHARACTERS}).status_code == 200


def test_sigterm_completes_requests_in_flight_and_refuses_new_connections(start: Start) -> None:
    service = start("--http-threads", "4")
    request = f"GET {QUERY} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as open_connections:
        connections = [open_connections.enter_context(service.connect()) for _ in range(64)]
        for connection in connections:
            connection.sendall(request)
        _wait_until(lambda: _pending_connections(httpx.URL(service.url).port), lambda count: count == 0)
        service.process.send_signal(signal.SIGTERM)
        answers = [_read_answer(connection) for connection in connections]
    assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 64
    assert all(json.loads(answer.partition(b"\r\n\r\n")[2])["results"] for answer in answers)
    assert service.process.wait(timeout=20) == 0
    with pytest.raises(ConnectionRefusedError):
        service.connect()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_serve_exits_0_without_output_on_signal(start: Start, number: signal.Signals) -> None:
    service = start()
    service.client.get(QUERY).raise_for_status()
    assert service.stopped(number) == (0, "")


def test_alias_switch_causes_no_failed_request(
    start: Start, index: Path, bundle: Bundle, tmp_path: Path, index_url: str
) -> None:
    folder = draw_gallery(tmp_path / "pictures")
    _index(folder, bundle, index)
    service = start("--show-paths")
    responses: list[tuple[int, str]] = []
    stop = threading.Event()

    def send_requests() -> None:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while not stop.is_set():
                response = client.get(QUERY)
                responses.append((response.status_code, response.json().get("generation", "")))
                time.sleep(0.01)  # leave CPU time for the indexer

    clients = [threading.Thread(target=send_requests) for _ in range(4)]
    for thread in clients:
        thread.start()
    before = service.client.get("/readyz").json()
    Image.new("RGB", (200, 200), "red").save(folder / "new.png")
    _index(folder, bundle, index)
    after = _wait_until(
        lambda: service.client.get("/readyz").json(), lambda state: state["generation"] != before["generation"]
    )
    time.sleep(0.2)
    stop.set()
    for thread in clients:
        thread.join()

    assert after["generation"] != before["generation"]
    assert {status for status, _ in responses} == {200}
    assert {generation for _, generation in responses} == {before["generation"], after["generation"]}
    assert "new.png" in [
        r["path"] for r in service.client.get("/v1/search?q=red&k=100&keep_duplicates=true").json()["results"]
    ]


def test_killed_worker_is_replaced(start: Start) -> None:
    service = start()
    dead = service.worker()
    os.kill(dead, signal.SIGKILL)
    # A request sent earlier could reach the dying worker.
    _wait_until(lambda: _worker_of(service), lambda worker: worker not in (None, dead))
    assert service.client.get(QUERY).status_code == 200
    assert service.stopped()[0] == 0


def test_worker_survives_more_connections_than_file_descriptors(
    bundle: Bundle, index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limited = tmp_path / "sceneseek"
    limited.write_text(f'#!/bin/sh\nulimit -n 512 && exec {SCENESEEK} "$@"\n')
    limited.chmod(0o755)
    monkeypatch.setattr(f"{__name__}.SCENESEEK", limited)
    with _starting(bundle, index) as start_service, contextlib.ExitStack() as idle:
        service = start_service()
        worker = service.worker()
        for _ in range(600):
            idle.enter_context(service.connect())
        _wait_until(lambda: len(list(Path(f"/proc/{worker}/fd").iterdir())), lambda handles: handles > 200)
        time.sleep(1)  # time to accept more connections if nothing limited them
        idle.close()
        assert service.client.get(QUERY).status_code == 200
        assert service.worker() == worker
        assert service.stopped()[0] == 0


def test_gunicorn_scaling_and_upgrade_signals_are_ignored(start: Start) -> None:
    service = start()
    worker = service.worker()
    for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2):
        service.process.send_signal(number)
    time.sleep(1)
    assert service.worker() == worker
    assert service.client.get(QUERY).status_code == 200


def test_api_keys_are_required_and_never_logged(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENESEEK_DEBUG", "1")
    file = tmp_path / "keys" / "keys.json"
    key = made_key(file)
    service = start("--api-keys", str(file), "--rate-limit", "1000/second")
    assert service.client.get(QUERY).status_code == 401
    assert service.client.get("/readyz").status_code == 200
    answered = service.client.get(QUERY, auth=("anyone", key), headers={"SCRIPT_NAME": "/elsewhere"})
    assert answered.status_code == 200
    assert answered.json()["results"][0]["image"].startswith("/v1/images/"), "clients cannot set the URL prefix"
    assert answered.headers["RateLimit-Policy"] == '"requests";q=1000;w=1'
    assert not re.search(r"\d", answered.headers["Server"]), "no version"
    assert service.client.get(QUERY, headers={"X-API-Key": key, "Host": "rebound.example"}).status_code == 421

    new = made_key(file, "phone-2")
    remove_key(file, "phone")
    credentials = {"Authorization": f"Bearer {new}"}
    _wait_until(lambda: service.client.get(QUERY, headers=credentials).status_code, lambda status: status == 200)
    assert service.client.get(QUERY, headers={"X-API-Key": key}).status_code == 401
    _, errors = service.stopped()
    assert "an invalid key was sent" in errors
    for secret in (key, new, base64.b64encode(f"anyone:{key}".encode()).decode()):
        assert secret not in errors


def _times(answer: dict[str, Any]) -> dict[str, Any]:
    return {"timings_ms": answer["timings_ms"]}


def _worker_of(service: Service) -> int | None:
    with contextlib.suppress(OSError, IndexError):
        return service.worker()
    return None


def test_json_log_format_writes_one_object_per_line_including_requests(bundle: Bundle, index: Path) -> None:
    command = [SCENESEEK, "serve", "--bundle", bundle.path, "--index", f"file:{index}", "--port", "0"]
    environment = {**os.environ, "SCENESEEK_LOG_FORMAT": "json"}
    with subprocess.Popen([*map(str, command)], stdout=-1, stderr=-1, text=True, env=environment) as process:
        assert process.stderr is not None
        lines: list[dict[str, Any]] = []
        while not (lines and lines[-1]["message"].startswith("sceneseek searches")):
            lines.append(json.loads(process.stderr.readline()))
        port = urlsplit(lines[-1]["message"].split()[-1]).port
        answer = httpx.get(f"http://127.0.0.1:{port}{QUERY}", headers={"X-Request-ID": "mine"}, timeout=30)
        process.terminate()
        out, errors = process.communicate(timeout=20)
    assert (out, process.returncode) == ("", 0)
    lines += [json.loads(line) for line in errors.splitlines()]
    assert {"gunicorn.error", "sceneseek.access"} <= {line["logger"] for line in lines}
    access = {line["route"]: line for line in lines if line["logger"] == "sceneseek.access"}
    assert access["/v1/search"]["request_id"] == answer.headers["X-Request-ID"] == "mine"
    assert access["/v1/search"]["bytes"] == len(answer.content)
    assert "circle" not in errors


def _index(folder: Path, bundle: Bundle, index: Path) -> None:
    """Index a folder in a separate process."""
    command = [SCENESEEK, "index", folder, "--bundle", bundle.path, "--index", f"file:{index}"]
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=120)


def _pending_connections(port: int | None) -> int:
    """The connections to a local port that have not been accepted yet (proc(5), /proc/net/tcp)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if state == "0A" and int(local.partition(":")[2], 16) == port:  # listening
            return int(queues.partition(":")[2], 16)
    return 0


def _read_answer(connection: socket.socket) -> bytes:
    """Read one complete response, then close the connection."""
    received = b""
    with connection:
        while part := connection.recv(65_536):
            received += part
            head, separator, body = received.partition(b"\r\n\r\n")
            declared = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            if separator and declared and len(body) >= int(declared[1]):
                break
    return received


def _wait_until(poll: Callable[[], Any], condition: Callable[[Any], bool], within: float = 60) -> Any:
    deadline = time.monotonic() + within
    while not condition(value := poll()):
        assert time.monotonic() < deadline, f"still {value} after {within} s"
        time.sleep(0.05)
    return value


def test_unix_socket_is_served_and_removed_on_exit(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "sceneseek.sock"
    service = start("--host", f"unix:{path}", "--trusted-proxies", "1", "--rate-limit", "1/hour")
    assert service.announced == f"sceneseek searches {len(NAMES)} images at unix:{path}\n"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://photos.example") as client:
        statuses = [
            client.get(QUERY, headers={"X-Forwarded-For": address}).status_code
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")
        ]
        assert statuses == [200, 200, 429]
        assert client.get("/readyz").status_code == 200
    assert service.stopped()[0] == 0
    assert not path.exists()
