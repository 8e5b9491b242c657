"""The service under measurement: `sceneseek serve` on the loopback interface, and a keep-alive HTTP client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sceneseek.errors import SceneseekError

HOST = "127.0.0.1"
# Benchmarks repeat queries sooner than users do, and a cache hit would skip the text graph.
NO_CACHE = ("--query-cache", "0")
_START_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready: its process id, its port, and the seconds from process start to ready."""

    pid: int
    port: int
    start_seconds: float


@contextlib.contextmanager
def serving(
    bundle: Path, index_url: str, device: str, threads: int, log: Path, options: Sequence[str] = ()
) -> Iterator[Server]:
    """Run a server for the duration of the block.

    Args:
        bundle: the directory of the bundle.
        index_url: the index, which no other process may have open.
        device: the device of the graphs.
        threads: threads per run of a graph; 0 leaves it to the runtime.
        log: the file for its output.
        options: additional command-line options.

    Raises:
        SceneseekError: the server exited, or was not ready within two minutes.
    """
    port = _free_port()
    # The command that users run, so that interpreter start-up and imports count.
    command = [str(Path(sys.executable).with_name("sceneseek")), "serve"]
    command += ["--bundle", str(bundle), "--index", index_url, "--host", HOST, "--port", str(port)]
    command += ["--device", device, "--threads", str(threads), *options]
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        while not _ready(port):
            elapsed = time.perf_counter() - start
            if process.poll() is not None or elapsed > _START_TIMEOUT:
                last_line = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                raise SceneseekError(f"the server is not ready after {elapsed:.0f} s ({''.join(last_line)})")
            time.sleep(0.01)
        yield Server(process.pid, port, time.perf_counter() - start)
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Reply:
    """The timings of a search: seconds from the request to the last byte, and the server's milliseconds by stage."""

    seconds: float
    stages: dict[str, float]


class Client:
    """A connection on a bare socket, since http.client takes a third of a millisecond. Not thread-safe.

    Raises:
        OSError: the connection failed.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A connection's first request is not typical of keep-alive clients: make it here, untimed.
        self.get("/healthz")

    def get(self, path: str) -> tuple[float, bytes]:
        """Send a GET request; return its seconds and the body of the response.

        Raises:
            SceneseekError: the status is not 200, or the response is incomplete.
        """
        start = time.perf_counter()
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode("ascii"))
        head, body = self._read()
        seconds = time.perf_counter() - start
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SceneseekError(f"GET {path} was answered with {head[:60]!r} ({body[:200]!r})")
        return seconds, body

    def _read(self) -> tuple[bytes, bytes]:
        """Read the head and body of a response, which always declares its length."""
        received = b""
        while True:
            part = self._socket.recv(1 << 18)
            if not part:
                raise SceneseekError("the service closed the connection before the end of its response")
            received += part
            head, found, body = received.partition(b"\r\n\r\n")
            if found and len(body) >= _declared_length(head):
                return head, body

    def search(self, text: str, k: int) -> Reply:
        """Search; the response is parsed only after the clock has stopped."""
        seconds, body = self.get(f"/v1/search?q={quote(text)}&k={k}")
        answer: dict[str, Any] = json.loads(body)
        if not answer["results"]:
            raise SceneseekError(f"the search for {text!r} found nothing")
        return Reply(seconds, answer["timings_ms"])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _declared_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise SceneseekError(f"the response declares no length: {head[:200]!r}")
