"""The engine alone: inserting many vectors, and searching for the nearest hundred.

The vectors are clustered, since recall on independent random vectors is meaningless. Everything runs in a separate
process, because the engine holds the GIL while it builds.
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
_CLUSTER_SIZE = 100
# Length of a member's offset from its centre; the cosine between members is then about 0.7.
_NOISE = 0.65


@dataclass(frozen=True, slots=True)
class Trial:
    """Parameters: number and width of the vectors, queries per round, rounds, seed, and directory of the index."""

    vectors: int
    width: int
    queries: int
    rounds: int
    seed: int
    home: Path


@dataclass
class Outcome:
    """Results of a trial: milliseconds as a list per round, recall per round, `resident` in MB after all queries."""

    insert_seconds: float
    optimise_seconds: float
    bytes: int
    resident: float
    bare: list[list[float]]
    with_vectors: list[list[float]]
    exact: list[list[float]]
    recall: list[float]


def run(trial: Trial) -> Outcome:
    """Run a trial in a separate process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run_here, trial).result()


class Clusters:
    """Unit vectors around random centres."""

    def __init__(self, count: int, width: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._width = width
        self._centres = self._directions(max(1, count // _CLUSTER_SIZE))

    def draw(self, count: int) -> Floats:
        """Draw vectors (count, width), each near a random centre."""
        chosen = self._centres[self._rng.integers(len(self._centres), size=count)]
        return _unit(chosen + _NOISE * self._directions(count))

    def _directions(self, count: int) -> Floats:
        return _unit(self._rng.standard_normal((count, self._width), dtype=np.float32))


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
        empty = np.zeros(0, dtype=np.float32)
        yield [Point(str(uuid.UUID(int=start + i)), vector, empty) for i, vector in enumerate(vectors)]


def _round(collection: Collection, queries: Floats, outcome: Outcome) -> None:
    """Run every query in the three variants, interleaved."""
    bare, with_vectors, exact, recall = [], [], [], []
    for query in queries:
        milliseconds, approximate = _timed(collection, query)
        bare.append(milliseconds)
        with_vectors.append(_timed(collection, query, vectors=(JOINT,))[0])
        milliseconds, expected = _timed(collection, query, exact=True)
        exact.append(milliseconds)
        recall.append(len(approximate & expected) / len(expected))
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
    """Report a trial."""

    def at(percent: float, rounds: list[list[float]]) -> list[float]:
        return [percentile(milliseconds, percent) for milliseconds in rounds]

    exact = outcome.exact
    variants = (("ids and similarity", outcome.bare), ("with vectors", outcome.with_vectors), ("exact", exact))
    return Section(
        f"Engine alone, {trial.vectors:,} clustered vectors of {trial.width}",
        [
            Figure("inserts", "/s", [trial.vectors / outcome.insert_seconds]),
            Figure("optimising", "s", [outcome.optimise_seconds]),
            Figure(
                "on disk",
                "bytes/vector",
                [outcome.bytes / trial.vectors],
                "the vector alone",
                [4.0 * trial.width],
            ),
            Figure("resident memory after the queries, exact ones included", "MB", [outcome.resident]),
            *(
                Figure(f"top {_LIMIT}, {name}, p{percent}", "ms", at(percent, rounds))
                for name, rounds in variants
                for percent in (50, 99)
            ),
            Figure(f"recall@{_LIMIT} of approximate against exact", "", outcome.recall),
        ],
        [f"{trial.queries:,} queries per round, {trial.rounds} rounds, the three variants interleaved"],
    )
