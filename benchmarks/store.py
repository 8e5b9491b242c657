"""Searches through a Qdrant server, compared with the embedded engine: the same points and texts, interleaved.

    python -m benchmarks.store --bundle DIR --url http://localhost:6333

The points are synthetic, clustered and of the bundle's widths; the server's are written under an alias of their own and
removed at the end. Measured are the latency of one client by stage, with an empty and with a filled vector cache, the
throughput of several clients, and whether both engines return the same results. The time of the server's calls by its
own clock is reported as well, to distinguish a slow server from a slow network. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import urllib3
from qdrant_client import QdrantClient

from benchmarks.engine import Clusters
from benchmarks.inputs import drawn, queries_option
from benchmarks.report import Figure, Goal, Report, Section, json_option
from benchmarks.timing import other_load, percentile
from sceneseek.api import Answer
from sceneseek.batching import Batching
from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.options import bundle_option
from sceneseek.queries import Query
from sceneseek.query_encoder import QueryEncoder
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST
from sceneseek.search import Search
from sceneseek.store import CollectionInfo, Point, VectorStore
from sceneseek.store.edge import EdgeStore
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek.store.qdrant.connection import Connection
from sceneseek.store.vector_cache import cache_bytes

LATENCY, THROUGHPUT = Goal("ratio", 1.3), Goal("ratio", 0.75, "least")
_STAGES = ("encode", "shortlist", "score", "payload")
_BATCH = 1_000


@click.command()
@bundle_option
@click.option("--url", required=True, help="The Qdrant server; API key and layout as in SCENESEEK_QDRANT_...")
@click.option("--vectors", type=click.IntRange(100), default=20_000, show_default=True, help="Points in each engine.")
@queries_option
@click.option("--requests", type=click.IntRange(1), default=200, show_default=True, help="Searches per round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds.")
@click.option("--clients", type=click.IntRange(1), default=8, show_default=True, help="Concurrent clients.")
@json_option
def main(
    bundle: Path,
    url: str,
    vectors: int,
    texts: list[str],
    requests: int,
    rounds: int,
    clients: int,
    json_file: Path | None,
) -> None:
    """Measure searches through a Qdrant server, compared with the embedded engine."""
    graphs = Bundle.load(bundle)
    settings = dataclasses.replace(QdrantSettings.from_environment(), alias=f"bench-{uuid.uuid4().hex[:8]}")
    report, notes = Report(), list[str]()
    writer = QdrantStore(url, settings)
    with tempfile.TemporaryDirectory(prefix="sceneseek-store-") as home:
        embedded = EdgeStore(Path(home) / "index", cache_bytes())
        fill(embedded, graphs, vectors)
        try:
            fill(writer, graphs, vectors)
            server = QdrantStore(url, settings.for_searching(), cache_bytes())
            with other_load(notes.append):
                report.sections += _measured(graphs, embedded, server, texts, requests, rounds, clients)
            report.sections.append(calls_section(url, settings, str(server.live()), graphs, requests))
        finally:
            _remove(url, settings)
    report.sections[-1].notes += notes
    report.finish(json_file)


def fill(store: VectorStore, bundle: Bundle, count: int) -> None:
    """Publish a generation of synthetic points that the bundle can search."""
    widths, fingerprint = bundle.manifest.dimensions, bundle.manifest.fingerprints.image
    info = CollectionInfo("drawn", fingerprint, widths.joint, widths.image_head, (), "2026-01-01T00:00:00+00:00")
    clusters, draw = Clusters(count, widths.joint, 0), np.random.default_rng(0)
    with store.writing():
        collection = store.create(info)
        for start in range(0, count, _BATCH):
            joint = clusters.draw(min(_BATCH, count - start))
            head = draw.standard_normal((len(joint), widths.image_head), dtype=np.float32)
            rows = zip(range(start, start + len(joint)), joint, head, strict=True)
            collection.upsert([Point(str(uuid.UUID(int=i)), j, h, _payload(i)) for i, j, h in rows])
        collection.optimize()
        store.publish(collection)


def _remove(url: str, settings: QdrantSettings) -> None:
    """Delete all collections of the benchmark's alias, including that of its lease."""
    connection = Connection(url, settings)
    for collection in connection.call(lambda client: client.get_collections()).collections:
        if collection.name.startswith(f"sceneseek-{settings.alias}-"):
            connection.call(partial(QdrantClient.delete_collection, collection_name=collection.name))
    connection.close()


def _payload(number: int) -> dict[str, Any]:
    """A payload as large as that of an image with some metadata."""
    return {
        "path": f"album-{number % 97}/IMG_{number:08}.jpg",
        "folders": [f"album-{number % 97}"],
        "source": 0,
        "sha256": f"{number:064x}",
        "width": 4032,
        "height": 3024,
        "format": "JPEG",
        "bytes": 3_456_789,
        "mtime_ns": 1_767_225_600_000_000_000,
        "indexed_at": "2026-01-01T00:00:00+00:00",
        "metadata": {"title": f"A picture of number {number}", "year": 2000 + number % 26},
    }


class _Round:
    """One round: milliseconds by engine, in total and by stage; searches per second; number of equal results."""

    def __init__(self) -> None:
        self.total: dict[str, list[float]] = {"embedded": [], "server": []}
        self.stages: dict[str, dict[str, list[float]]] = {name: {s: [] for s in _STAGES} for name in self.total}
        self.rate: dict[str, float] = {}
        self.equal = 0

    def add(self, name: str, answer: Answer) -> None:
        self.total[name].append(answer.timings_ms["total"])
        for stage in _STAGES:
            self.stages[name][stage].append(answer.timings_ms[stage])


def _measured(
    bundle: Bundle,
    embedded: VectorStore,
    server: VectorStore,
    texts: list[str],
    requests: int,
    rounds: int,
    clients: int,
) -> Iterator[Section]:
    searches = {
        name: Search(ModelRegistry(bundle, "cpu"), store, encoder=QueryEncoder(Batching(), cached_texts=0))
        for name, store in (("embedded", embedded), ("server", server))
    }
    try:
        queries = drawn(texts, (2 * rounds + 1) * requests, seed=1)
        parts = [queries[start : start + requests] for start in range(0, len(queries), requests)]
        yield _section("One client, empty vector cache", [_alternating(searches, list(dict.fromkeys(parts[0])))])
        outcomes = []
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            outcomes.append(_alternating(searches, parts[2 * number + 1]))
            for name in list(searches)[:: 1 if number % 2 else -1]:
                outcomes[-1].rate[name] = _rate(searches[name], parts[2 * number + 2], clients)
        yield _section("One client", outcomes, LATENCY)
        rates = {name: [outcome.rate[name] for outcome in outcomes] for name in searches}
        figure = Figure("throughput", "searches/s", rates["server"], "embedded", rates["embedded"], THROUGHPUT)
        yield Section(f"{clients} clients", [figure])
    finally:
        for search in searches.values():
            search.close()


def _alternating(searches: dict[str, Search], texts: list[str]) -> _Round:
    outcome = _Round()
    for number, text in enumerate(texts):
        answers = {name: searches[name].query(Query(text=text)) for name in list(searches)[:: 1 if number % 2 else -1]}
        for name, answer in answers.items():
            outcome.add(name, answer)
        ids = [[result.id for result in answer.results] for answer in answers.values()]
        outcome.equal += ids[0] == ids[1]
    return outcome


def _rate(search: Search, texts: list[str], clients: int) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        done = sum(1 for _ in pool.map(lambda text: search.query(Query(text=text)), texts))
    return done / (time.perf_counter() - start)


def _section(title: str, rounds: list[_Round], goal: Goal | None = None) -> Section:
    def at(name: str, percent: float) -> list[float]:
        return [percentile(outcome.total[name], percent) for outcome in rounds]

    def stage(name: str, which: str) -> list[float]:
        return [percentile(outcome.stages[name][which], 50) for outcome in rounds]

    figures = [
        Figure("a search through the server, p50", "ms", at("server", 50), "embedded", at("embedded", 50), goal),
        Figure("a search through the server, p99", "ms", at("server", 99), "embedded", at("embedded", 99)),
        *(
            Figure(f"{which}, p50", "ms", stage("server", which), "embedded", stage("embedded", which))
            for which in _STAGES
        ),
    ]
    searched = sum(len(outcome.total["server"]) for outcome in rounds)
    equal = sum(outcome.equal for outcome in rounds)
    return Section(title, figures, [f"{equal:,} of {searched:,} searches return the same images in the same order"])


def calls_section(url: str, settings: QdrantSettings, generation: str, bundle: Bundle, requests: int) -> Section:
    """Time the two calls of a search, by the wall clock and by the server's own clock."""
    pool = urllib3.connection_from_url(url)
    place = f"/collections/sceneseek-{settings.alias}-{generation}/points"
    headers = {"Content-Type": "application/json"} | ({"api-key": settings.api_key} if settings.api_key else {})
    wall: dict[str, list[float]] = {"ids": [], "payload": []}
    server: dict[str, list[float]] = {"ids": [], "payload": []}

    def post(name: str, path: str, document: dict[str, Any]) -> Any:
        start = time.perf_counter()
        answer = json.loads(pool.request("POST", place + path, body=json.dumps(document), headers=headers).data)
        wall[name].append(1e3 * (time.perf_counter() - start))
        server[name].append(1e3 * answer["time"])
        return answer["result"]

    for vector in Clusters(requests, bundle.manifest.dimensions.joint, 1).draw(requests):
        query = {"query": vector.tolist(), "using": "joint", "limit": DEFAULT_SHORTLIST, "with_payload": False}
        ids = [point["id"] for point in post("ids", "/query", query)["points"]]
        post("payload", "", {"ids": ids[: 2 * DEFAULT_K], "with_payload": True, "with_vector": False})
    figures = [
        Figure(f"{what}, p50", "ms", [percentile(wall[name], 50)], "in the server", [percentile(server[name], 50)])
        for name, what in (
            ("ids", f"ids and scores of {DEFAULT_SHORTLIST}"),
            ("payload", f"payload of {2 * DEFAULT_K}"),
        )
    ]
    return Section("The server's bare calls", figures)


if __name__ == "__main__":
    main()
