"""A keep-alive HTTP client that adds little of its own to what it times."""

from __future__ import annotations

import json
import socket
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
