"""A real `sceneseek serve` on the loopback interface: started, waited for, and ended."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sceneseek.errors import SceneseekError

HOST = "127.0.0.1"
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
