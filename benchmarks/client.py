"""A keep-alive HTTP client that adds little of its own to what it times."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from benchmarks.serving import HOST
from sceneseek.errors import SceneseekError


@dataclass(frozen=True, slots=True)
class Reply:
    """A search's answer: seconds from sending to the last byte, and the server's own milliseconds by stage."""

    seconds: float
    stages: dict[str, float]


class Client:
    """One connection. Not for several threads."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)
        # The first request of a connection is not that of a keep-alive client: it is made here, untimed.
        self.get("/healthz")

    def get(self, path: str) -> tuple[float, bytes]:
        """Seconds and body of one request.

        Raises:
            SceneseekError: the answer is no success.
        """
        start = time.perf_counter()
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - start
        if response.status != http.client.OK:
            raise SceneseekError(f"GET {path} was answered with {response.status} ({body[:200]!r})")
        return seconds, body

    def search(self, text: str, k: int) -> Reply:
        """One search; the answer is read by the program only after the clock has stopped."""
        seconds, body = self.get(f"/v1/search?q={quote(text)}&k={k}")
        answer: dict[str, Any] = json.loads(body)
        if not answer["results"]:
            raise SceneseekError(f"the search for {text!r} found nothing")
        return Reply(seconds, answer["timings_ms"])

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
