"""Run `sceneseek serve`, also before its first index exists, and `sceneseek index watch` in subprocesses."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

_PATIENCE = 60.0


@dataclass
class Running:
    """A running service.

    Attributes:
        url: the URL in its announcement.
        announced: the first line of its standard output.
        output: its standard output after that line.
    """

    url: str
    announced: str
    output: IO[str] = field(repr=False)

    def get(self, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send a request; return the status, headers and body of the response."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_PATIENCE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def ready(self) -> dict[str, Any]:
        """The document that `/readyz` returns."""
        document: dict[str, Any] = json.loads(self.get("/readyz")[2])
        return document

    def until_ready(self, like: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Poll `/readyz` until `like` accepts its document."""
        end = time.monotonic() + _PATIENCE
        while not like(document := self.ready()):
            assert time.monotonic() < end, document
            time.sleep(0.05)
        return document


@contextmanager
def running(*options: str | Path, **environment: str) -> Iterator[Running]:
    """Run a service with these options on a free port until the block ends."""
    command = [str(Path(sys.executable).with_name("sceneseek")), "serve", "--port", "0", *map(str, options)]
    environment = {**os.environ, **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        announced = process.stdout.readline().rstrip("\n")
        assert announced, "the process ended without output"
        try:
            yield Running(announced.split()[-1], announced, process.stdout)
        finally:
            process.terminate()
        assert process.wait(_PATIENCE) == 0


@contextmanager
def watching(folder: Path, *options: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run an indexer that watches a folder until the block ends."""
    command = [str(Path(sys.executable).with_name("sceneseek")), "index", "watch", str(folder), *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
        assert process.wait(_PATIENCE) in (0, -signal.SIGKILL)
