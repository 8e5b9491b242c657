"""`sceneseek serve --metrics-port`, scraped as Prometheus does: by address, without a key, with its own headers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sceneseek.bundle import Bundle
from tests.command_line import CommandLine
from tests.controlled_app import made_key

# An address of this machine that is none of the names the host check lets in, as a container's is not.
ADDRESS = "127.0.0.2"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - as in a container
SCRAPE = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "User-Agent": "Prometheus/3.5.0",
}


class Served:
    """A running service with a port for metrics."""

    def __init__(self, process: subprocess.Popen[str], public: str, metrics: str) -> None:
        self.process, self.public, self.metrics = process, public, metrics

    def worker(self) -> int:
        """The process that answers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])


@pytest.fixture(scope="module")
def served(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service as the stack runs it: on all addresses, with names and keys that it asks for."""
    folder = tmp_path_factory.mktemp("scraped")
    index = shutil.copytree(index_url.removeprefix("file:"), folder / "index")
    made_key(folder / "keys.json")
    port = free_port()
    command = [
        Path(sys.executable).with_name("sceneseek"),
        "serve",
        "--bundle",
        bundle.path,
        "--index",
        f"file:{index}",
    ]
    command += ["--host", EVERYWHERE, "--port", "0", "--metrics-port", port, "--api-keys", folder / "keys.json"]
    command += ["--allowed-host", "server-cpu"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        announced = process.stdout.readline()
        assert announced, "it ended without a word"
        public = announced.split()[-1].replace("localhost", ADDRESS).rstrip("/")
        yield Served(process, public, f"http://{ADDRESS}:{port}")
        process.terminate()


def test_prometheus_scrapes_it_by_address_without_a_key(served: Served) -> None:
    answer = httpx.get(f"{served.metrics}/metrics", headers=SCRAPE)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert "sceneseek_ready 1.0" in answer.text.splitlines()


def test_health_is_there_too(served: Served) -> None:
    assert httpx.get(f"{served.metrics}/healthz").json() == {"status": "alive"}
    assert httpx.get(f"{served.metrics}/readyz").json()["status"] == "ready"


@pytest.mark.parametrize(
    "path", ["/", "/v1/search?q=a+dog", "/v1/images/00000000-0000-0000-0000-000000000000", "/metrics/"]
)
def test_nothing_else_is_served_there(served: Served, path: str) -> None:
    answer = httpx.get(served.metrics + path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_public_port_still_checks_host_and_key(served: Served) -> None:
    assert httpx.get(f"{served.public}/metrics", headers=SCRAPE).status_code == 421
    assert httpx.get(f"{served.public}/metrics", headers={"Host": "server-cpu"}).status_code == 401


def test_a_silent_client_does_not_block_others(served: Served) -> None:
    host, _, port = served.metrics.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30):
        assert httpx.get(f"{served.metrics}/healthz").status_code == 200


def test_the_worker_that_takes_a_dead_ones_place_serves_the_port_again(served: Served) -> None:
    before = served.worker()
    os.kill(before, signal.SIGKILL)
    # The master holds the socket: a request waits for the next worker.
    assert httpx.get(f"{served.metrics}/metrics", timeout=60).status_code == 200
    assert served.worker() != before


def test_a_port_that_is_taken_is_named_with_its_option(sceneseek: CommandLine, bundle: Bundle, index_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = sceneseek.process(
            "serve", "--bundle", bundle.path, "--index", index_url, "--port", "0", "--metrics-port", str(port)
        )
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken: stop who has it, or choose another --metrics-port" in done.stderr


def free_port() -> int:
    """A port that nothing has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
