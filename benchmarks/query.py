"""A query over HTTP beside its floor: the three bare parts, run in this process on the same texts.

The floor is the text graph on ready token ids, the engine's shortlist with the vectors that the head
reads, and the score graph: the same code, session options and limit as the server's, on a copy of the
index, since the engine allows one owner. It does not tokenize, fetch payloads, write JSON or speak HTTP.

With one client the two alternate text by text. With several, blocks of all clients alternate with blocks
of as many threads of the floor. Client and server share the machine's cores, so part of what several
clients see is the clients themselves.
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
    """Seconds of the three bare parts of one query."""

    text: float
    engine: float
    score: float

    @property
    def seconds(self) -> float:
        """Their sum."""
        return self.text + self.engine + self.score


class Floor:
    """The bare parts over an index of our own. Thread-safe.

    Raises:
        IndexUnavailable: nothing is indexed there, or another process has it open.
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
        """How many points the index holds."""
        return self._collection.count()

    def tokenize(self, text: str) -> TowerTokens:
        """What the text graph reads, as the server prepares it."""
        return self._encoder.tokenize([checked_query(text)])

    def run(self, tokens: TowerTokens) -> Parts:
        """One query without all that the product adds."""
        start = time.perf_counter()
        vectors = self._encoder.encode_tokens(tokens)
        encoded = time.perf_counter()
        candidates = self._collection.nearest(vectors.joint[0], DEFAULT_SHORTLIST, self._vectors)
        found = time.perf_counter()
        self._reranker.score(candidates, vectors.joint[0], vectors.head[0])
        return Parts(encoded - start, found - encoded, time.perf_counter() - found)

    def close(self) -> None:
        """Release the index."""
        self._collection.close()


@dataclass
class Round:
    """What one round saw: the replies over HTTP, the bare parts, and requests that ask for nothing."""

    replies: list[Reply] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)
    empty: list[float] = field(default_factory=list)
    http_seconds: float = 0.0
    floor_seconds: float = 0.0

    def http(self, percent: float) -> float:
        """Milliseconds that so many per cent of the replies did not exceed."""
        return 1e3 * percentile([reply.seconds for reply in self.replies], percent)

    def floor(self, percent: float) -> float:
        """The same of the bare parts' sums."""
        return 1e3 * percentile([parts.seconds for parts in self.parts], percent)

    def stage(self, name: str) -> float:
        """The median milliseconds of a stage, by the server's own clock."""
        return percentile([reply.stages[name] for reply in self.replies], 50)

    def around(self) -> float:
        """The median milliseconds of a reply outside the search: client, sockets, gunicorn, Flask, JSON."""
        return percentile([1e3 * reply.seconds - reply.stages["total"] for reply in self.replies], 50)


def alternating(port: int, floor: Floor, texts: Sequence[str], until: float) -> Round:
    """One client: HTTP and floor in turns on each text, now one first, now the other.

    Args:
        port: where the server answers.
        floor: what to alternate with.
        texts: the queries.
        until: when to end though texts are left, on the clock of `time.monotonic`; one is always asked.
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
    """So many clients at once, then as many threads of the floor, or the other way round.

    Args:
        port: where the server answers.
        floor: what to alternate with.
        texts: the queries of all, dealt out to the clients.
        clients: how many, each with a connection of its own.
        until: when to end though texts are left, on the clock of `time.monotonic`; half is each side's.
        http_first: which of the two begins.
    """
    outcome = Round()
    middle = time.monotonic() + (until - time.monotonic()) / 2
    shares = [texts[i::clients] for i in range(clients)]

    def over_http(end: float) -> None:
        outcome.replies, outcome.http_seconds = _at_once(shares, lambda share: _ask(port, share, end))

    def bare(end: float) -> None:
        ready = [[floor.tokenize(text) for text in share] for share in shares]
        outcome.parts, outcome.floor_seconds = _at_once(ready, lambda share: list(_until(map(floor.run, share), end)))

    first, second = (over_http, bare) if http_first else (bare, over_http)
    first(middle)
    second(until)
    return outcome


def _ask(port: int, texts: Sequence[str], until: float) -> list[Reply]:
    client = Client(port)
    try:
        return list(_until((client.search(text, DEFAULT_K) for text in texts), until))
    finally:
        client.close()


def _at_once(shares: Sequence[Share], work: Callable[[Share], list[Outcome]]) -> tuple[list[Outcome], float]:
    """The results of all shares, each worked on by a thread of its own, and the seconds it took."""
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
    """The report of `alternating`, with where the time goes."""
    figures = [
        *_latency(rounds, "one client"),
        Figure("floor: text graph", "ms", [_median(r, "text") for r in rounds]),
        Figure("floor: engine", "ms", [_median(r, "engine") for r in rounds]),
        Figure("floor: score graph", "ms", [_median(r, "score") for r in rounds]),
        *(Figure(f"server: {name}", "ms", [r.stage(name) for r in rounds]) for name in _STAGES),
        Figure("around the search", "ms", [r.around() for r in rounds]),
        Figure("an empty request (/healthz)", "ms", [1e3 * percentile(r.empty, 50) for r in rounds]),
    ]
    asked = sum(len(r.replies) for r in rounds)
    notes = [f"{asked:,} queries in {len(rounds)} rounds, each alternating with its floor"]
    return Section(f"Query over HTTP, one client, {images:,} images", figures, notes)


def many_clients_section(rounds: Sequence[Round], clients: int, images: int) -> Section:
    """The report of `together`."""
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
    asked = sum(len(r.replies) for r in rounds)
    notes = [f"{asked:,} queries in {len(rounds)} rounds; clients and server share the cores"]
    return Section(f"Query over HTTP, {clients} clients, {images:,} images", figures, notes)


def _latency(rounds: Sequence[Round], who: str, goal: Goal | None = GOAL) -> list[Figure]:
    parts = "the three bare parts"
    return [
        Figure(f"{who}, p50", "ms", [r.http(50) for r in rounds], parts, [r.floor(50) for r in rounds], goal),
        Figure(f"{who}, p99", "ms", [r.http(99) for r in rounds], parts, [r.floor(99) for r in rounds]),
    ]


def _median(outcome: Round, part: str) -> float:
    return 1e3 * percentile([getattr(parts, part) for parts in outcome.parts], 50)
