"""Many keep-alive clients in one thread, which add little to what they time.

The requests are made ready beforehand and the answers are not read by the program, only measured: on the machine's
own cores every microsecond of a client is one that the service lacks.

- `closed`: so many clients, each asking again when it has been answered. It finds the peak.
- `open`: requests fall due at random moments of a mean rate (Poisson), whether or not others have been answered, and
  their time counts from when they were due: what people see of a service that is behind.
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
# More connections than the service lets requests in, so that it is the service that refuses.
_MOST_CONNECTIONS = 600


class Taken(NamedTuple):
    """One answer: its status, when it was due (seconds from the start), how long it took from then, and its head."""

    status: int
    due: float
    took: float
    head: bytes

    def stages(self) -> dict[str, float]:
        """Milliseconds by stage and in `total`, by the service's own clock."""
        found = _STAGES.search(self.head)
        return {name: float(took) for name, took in _STAGE.findall(found[1].decode("ascii"))} if found else {}


@dataclass
class Outcomes:
    """The outcomes of requests.

    Attributes:
        taken: the answers.
        lost: how many had no answer: connections refused or cut.
        seconds: from the first to the last.
    """

    taken: list[Taken] = field(default_factory=list)
    lost: int = 0
    seconds: float = 0.0

    def statuses(self) -> Counter[int]:
        """How many answers of each status."""
        return Counter(answer.status for answer in self.taken)

    def rate(self, status: int = 200) -> float:
        """Answers of a status a second."""
        return self.statuses()[status] / self.seconds

    def milliseconds(self, percent: float, status: int = 200, after: float = 0.0) -> float:
        """What so many per cent of the answers of a status, due later than that, did not exceed."""
        times = [answer.took for answer in self.taken if answer.status == status and answer.due >= after]
        return 1e3 * percentile(times, percent) if times else float("nan")


def searches(texts: list[str], k: int = 5) -> Iterator[bytes]:
    """Searches for texts that are all different, for ever: a number after each makes it new to a cache."""
    number = 0
    while True:
        for text in texts:
            number += 1
            yield get(f"/v1/search?q={quote(f'{text} {number}')}&k={k}")


def get(path: str) -> bytes:
    """A request as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode("ascii")


class _Client:
    """A connection with at most one request on its way."""

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

    def status(self) -> int | None:
        """The status once the answer is whole, 0 if there will be none, None until then."""
        try:
            part = self.socket.recv(1 << 18)
        except OSError:
            return 0
        if not part:
            return 0
        self._received += part
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if found else None
        if length is None or len(body) < int(length[1]):
            return None
        self.head = head
        return int(head[9:12])


class LoadGenerator:
    """The clients of one service."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._idle: list[_Client] = []
        self._connections = 0

    def closed(self, requests: Iterator[bytes], clients: int, seconds: float, most: int = sys.maxsize) -> Outcomes:
        """So many clients for so many seconds or requests, each asking again when it has been answered."""
        outcomes, start = Outcomes(), time.perf_counter()
        end = start + seconds
        busy = 0
        sent = min(clients, most)
        for _ in range(sent):
            busy += self._send(next(requests), time.perf_counter(), outcomes)
        while busy:
            for client in self._answered(outcomes, start, 1.0):
                busy -= 1
                now = time.perf_counter()
                if client is not None:
                    self._idle.append(client)
                if now < end and sent < most:
                    sent += 1
                    busy += self._send(next(requests), now, outcomes)
        outcomes.seconds = time.perf_counter() - start
        return outcomes

    def open(self, requests: Iterator[bytes], rate: float, seconds: float, seed: int = 0) -> Outcomes:
        """Requests of a mean rate for so many seconds, and as long as their answers take."""
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
            for client in self._answered(outcomes, start, wait):
                busy -= 1
                if client is not None:
                    self._idle.append(client)
        outcomes.seconds = max(time.perf_counter() - start, seconds)
        return outcomes

    def close(self) -> None:
        """End all connections."""
        for client in self._idle:
            self._end(client)
        self._idle.clear()
        self._selector.close()

    def _send(self, request: bytes, due: float, outcomes: Outcomes) -> bool:
        """Whether it is on its way: the newest idle connection carries it, or a new one."""
        while True:
            new = not self._idle
            if new and self._connections >= _MOST_CONNECTIONS:
                outcomes.lost += 1
                return False
            try:
                client = self._opened() if new else self._idle.pop()
            except OSError:
                outcomes.lost += 1
                return False
            try:
                client.send(request, due)
            except OSError:  # an idle connection that the service has closed is no lost request
                self._end(client)
                continue
            return True

    def _opened(self) -> _Client:
        client = _Client(self._port)
        self._connections += 1
        self._selector.register(client.socket, selectors.EVENT_READ, client)
        return client

    def _answered(self, outcomes: Outcomes, start: float, wait: float) -> Iterator[_Client | None]:
        """Each client whose answer is whole, None for one whose connection is gone."""
        for key, _ in self._selector.select(wait):
            client: _Client = key.data
            status = client.status()
            if status is None:
                continue
            if not client.busy:  # closed by the service while it asked for nothing
                self._idle.remove(client)
                self._end(client)
                continue
            client.busy = False
            if status:
                took = time.perf_counter() - client.due
                outcomes.taken.append(Taken(status, client.due - start, took, client.head))
                yield client
            else:
                outcomes.lost += 1
                self._end(client)
                yield None

    def _end(self, client: _Client) -> None:
        self._connections -= 1
        self._selector.unregister(client.socket)
        client.socket.close()
