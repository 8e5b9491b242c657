"""`sceneseek serve --metrics-port`, scraped as by Prometheus: by IP address, without a key, with its headers."""

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

# A local address that the host check rejects, like a container's.
ADDRESS = "127.0.0.2"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - as in a container
SCRAPE = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "User-Agent": "Prometheus/3.5.0",
}


class Served:
    """A running service with a metrics port."""

    def __init__(self, process: subprocess.Popen[str], public: str, metrics: str) -> None:
        self.process, self.public, self.metrics = process, public, metrics

    def worker(self) -> int:
        """The PID of the worker process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])


@pytest.fixture(scope="module")
def served(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service as the stack runs it: on all interfaces, with allowed hosts and API keys."""
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
        assert announced, "the service exited without output"
        public = announced.split()[-1].replace("localhost", ADDRESS).rstrip("/")
        yield Served(process, public, f"http://{ADDRESS}:{port}")
        process.terminate()


def test_metrics_port_serves_metrics_by_address_without_a_key(served: Served) -> None:
    answer = httpx.get(f"{served.metrics}/metrics", headers=SCRAPE)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert "sceneseek_ready 1.0" in answer.text.splitlines()


def test_metrics_port_serves_health_endpoints(served: Served) -> None:
    assert httpx.get(f"{served.metrics}/healthz").json() == {"status": "alive"}
    assert httpx.get(f"{served.metrics}/readyz").json()["status"] == "ready"


@pytest.mark.parametrize(
    "path", ["/", "/v1/search?q=a+dog", "/v1/images/00000000-0000-0000-0000-000000000000", "/metrics/"]
)
def test_metrics_port_returns_404_for_other_paths(served: Served, path: str) -> None:
    answer = httpx.get(served.metrics + path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_public_port_checks_host_and_key(served: Served) -> None:
    assert httpx.get(f"{served.public}/metrics", headers=SCRAPE).status_code == 421
    assert httpx.get(f"{served.public}/metrics", headers={"Host": "server-cpu"}).status_code == 401


def test_metrics_port_serves_others_beside_an_idle_connection(served: Served) -> None:
    host, _, port = served.metrics.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30):
        assert httpx.get(f"{served.metrics}/healthz").status_code == 200


def test_metrics_port_survives_a_killed_worker(served: Served) -> None:
    before = served.worker()
    os.kill(before, signal.SIGKILL)
    # The master holds the socket, so the request waits for the new worker.
    assert httpx.get(f"{served.metrics}/metrics", timeout=60).status_code == 200
    assert served.worker() != before


def test_serve_names_a_metrics_port_in_use(sceneseek: CommandLine, bundle: Bundle, index_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = sceneseek.process(
            "serve", "--bundle", bundle.path, "--index", index_url, "--port", "0", "--metrics-port", str(port)
        )
    assert done.returncode == 1
    assert (
        f"port {port} of 127.0.0.1 is taken: stop the program that uses it, or choose another --metrics-port"
        in done.stderr
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
