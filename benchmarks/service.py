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
# Queries come again sooner in a measurement than in life, and an answer from the cache measures no graph.
NO_CACHE = ("--query-cache", "0")
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready: its process, its port, and the seconds from starting it to ready."""

    pid: int
    port: int
    start_seconds: float


@contextlib.contextmanager
def serving(
    bundle: Path, index_url: str, device: str, threads: int, log: Path, options: Sequence[str] = ()
) -> Iterator[Server]:
    """A server for the time of the block.

    Args:
        bundle: its directory.
        index_url: the index, which nobody else may have open.
        device: where the graphs run.
        threads: threads within one run of a graph; 0 leaves it to the runtime.
        log: where its output goes.
        options: more of the command line.

    Raises:
        SceneseekError: it ended, or was not ready in two minutes.
    """
    port = _free_port()
    # The command as a person starts it: the interpreter's start and the imports count.
    command = [str(Path(sys.executable).with_name("sceneseek")), "serve"]
    command += ["--bundle", str(bundle), "--index", index_url, "--host", HOST, "--port", str(port)]
    command += ["--device", device, "--threads", str(threads), *options]
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        while not _ready(port):
            elapsed = time.perf_counter() - start
            if process.poll() is not None or elapsed > _PATIENCE:
                said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                raise SceneseekError(f"the server is not ready after {elapsed:.0f} s ({''.join(said)})")
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
    """A search's answer: seconds from sending to the last byte, and the server's own milliseconds by stage."""

    seconds: float
    stages: dict[str, float]


class Client:
    """One connection, on a bare socket: http.client takes a third of a millisecond. Not for several threads.

    Raises:
        OSError: the service is not there.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The first request of a connection is not that of a keep-alive client: it is made here, untimed.
        self.get("/healthz")

    def get(self, path: str) -> tuple[float, bytes]:
        """Seconds and body of one request.

        Raises:
            SceneseekError: the answer is no success, or ends too early.
        """
        start = time.perf_counter()
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode("ascii"))
        head, body = self._read()
        seconds = time.perf_counter() - start
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SceneseekError(f"GET {path} was answered with {head[:60]!r} ({body[:200]!r})")
        return seconds, body

    def _read(self) -> tuple[bytes, bytes]:
        """Head and body of the answer; every answer of the service declares its length."""
        received = b""
        while True:
            part = self._socket.recv(1 << 18)
            if not part:
                raise SceneseekError("the service closed the connection within an answer")
            received += part
            head, found, body = received.partition(b"\r\n\r\n")
            if found and len(body) >= _declared_length(head):
                return head, body

    def search(self, text: str, k: int) -> Reply:
        """One search; the answer is read by the program only after the clock has stopped."""
        seconds, body = self.get(f"/v1/search?q={quote(text)}&k={k}")
        answer: dict[str, Any] = json.loads(body)
        if not answer["results"]:
            raise SceneseekError(f"the search for {text!r} found nothing")
        return Reply(seconds, answer["timings_ms"])

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def _declared_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise SceneseekError(f"the answer declares no length: {head[:200]!r}")
