"""A Ray cluster on this machine, whose nodes tests kill, stop and add; and an indexer that uses it.

Each node has one core, its own loopback address and its own session, so that tests signal only its processes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.command_line import PROGRAM

_PATIENCE = 120.0
_RAY = Path(sys.executable).with_name("ray")
# The default would reserve a gigabyte of memory.
_STORE = str(250_000_000)


def until(true: Callable[[], Any], what: str, every: float = 0.02) -> Any:
    """Wait until a function returns a true value, and return it."""
    end = time.monotonic() + _PATIENCE
    while not (value := true()):
        assert time.monotonic() < end, f"waited too long until {what}"
        time.sleep(every)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes() -> dict[int, int]:
    """The parent process id of each process id."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # the process has ended
    return parents


def command_line(pid: int) -> str:
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return any(Path(os.readlink(link)) == path for link in Path(f"/proc/{pid}/fd").iterdir())  # noqa: PTH115
    except OSError:
        return False


@dataclass
class Node:
    """One node.

    Attributes:
        address: its IP address, which is also its name.
        process: its first process.
        home: the directory of its files.
    """

    address: str
    process: subprocess.Popen[bytes]
    home: Path

    def pids(self) -> list[int]:
        """Its process ids, children after their parents."""
        parents, pids = processes(), [self.process.pid]
        for pid in pids:
            pids += [child for child, parent in parents.items() if parent == pid]
        return pids

    def workers(self) -> list[int]:
        """The ids of its processes that encode."""
        return [pid for pid in self.pids() if command_line(pid).startswith("ray::_Worker")]

    def signal(self, number: int) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """Kill all of its processes."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


@dataclass
class RayCluster:
    """A cluster whose first node is the head.

    Attributes:
        environment: variables of the nodes' processes, in addition to this process's.
    """

    environment: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    client_port: int = field(default_factory=free_port)
    _started: int = 0

    @property
    def address(self) -> str:
        return f"{self.nodes[0].address}:{self.port}"

    @property
    def client_url(self) -> str:
        return f"ray://{self.nodes[0].address}:{self.client_port}"

    def add(self, hidden: Path | None = None) -> Node:
        """Start a node that sees the directory `hidden` as empty."""
        self._started += 1
        address = f"127.0.{os.getpid() % 250 + 1}.{self._started + 1}"
        head = ["--head", "--port", str(self.port), "--ray-client-server-port", str(self.client_port)]
        place = ["--address", self.address] if self.nodes else [*head, "--include-dashboard", "false"]
        # Socket paths must be short.
        home = Path(tempfile.mkdtemp(prefix="ray", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
        command = [str(_RAY), "start", *place, "--block", "--num-cpus", "1", "--node-ip-address", address]
        command += ["--object-store-memory", _STORE, "--temp-dir", str(home), "--disable-usage-stats"]
        if hidden is not None:
            mount = 'mount -t tmpfs none "$0" && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, str(hidden), *command]
        settings = {"RAY_USAGE_STATS_ENABLED": "0", "GRPC_ENABLE_FORK_SUPPORT": "0"}
        environment = {**os.environ, **settings, **self.environment}
        with (home / "start.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        node = Node(address, process, home)
        self.nodes.append(node)
        until(lambda: b"Ray runtime started" in (home / "start.log").read_bytes(), f"the node {address} runs", 0.2)
        return node

    def kill(self, node: Node) -> None:
        node.kill()
        self.nodes.remove(node)

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.kill()


@dataclass
class Run:
    """A running `sceneseek index` process.

    Attributes:
        process: the process.
        report: the file of its report.
        errors: the file of its standard error.
    """

    process: subprocess.Popen[str]
    report: Path
    errors: Path

    def lines(self) -> list[dict[str, Any]]:
        """The complete lines of the report since the start of the last run."""
        if not self.report.exists():
            return []
        lines: list[dict[str, Any]] = []
        for text in self.report.read_text().splitlines(keepends=True):
            if text.endswith("\n"):
                line = json.loads(text)
                lines = [line] if line["kind"] == "run" else [*lines, line]
        return lines

    def indexed(self) -> int:
        """The number of images written so far."""
        return sum(line.get("outcome") == "indexed" for line in self.lines())

    def until_indexed(self, count: int) -> None:
        """Wait until it has written this many images, and check that it is still running."""
        until(lambda: self.process.poll() is not None or self.indexed() >= count, f"{count} images are written")
        assert self.process.poll() is None, self.errors.read_text()

    def result(self) -> dict[str, Any]:
        """Wait for success, and return the report as JSON."""
        out, _ = self.process.communicate(timeout=_PATIENCE)
        assert self.process.returncode == 0, self.errors.read_text()
        report: dict[str, Any] = json.loads(out)
        return report

    def error(self) -> str:
        """Wait for failure, and return the last line of standard error."""
        assert self.process.wait(_PATIENCE) == 1, self.errors.read_text()
        return self.errors.read_text().splitlines()[-1]


@contextmanager
def indexing(*arguments: object, home: Path, **environment: str) -> Iterator[Run]:
    """Run `sceneseek index ...` until the block ends, with its report in `home`."""
    report, errors = home / "report.jsonl", home / "errors.txt"
    command = [str(PROGRAM), "index", *map(str, arguments), "--report", str(report), "--json", "--nice", "0"]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **environment}
        ) as process,
    ):
        stdout: IO[str] | None = process.stdout
        assert stdout is not None
        try:
            yield Run(process, report, errors)
        finally:
            process.kill()
