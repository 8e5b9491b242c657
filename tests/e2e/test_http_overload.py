"""An overloaded service rejects excess requests at once, answers the others and stays healthy."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sceneseek.bundle import Bundle

SCENESEEK = Path(sys.executable).with_name("sceneseek")
# One thread, a short queue and a short deadline, so that a hundred clients are an overload.
SMALL = ("--http-threads", "1", "--queue", "40", "--deadline", "0.2", "--max-batch", "1", "--query-cache", "0")


class Service:
    """A running service."""

    def __init__(self, bundle: Bundle, index: Path, *options: str) -> None:
        command = [SCENESEEK, "serve", "--bundle", bundle.path, "--index", f"file:{index}", "--port", "0", *options]
        self.process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        with self.process.stdout as output:
            self.port = int(urlsplit(output.readline().split()[-1]).port or 0)

    def connect(self) -> http.client.HTTPConnection:
        """Open a new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def end(self) -> None:
        """Kill the process if it is still running."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def index(index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(index_url.removeprefix("file:"), tmp_path_factory.mktemp("loaded") / "index"))


@pytest.fixture(scope="module")
def small(bundle: Bundle, index: Path) -> Iterator[Service]:
    service = Service(bundle, index, *SMALL)
    yield service
    service.end()


def searched(connection: http.client.HTTPConnection, text: str) -> http.client.HTTPResponse:
    connection.request("GET", f"/v1/search?q={text}")
    return connection.getresponse()


def test_overload_is_answered_with_429_or_503_while_healthz_returns_200(small: Service) -> None:
    connections = [small.connect() for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.request("GET", f"/v1/search?q=a+house+of+{number}+rooms")
    health = small.connect()
    health.request("GET", "/healthz")
    assert health.getresponse().status == 200
    answers = [(connection.getresponse(), connection) for connection in connections]
    statuses = Counter(answer.status for answer, _ in answers)
    assert set(statuses) == {200, 429, 503}
    for answer, _ in answers:
        document = json.loads(answer.read())
        if answer.status != 200:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert int(answer.headers["Retry-After"]) >= 1
            assert document["type"].rpartition(":")[2] == {429: "overloaded", 503: "deadline-passed"}[answer.status]
            assert document["hint"]
    # Connections stay open, and the service has recovered.
    for answer, connection in answers:
        if answer.status == 429:
            assert searched(connection, "a+house").status == 200
            break
    for _, connection in answers:
        connection.close()
    health.request("GET", "/readyz")
    health.close()


def test_idle_connections_occupy_no_thread(small: Service) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(20):
            silent.enter_context(socket.create_connection(("127.0.0.1", small.port)))
        with contextlib.closing(small.connect()) as connection:
            assert searched(connection, "a+house").status == 200


def test_service_restarts_on_same_port_after_sigkill(bundle: Bundle, index_url: str, tmp_path: Path) -> None:
    index = Path(shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index"))
    first = Service(bundle, index)
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    again = Service(bundle, index, "--port", str(first.port))
    try:
        assert again.port == first.port  # the first service's worker has released port and index
        with contextlib.closing(again.connect()) as idle, contextlib.closing(again.connect()) as unused:
            assert searched(idle, "a+house").status == 200
            unused.connect()
            begun = time.monotonic()
            again.process.terminate()
            assert again.process.wait(60) == 0
            assert time.monotonic() - begun < 28, "idle keep-alive connections do not delay shutdown"
    finally:
        again.end()
