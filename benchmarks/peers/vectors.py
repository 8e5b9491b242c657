"""The embedded engine compared with faiss: the nearest hundred of the same vectors, at several values of ef.

    pip install faiss-cpu
    python -m benchmarks.peers.vectors --vectors 100000

Both build an HNSW graph with 16 links per node and search on one thread, interleaved. faiss keeps full vectors in
memory (`IndexHNSWFlat`); the engine maps them, and builds and searches over an 8-bit copy.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import faiss  # type: ignore[import-not-found,unused-ignore]
import numpy as np

from benchmarks.engine import Clusters
from benchmarks.report import Figure, Report, Section, json_option
from benchmarks.timing import cores, other_load, percentile
from sceneseek.store import Collection, CollectionInfo, Point
from sceneseek.store.edge import EdgeStore
from sceneseek.vectors import Floats

_LIMIT, _LINKS, _CONSTRUCTION = 100, 16, 128
_BATCH = 1_000
_EFS = (200, 512, 1_024)


@click.command()
@click.option("--vectors", type=click.IntRange(1_000), default=100_000, show_default=True, help="Number of vectors.")
@click.option("--width", type=click.IntRange(8), default=512, show_default=True, help="Dimension of the vectors.")
@click.option("--queries", type=click.IntRange(1), default=500, show_default=True, help="Queries per value of ef.")
@json_option
def vectors(vectors: int, width: int, queries: int, json_file: Path | None) -> None:
    """Measure build time, latency and recall of both."""
    clusters = Clusters(vectors, width, 0)
    data = np.concatenate([clusters.draw(min(_BATCH, vectors - start)) for start in range(0, vectors, _BATCH)])
    query_vectors = clusters.draw(queries)
    expected = np.argpartition(-(query_vectors @ data.T), _LIMIT, axis=1)[:, :_LIMIT]
    report, notes = Report(), list[str]()
    with tempfile.TemporaryDirectory(prefix="sceneseek-faiss-") as home, other_load(notes.append):
        start = time.perf_counter()
        collection = _filled(Path(home), data)
        ours = time.perf_counter() - start
        faiss.omp_set_num_threads(cores())
        start = time.perf_counter()
        graph = faiss.IndexHNSWFlat(width, _LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = _CONSTRUCTION
        graph.add(data)
        theirs = time.perf_counter() - start
        faiss.omp_set_num_threads(1)
        section = Section(f"{vectors:,} clustered vectors of {width}, the nearest {_LIMIT}")
        section.figures.append(Figure("build", "s", [ours], "faiss", [theirs]))
        for ef in _EFS:
            section.figures += _searched(collection, graph, ef, query_vectors, expected)
        collection.close()
        report.sections.append(section)
    section.notes += notes
    report.write(json_file)


def _filled(home: Path, data: Floats) -> Collection:
    store = EdgeStore(home / "index")
    empty = np.zeros(0, np.float32)
    with store.writing():
        collection = store.create(CollectionInfo("trial", "", data.shape[1], 0, (), ""))
        for start in range(0, len(data), _BATCH):
            part = data[start : start + _BATCH]
            collection.upsert([Point(str(uuid.UUID(int=start + i)), row, empty) for i, row in enumerate(part)])
        collection.optimize()
        store.publish(collection)
    return store.open("trial")


def _searched(
    collection: Collection, graph: Any, ef: int, query_vectors: Floats, expected: np.ndarray[Any, Any]
) -> list[Figure]:
    """Measure latency and recall of both, interleaved for each query."""
    collection.info = replace(collection.info, search_ef=ef)
    graph.hnsw.efSearch = ef
    engines: dict[str, Callable[[Floats], set[int]]] = {
        "ours": lambda query: {uuid.UUID(found).int for found in collection.nearest(query, _LIMIT).ids},
        "faiss": lambda query: set(graph.search(query[None], _LIMIT)[1][0].tolist()),
    }
    times: dict[str, list[float]] = {name: [] for name in engines}
    recalls: dict[str, list[float]] = {name: [] for name in engines}
    for number, (query, nearest) in enumerate(zip(query_vectors, expected, strict=True)):
        for name in list(engines)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            found = engines[name](query)
            times[name].append(1e3 * (time.perf_counter() - start))
            recalls[name].append(len(found & set(nearest.tolist())) / _LIMIT)
    median = {name: [percentile(times[name], 50)] for name in engines}
    mean = {name: [float(np.mean(recalls[name]))] for name in engines}
    return [
        Figure(f"p50, ef {ef}", "ms", median["ours"], "faiss", median["faiss"]),
        Figure(f"recall, ef {ef}", "", mean["ours"], "faiss", mean["faiss"]),
    ]


if __name__ == "__main__":
    vectors()
