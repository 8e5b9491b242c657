"""Many keep-alive clients in one thread, with little overhead.

Requests are prepared beforehand, and responses are not parsed: clients and service share the machine's cores, so every
microsecond of a client is taken from the service.

- `closed`: each client sends its next request when the previous one has been answered. It finds the peak.
- `open`: requests are due at random times with a mean rate (Poisson), whether or not earlier ones have been answered,
  and latency counts from the due time, as users of an overloaded service experience it.
"""

from __future__ import annotations

import re
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from benchmarks.service import HOST
from benchmarks.timing import percentile

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STAGES = re.compile(rb"server-timing: *([^\r]+)", re.IGNORECASE)
_STAGE = re.compile(r"(\w+);dur=([\d.]+)")
# More than the requests that the service admits, so that it is the service that refuses.
_MAX_CONNECTIONS = 600


class Response(NamedTuple):
    """A response: its status, when it was due (seconds from the start), its latency from then on, and its head."""

    status: int
    due: float
    latency: float
    head: bytes

    def stages(self) -> dict[str, float]:
        """Milliseconds by stage and in `total`, as measured by the service."""
        header = _STAGES.search(self.head)
        return {name: float(value) for name, value in _STAGE.findall(header[1].decode("ascii"))} if header else {}


@dataclass
class Outcomes:
    """The outcomes of a series of requests.

    Attributes:
        responses: the responses.
        lost: the number of requests without a response: the connection was refused or cut.
        seconds: from the first request to the last response.
    """

    responses: list[Response] = field(default_factory=list)
    lost: int = 0
    seconds: float = 0.0

    def statuses(self) -> Counter[int]:
        """The number of responses by status."""
        return Counter(response.status for response in self.responses)

    def rate(self, status: int = 200) -> float:
        """Responses with the status per second."""
        return self.statuses()[status] / self.seconds

    def milliseconds(self, percent: float, status: int = 200, after: float = 0.0) -> float:
        """A percentile of the latency of responses with the status, due from second `after` on."""
        times = [r.latency for r in self.responses if r.status == status and r.due >= after]
        return 1e3 * percentile(times, percent) if times else float("nan")


def searches(texts: list[str], k: int = 5) -> Iterator[bytes]:
    """Yield searches endlessly, with distinct texts: a number appended to each prevents cache hits."""
    number = 0
    while True:
        for text in texts:
            number += 1
            yield get(f"/v1/search?q={quote(f'{text} {number}')}&k={k}")


def get(path: str) -> bytes:
    """A GET request as sent over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode("ascii")


class _Client:
    """A connection with at most one request in flight."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.busy = False
        self.head = b""
        self._received = b""

    def send(self, request: bytes, due: float) -> None:
        self.due, self.busy, self._received = due, True, b""
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """Receive a part; return the status of a complete response, 0 if there will be none, None until then."""
        try:
            part = self.socket.recv(1 << 18)
        except OSError:
            return 0
        if not part:
            return 0
        self._received += part
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if separator else None
        if length is None or len(body) < int(length[1]):
            return None
        self.head = head
        return int(head[9:12])


class LoadGenerator:
    """Clients of one service."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._idle: list[_Client] = []
        self._connections = 0

    def closed(self, requests: Iterator[bytes], clients: int, seconds: float, limit: int = sys.maxsize) -> Outcomes:
        """Run clients for some seconds, or until `limit` requests, each sending its next request after a response."""
        outcomes, start = Outcomes(), time.perf_counter()
        end = start + seconds
        busy = 0
        sent = min(clients, limit)
        for _ in range(sent):
            busy += self._send(next(requests), time.perf_counter(), outcomes)
        while busy:
            for client in self._finished(outcomes, start, 1.0):
                busy -= 1
                now = time.perf_counter()
                if client is not None:
                    self._idle.append(client)
                if now < end and sent < limit:
                    sent += 1
                    busy += self._send(next(requests), now, outcomes)
        outcomes.seconds = time.perf_counter() - start
        return outcomes

    def open(self, requests: Iterator[bytes], rate: float, seconds: float, seed: int = 0) -> Outcomes:
        """Send requests at a mean rate for some seconds, and wait for all responses."""
        gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
        outcomes, start = Outcomes(), time.perf_counter()
        due = (start + np.cumsum(gaps)).tolist()
        sent = busy = 0
        while sent < len(due) or busy:
            now = time.perf_counter()
            while sent < len(due) and due[sent] <= now:
                busy += self._send(next(requests), due[sent], outcomes)
                sent += 1
            wait = max(0.0, due[sent] - now) if sent < len(due) else 1.0
            for client in self._finished(outcomes, start, wait):
                busy -= 1
                if client is not None:
                    self._idle.append(client)
        outcomes.seconds = max(time.perf_counter() - start, seconds)
        return outcomes

    def close(self) -> None:
        """Close all connections."""
        for client in self._idle:
            self._disconnect(client)
        self._idle.clear()
        self._selector.close()

    def _send(self, request: bytes, due: float, outcomes: Outcomes) -> bool:
        """Send over the newest idle connection or a new one; return whether the request is in flight."""
        while True:
            new = not self._idle
            if new and self._connections >= _MAX_CONNECTIONS:
                outcomes.lost += 1
                return False
            try:
                client = self._connect() if new else self._idle.pop()
            except OSError:
                outcomes.lost += 1
                return False
            try:
                client.send(request, due)
            except OSError:  # the service closed an idle connection: no request is lost
                self._disconnect(client)
                continue
            return True

    def _connect(self) -> _Client:
        client = _Client(self._port)
        self._connections += 1
        self._selector.register(client.socket, selectors.EVENT_READ, client)
        return client

    def _finished(self, outcomes: Outcomes, start: float, wait: float) -> Iterator[_Client | None]:
        """Yield each client whose response is complete, and None for each lost connection."""
        for key, _ in self._selector.select(wait):
            client: _Client = key.data
            status = client.receive()
            if status is None:
                continue
            if not client.busy:  # closed by the service while idle
                self._idle.remove(client)
                self._disconnect(client)
                continue
            client.busy = False
            if status:
                latency = time.perf_counter() - client.due
                outcomes.responses.append(Response(status, client.due - start, latency, client.head))
                yield client
            else:
                outcomes.lost += 1
                self._disconnect(client)
                yield None

    def _disconnect(self, client: _Client) -> None:
        self._connections -= 1
        self._selector.unregister(client.socket)
        client.socket.close()
