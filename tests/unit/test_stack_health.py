"""The health checks of the stack, run against a test server on another port."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests import dockerfile
from tests.stack import ONE, ROOT, STAGES, answering, project


@pytest.fixture
def script() -> str:
    command, *rest = project(*ONE)["services"]["qdrant"]["healthcheck"]["test"]
    assert (command, *rest[:2]) == ("CMD", "bash", "-c")
    return str(rest[2])


def test_qdrant_health_check_is_valid_bash(script: str) -> None:
    subprocess.run(["bash", "-n", "-c", script], check=True)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (404, False)])
def test_qdrant_health_check_passes_only_if_node_is_ready(script: str, status: int, healthy: bool) -> None:
    with answering(status) as (port, paths):
        done = run_check(script, port)
    assert (done.returncode == 0) == healthy
    assert paths == ["/readyz"]


def test_qdrant_health_check_fails_if_port_is_closed(script: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert run_check(script, port).returncode != 0


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_service_health_check_requests_healthz(status: int, healthy: bool) -> None:
    check = dockerfile.words(dockerfile.effective(STAGES, "runtime-cpu", "HEALTHCHECK"))
    assert check[0] == "/opt/sceneseek/bin/python"
    with answering(status) as (port, paths):
        environment = {"SCENESEEK_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, *check[1:]], env=environment, check=False, timeout=30)
    assert (done.returncode == 0) == healthy
    assert paths == ["/healthz"], "a service without an index is healthy but not ready"


READY = {"status": "ready", "images": 1500}
NOT_READY = {"status": 503, "detail": "nothing is indexed in http://qdrant:6333"}


@pytest.mark.parametrize(("status", "document", "output"), [
    (200, READY, ["ready: 1,500 images can be searched"]),
    (503, NOT_READY, [
        "the service is running but not ready: nothing is indexed in http://qdrant:6333",
        "if nothing is indexed yet: make reindex IMAGES=/path/to/photos; the service then becomes ready by itself",
    ]),
], ids=["ready", "not ready"])  # fmt: skip
def test_up_prints_readiness_and_next_step(status: int, document: object, output: list[str]) -> None:
    with answering(status, document) as (port, paths):
        done = readiness(port)
    assert (done.returncode, done.stdout.splitlines()) == (0, output)
    assert set(paths) == {"/readyz"}


def test_up_fails_if_service_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = readiness(port)
    assert done.returncode == 1
    assert done.stderr.startswith("the service does not answer (")


def readiness(port: int) -> subprocess.CompletedProcess[str]:
    """Run the script that `make up` runs in the container, without waiting."""
    program = (ROOT / "deploy" / "readiness.py").read_text(encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-", "0"], input=program, env={"SCENESEEK_PORT": str(port)},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def run_check(script: str, port: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", script.replace("6333", str(port))], check=False, capture_output=True, timeout=30
    )
