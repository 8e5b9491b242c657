"""`sceneseek serve` answers 503 within the deadline during a Qdrant outage, recovers, and logs one outage.

The server is simulated by `tests.played_qdrant`. The time limits leave slack for a busy machine; any wait other than
the deadline would exceed them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from sceneseek.bundle import Bundle
from sceneseek.store import open_store
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek_indexer.move import move
from tests.played_qdrant import PlayedQdrant

SCENESEEK = Path(sys.executable).with_name("sceneseek")
DEADLINE, SLACK = 1.0, 5.0
# Resolve the server's host name to the address in a file, as Docker's DNS does for a container.
LOOKUP = """
import os, socket
lookup = socket.getaddrinfo
def getaddrinfo(host, *more, **named):
    if host == "qdrant":
        host = open(os.environ["QDRANT_IS_AT"]).read().strip()
    return lookup(host, *more, **named)
socket.getaddrinfo = getaddrinfo
"""


class Service:
    """A running service, with a client and its log."""

    def __init__(self, url: str, log: Path) -> None:
        self.client = httpx.Client(base_url=url, timeout=60)
        self._log = log

    def lines(self) -> list[str]:
        """The lines of the log."""
        return self._log.read_text().splitlines()

    def refused(self, path: str) -> httpx.Response:
        """Send a request, check that it returns 503 within the deadline, and return the response."""
        start = time.monotonic()
        answer = self.client.get(path)
        assert time.monotonic() - start < DEADLINE + SLACK
        assert answer.status_code == 503, path
        return answer

    def searches(self, text: str = "a+house") -> bool:
        """Whether a search succeeds."""
        return self.client.get(f"/v1/search?q={text}").status_code == 200


@pytest.fixture(scope="module")
def played(index_url: str, tmp_path_factory: pytest.TempPathFactory) -> PlayedQdrant:
    """A stopped server that holds the gallery's index."""
    copy = tmp_path_factory.mktemp("moved") / "index"
    shutil.copytree(index_url.removeprefix("file:"), copy)
    server = PlayedQdrant()
    with server.serving(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sceneseek.store.qdrant.collection._POLL_SECONDS", 0.01)
        target = QdrantStore(server.url, QdrantSettings(prefer_grpc="no"))
        move(open_store(f"file:{copy}"), target)
        target.close()
    return server


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that contains the server's address."""
    file = tmp_path_factory.mktemp("names") / "address"
    file.write_text("127.0.0.1")
    return file


@pytest.fixture(scope="module")
def service(
    bundle: Bundle, played: PlayedQdrant, address: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("served")
    (home / "sitecustomize.py").write_text(LOOKUP)
    command = [SCENESEEK, "serve", "--bundle", bundle.path, "--index", f"http://qdrant:{played.port}", "--port", "0"]
    command += ["--deadline", str(DEADLINE)]
    environment = {**os.environ, "PYTHONPATH": str(home), "QDRANT_IS_AT": str(address)}
    log = home / "log"
    with played.serving(), log.open("w") as written:
        process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=written, text=True, env=environment
        )
        assert process.stdout is not None
        announced = process.stdout.readline()
        assert announced, log.read_text()
    running = Service(announced.split()[-1], log)
    with process, running.client:
        yield running
        process.terminate()


def test_hanging_server_returns_503_within_deadline_and_service_recovers(
    service: Service, played: PlayedQdrant
) -> None:
    with played.serving():
        (found,) = service.client.get("/v1/search?q=a+house&k=1").json()["results"]
        before = len(service.lines())
        with played.paused():
            answer = service.refused("/v1/search?q=a+dog")
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json()["type"].endswith("index-unavailable")
            assert urlsplit(str(service.client.base_url)).netloc not in answer.text
            assert "qdrant" not in answer.text
            for path in ("/v1/collections", f"{found['image']}/details", found["thumbnail"], "/readyz"):
                service.refused(path)
            for _ in range(3):
                service.refused("/v1/search?q=a+dog")
        assert service.searches()
        logged = [line.split(": ", maxsplit=1)[1] for line in service.lines()[before:]]
        assert "does not answer within" in logged[0]
        assert "answers again, after" in logged[-1]
        assert len(logged) == 2, logged


def test_service_reconnects_when_server_address_changes(service: Service, played: PlayedQdrant, address: Path) -> None:
    with played.serving():
        assert service.searches()
    assert int(service.refused("/v1/search?q=a+dog").headers["Retry-After"]) >= 1
    service.refused("/readyz")
    played.host = "127.0.0.2"
    address.write_text(played.host)
    with played.serving():
        assert service.searches("a+dog")
        assert service.client.get("/readyz").status_code == 200


def test_recovery_mode_of_server_is_logged_once(service: Service, played: PlayedQdrant, address: Path) -> None:
    address.write_text(played.host)
    with played.serving():
        assert service.searches()
        before = len(service.lines())
        played.recovery = "closed for repairs"
        for _ in range(5):
            answer = service.refused("/v1/search?q=a+dog")
            assert int(answer.headers["Retry-After"]) > 1
        played.recovery = ""
        assert service.searches("a+dog")
        logged = [line.split(": ", maxsplit=1)[1] for line in service.lines()[before:]]
        assert "is in recovery mode" in logged[0]
        assert "closed for repairs" in logged[0]
        assert len(logged) == 2, logged
