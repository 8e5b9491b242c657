"""The health checks in the stack's files, run for real against a server, with its port put in the place of theirs."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests import dockerfile
from tests.stack import ONE, STAGES, answering, project


@pytest.fixture
def script() -> str:
    command, *rest = project(*ONE)["services"]["qdrant"]["healthcheck"]["test"]
    assert (command, *rest[:2]) == ("CMD", "bash", "-c")
    return str(rest[2])


def test_it_is_bash(script: str) -> None:
    subprocess.run(["bash", "-n", "-c", script], check=True)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (404, False)])
def test_it_passes_only_if_the_node_is_ready(script: str, status: int, healthy: bool) -> None:
    with answering(status) as (port, asked):
        done = run_check(script, port)
    assert (done.returncode == 0) == healthy
    assert asked == ["/readyz"]


def test_it_fails_where_nothing_listens(script: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert run_check(script, port).returncode != 0


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_services_health_check_asks_whether_it_is_ready(status: int, healthy: bool) -> None:
    check = dockerfile.words(dockerfile.effective(STAGES, "runtime-cpu", "HEALTHCHECK"))
    assert check[0] == "/opt/sceneseek/bin/python"
    with answering(status) as (port, asked):
        environment = {"SCENESEEK_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, *check[1:]], env=environment, check=False, timeout=30)
    assert (done.returncode == 0) == healthy
    assert asked == ["/readyz"]


def run_check(script: str, port: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", script.replace("6333", str(port))], check=False, capture_output=True, timeout=30
    )
