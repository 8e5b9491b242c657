"""The engine alone: many vectors in, and the nearest hundred out.

The vectors lie in clusters, since recall on independent random ones says nothing. Everything runs in a
process of its own: the engine holds the interpreter's lock while it builds.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.footprint import directory_bytes, memory
from benchmarks.report import Figure, Section
from benchmarks.timing import percentile
from sceneseek.store import Collection, CollectionInfo, Point
from sceneseek.store.base import JOINT
from sceneseek.store.edge import EdgeStore
from sceneseek.vectors import Floats

_BATCH = 1_000
_LIMIT = 100
_A_CLUSTER = 100
# Length of what a member differs from its centre by; members then have a cosine of about 0.7 to each other.
_NOISE = 0.65


@dataclass(frozen=True, slots=True)
class Trial:
    """What to try: how many vectors how wide, queries a round, rounds, the seed, and where."""

    vectors: int
    width: int
    queries: int
    rounds: int
    seed: int
    home: Path


@dataclass
class Outcome:
    """What one trial saw; the lists hold milliseconds, a list a round; `resident` is in MB, after all queries."""

    insert_seconds: float
    optimise_seconds: float
    bytes: int
    resident: float
    bare: list[list[float]]
    with_vectors: list[list[float]]
    exact: list[list[float]]
    recall: list[float]


def run(trial: Trial) -> Outcome:
    """The trial, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run_here, trial).result()


class Clusters:
    """Unit vectors around centres drawn by a seed."""

    def __init__(self, count: int, width: int, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._width = width
        self._centres = self._directions(max(1, count // _A_CLUSTER))

    def draw(self, count: int) -> Floats:
        """So many vectors (count, width), each near a centre drawn at random."""
        chosen = self._centres[self._draw.integers(len(self._centres), size=count)]
        return _unit(chosen + _NOISE * self._directions(count))

    def _directions(self, count: int) -> Floats:
        return _unit(self._draw.standard_normal((count, self._width), dtype=np.float32))


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def _run_here(trial: Trial) -> Outcome:
    clusters = Clusters(trial.vectors, trial.width, trial.seed)
    store = EdgeStore(trial.home)
    info = CollectionInfo("trial", "", trial.width, 0, (), "")
    with store.writing():
        collection = store.create(info)
        insert_seconds = 0.0
        for points in _points(clusters, trial.vectors):
            start = time.perf_counter()
            collection.upsert(points)
            insert_seconds += time.perf_counter() - start
        start = time.perf_counter()
        collection.optimize()
        optimise_seconds = time.perf_counter() - start
        store.publish(collection)
    outcome = Outcome(insert_seconds, optimise_seconds, directory_bytes(trial.home), 0.0, [], [], [], [])
    collection = store.open("trial")
    try:
        for _ in range(trial.rounds):
            _round(collection, clusters.draw(trial.queries), outcome)
        outcome.resident = memory(os.getpid()).rss
    finally:
        collection.close()
    return outcome


def _points(clusters: Clusters, count: int) -> Iterator[list[Point]]:
    for start in range(0, count, _BATCH):
        vectors = clusters.draw(min(_BATCH, count - start))
        nothing = np.zeros(0, dtype=np.float32)
        yield [Point(str(uuid.UUID(int=start + i)), vector, nothing) for i, vector in enumerate(vectors)]


def _round(collection: Collection, queries: Floats, outcome: Outcome) -> None:
    """Every query in the three ways, in turns."""
    bare, with_vectors, exact, recall = [], [], [], []
    for query in queries:
        milliseconds, approximate = _timed(collection, query)
        bare.append(milliseconds)
        with_vectors.append(_timed(collection, query, vectors=(JOINT,))[0])
        milliseconds, true = _timed(collection, query, exact=True)
        exact.append(milliseconds)
        recall.append(len(approximate & true) / len(true))
    outcome.bare.append(bare)
    outcome.with_vectors.append(with_vectors)
    outcome.exact.append(exact)
    outcome.recall.append(float(np.mean(recall)))


def _timed(
    collection: Collection, query: Floats, vectors: tuple[str, ...] = (), exact: bool = False
) -> tuple[float, set[str]]:
    start = time.perf_counter()
    candidates = collection.nearest(query, _LIMIT, vectors, exact)
    return 1e3 * (time.perf_counter() - start), set(candidates.ids)


def section(trial: Trial, outcome: Outcome) -> Section:
    """The report of a trial."""

    def at(percent: float, rounds: list[list[float]]) -> list[float]:
        return [percentile(milliseconds, percent) for milliseconds in rounds]

    exact = outcome.exact
    ways = (("ids and similarity", outcome.bare), ("with vectors", outcome.with_vectors), ("exact", exact))
    return Section(
        f"Engine alone, {trial.vectors:,} clustered vectors of {trial.width}",
        [
            Figure("inserts", "/s", [trial.vectors / outcome.insert_seconds]),
            Figure("optimising", "s", [outcome.optimise_seconds]),
            Figure(
                "on the disk",
                "bytes/vector",
                [outcome.bytes / trial.vectors],
                "the vector alone",
                [4.0 * trial.width],
            ),
            Figure("resident after the queries, exact ones included", "MB", [outcome.resident]),
            *(
                Figure(f"top {_LIMIT}, {name}, p{percent}", "ms", at(percent, rounds))
                for name, rounds in ways
                for percent in (50, 99)
            ),
            Figure(f"recall@{_LIMIT} of approximate against exact", "", outcome.recall),
        ],
        [f"{trial.queries:,} queries a round, {trial.rounds} rounds, the three ways in turns"],
    )
