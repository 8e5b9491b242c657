"""Queries over HTTP, compared with their floor: the three bare parts, run in this process on the same texts.

The floor is the text graph on prepared token ids, the engine's shortlist with the vectors that the head reads, and the
score graph: with the server's code, session options and limit, on a copy of the index, since the engine allows one
owner. It does not tokenize, fetch payloads, write JSON or speak HTTP.

With one client, HTTP and floor alternate on each text. With several, blocks of all clients alternate with blocks of as
many threads of the floor. Clients and server share the machine's cores, so the clients add to their own latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from benchmarks.report import Figure, Goal, Section
from benchmarks.service import Client, Reply
from benchmarks.timing import percentile
from sceneseek.bundle import Bundle
from sceneseek.encoders import TextEncoder, TowerTokens
from sceneseek.errors import IndexUnavailable
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST, checked_query
from sceneseek.reranker import Reranker
from sceneseek.runtime import Device
from sceneseek.store.edge import EdgeStore

GOAL = Goal("ratio", 1.3)
_STAGES = ("encode", "shortlist", "score", "payload", "total")

Share = TypeVar("Share")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of the three bare parts of a query."""

    text: float
    engine: float
    score: float

    @property
    def seconds(self) -> float:
        """Their sum."""
        return self.text + self.engine + self.score


class Floor:
    """The bare parts over a copy of the index. Thread-safe.

    Raises:
        IndexUnavailable: the index is empty, or open in another process.
    """

    def __init__(self, bundle: Bundle, store: EdgeStore, device: Device, threads: int) -> None:
        name = store.live()
        if name is None:
            raise IndexUnavailable(f"nothing is indexed in {store.url}")
        self._encoder = TextEncoder(bundle, device, threads)
        self._reranker = Reranker(bundle)
        self._vectors = self._reranker.vectors_read()
        self._collection = store.open(name)

    def images(self) -> int:
        """The number of points in the index."""
        return self._collection.count()

    def tokenize(self, text: str) -> TowerTokens:
        """The token ids of a text, prepared as on the server."""
        return self._encoder.tokenize([checked_query(text)])

    def run(self, tokens: TowerTokens) -> Parts:
        """Run the bare parts of one query."""
        start = time.perf_counter()
        vectors = self._encoder.encode_tokens(tokens)
        encoded = time.perf_counter()
        candidates = self._collection.nearest(vectors.joint[0], DEFAULT_SHORTLIST, self._vectors)
        retrieved = time.perf_counter()
        self._reranker.score(candidates, vectors.joint[0], vectors.head[0])
        return Parts(encoded - start, retrieved - encoded, time.perf_counter() - retrieved)

    def close(self) -> None:
        """Close the index."""
        self._collection.close()


@dataclass
class Round:
    """One round: replies over HTTP, timings of the bare parts, and seconds of empty requests (/healthz)."""

    replies: list[Reply] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)
    empty: list[float] = field(default_factory=list)
    http_seconds: float = 0.0
    floor_seconds: float = 0.0

    def http(self, percent: float) -> float:
        """A percentile of the latency over HTTP, in milliseconds."""
        return 1e3 * percentile([reply.seconds for reply in self.replies], percent)

    def floor(self, percent: float) -> float:
        """A percentile of the sum of the bare parts, in milliseconds."""
        return 1e3 * percentile([parts.seconds for parts in self.parts], percent)

    def stage(self, name: str) -> float:
        """The median milliseconds of a stage, as measured by the server."""
        return percentile([reply.stages[name] for reply in self.replies], 50)

    def around(self) -> float:
        """The median milliseconds outside the search: client, sockets, gunicorn, Flask, JSON."""
        return percentile([1e3 * reply.seconds - reply.stages["total"] for reply in self.replies], 50)


def alternating(port: int, floor: Floor, texts: Sequence[str], until: float) -> Round:
    """Measure one client: HTTP and floor on each text, in alternating order.

    Args:
        port: the port of the server.
        floor: the bare parts.
        texts: the queries.
        until: the deadline by `time.monotonic`, even if texts are left; the first is always measured.
    """
    outcome, client = Round(), Client(port)
    try:
        for number, text in enumerate(texts):
            tokens = floor.tokenize(text)
            if number % 2:
                outcome.replies.append(client.search(text, DEFAULT_K))
                outcome.parts.append(floor.run(tokens))
            else:
                outcome.parts.append(floor.run(tokens))
                outcome.replies.append(client.search(text, DEFAULT_K))
            outcome.empty.append(client.get("/healthz")[0])
            if time.monotonic() > until:
                break
    finally:
        client.close()
    return outcome


def together(port: int, floor: Floor, texts: Sequence[str], clients: int, until: float, http_first: bool) -> Round:
    """Measure concurrent clients, then as many threads of the floor, or the reverse.

    Args:
        port: the port of the server.
        floor: the bare parts.
        texts: the queries, distributed over the clients.
        clients: the number of clients, each with its own connection.
        until: the deadline by `time.monotonic`, even if texts are left; each side gets half of the time.
        http_first: whether HTTP is measured before the floor.
    """
    outcome = Round()
    middle = time.monotonic() + (until - time.monotonic()) / 2
    shares = [texts[i::clients] for i in range(clients)]

    def over_http(end: float) -> None:
        outcome.replies, outcome.http_seconds = _parallel(shares, lambda share: _search(port, share, end))

    def bare(end: float) -> None:
        ready = [[floor.tokenize(text) for text in share] for share in shares]
        outcome.parts, outcome.floor_seconds = _parallel(ready, lambda share: list(_until(map(floor.run, share), end)))

    first, second = (over_http, bare) if http_first else (bare, over_http)
    first(middle)
    second(until)
    return outcome


def _search(port: int, texts: Sequence[str], until: float) -> list[Reply]:
    client = Client(port)
    try:
        return list(_until((client.search(text, DEFAULT_K) for text in texts), until))
    finally:
        client.close()


def _parallel(shares: Sequence[Share], work: Callable[[Share], list[Outcome]]) -> tuple[list[Outcome], float]:
    """Process each share in its own thread; return all results and the elapsed seconds."""
    start = time.perf_counter()
    with ThreadPoolExecutor(len(shares)) as pool:
        results = list(chain.from_iterable(pool.map(work, shares)))
    return results, time.perf_counter() - start


def _until(items: Iterator[Outcome], end: float) -> Iterator[Outcome]:
    for item in items:
        yield item
        if time.monotonic() > end:
            return


def one_client_section(rounds: Sequence[Round], images: int) -> Section:
    """Report `alternating`, with a breakdown of the time."""
    figures = [
        *_latency(rounds, "one client"),
        Figure("floor: text graph", "ms", [_median(r, "text") for r in rounds]),
        Figure("floor: engine", "ms", [_median(r, "engine") for r in rounds]),
        Figure("floor: score graph", "ms", [_median(r, "score") for r in rounds]),
        *(Figure(f"server: {name}", "ms", [r.stage(name) for r in rounds]) for name in _STAGES),
        Figure("around the search", "ms", [r.around() for r in rounds]),
        Figure("an empty request (/healthz)", "ms", [1e3 * percentile(r.empty, 50) for r in rounds]),
    ]
    total = sum(len(r.replies) for r in rounds)
    notes = [f"{total:,} queries in {len(rounds)} rounds, each alternating with the floor"]
    return Section(f"Query over HTTP, one client, {images:,} images", figures, notes)


def many_clients_section(rounds: Sequence[Round], clients: int, images: int) -> Section:
    """Report `together`."""
    figures = [
        *_latency(rounds, f"{clients} clients", goal=None),
        Figure(
            "throughput",
            "queries/s",
            [len(r.replies) / r.http_seconds for r in rounds],
            f"{clients} threads of the bare parts",
            [len(r.parts) / r.floor_seconds for r in rounds],
        ),
    ]
    total = sum(len(r.replies) for r in rounds)
    notes = [f"{total:,} queries in {len(rounds)} rounds; clients and server share the cores"]
    return Section(f"Query over HTTP, {clients} clients, {images:,} images", figures, notes)


def _latency(rounds: Sequence[Round], who: str, goal: Goal | None = GOAL) -> list[Figure]:
    parts = "the three bare parts"
    return [
        Figure(f"{who}, p50", "ms", [r.http(50) for r in rounds], parts, [r.floor(50) for r in rounds], goal),
        Figure(f"{who}, p99", "ms", [r.http(99) for r in rounds], parts, [r.floor(99) for r in rounds]),
    ]


def _median(outcome: Round, part: str) -> float:
    return 1e3 * percentile([getattr(parts, part) for parts in outcome.parts], 50)
