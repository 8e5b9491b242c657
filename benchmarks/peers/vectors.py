"""The embedded engine beside faiss: the same vectors, the nearest hundred, in turns; at several search efforts.

    pip install faiss-cpu
    python -m benchmarks.peers.vectors --vectors 100000

Both build a graph with 16 links a node and search on one thread. faiss keeps full vectors in memory (`IndexHNSWFlat`);
the engine maps them, and builds and searches over an 8-bit copy.
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
from benchmarks.timing import cores, others, percentile
from sceneseek.store import Collection, CollectionInfo, Point
from sceneseek.store.edge import EdgeStore
from sceneseek.vectors import Floats

_LIMIT, _LINKS, _CONSTRUCTION = 100, 16, 128
_BATCH = 1_000
_EFFORTS = (200, 512, 1_024)


@click.command()
@click.option("--vectors", type=click.IntRange(1_000), default=100_000, show_default=True, help="How many.")
@click.option("--width", type=click.IntRange(8), default=512, show_default=True, help="Numbers of each.")
@click.option("--queries", type=click.IntRange(1), default=500, show_default=True, help="Of each search effort.")
@json_option
def vectors(vectors: int, width: int, queries: int, json_file: Path | None) -> None:
    """Measure build, latency and recall of both."""
    clusters = Clusters(vectors, width, 0)
    data = np.concatenate([clusters.draw(min(_BATCH, vectors - start)) for start in range(0, vectors, _BATCH)])
    asked = clusters.draw(queries)
    true = np.argpartition(-(asked @ data.T), _LIMIT, axis=1)[:, :_LIMIT]
    report, notes = Report(), list[str]()
    with tempfile.TemporaryDirectory(prefix="sceneseek-faiss-") as home, others(notes.append):
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
        for effort in _EFFORTS:
            section.figures += _searched(collection, graph, effort, asked, true)
        collection.close()
        report.sections.append(section)
    section.notes += notes
    report.write(json_file)


def _filled(home: Path, data: Floats) -> Collection:
    store = EdgeStore(home / "index")
    nothing = np.zeros(0, np.float32)
    with store.writing():
        collection = store.create(CollectionInfo("trial", "", data.shape[1], 0, (), ""))
        for start in range(0, len(data), _BATCH):
            part = data[start : start + _BATCH]
            collection.upsert([Point(str(uuid.UUID(int=start + i)), row, nothing) for i, row in enumerate(part)])
        collection.optimize()
        store.publish(collection)
    return store.open("trial")


def _searched(
    collection: Collection, graph: Any, effort: int, asked: Floats, true: np.ndarray[Any, Any]
) -> list[Figure]:
    """Latency and recall of both, each query of the one after the same of the other."""
    collection.info = replace(collection.info, search_ef=effort)
    graph.hnsw.efSearch = effort
    ways: dict[str, Callable[[Floats], set[int]]] = {
        "ours": lambda query: {uuid.UUID(found).int for found in collection.nearest(query, _LIMIT).ids},
        "faiss": lambda query: set(graph.search(query[None], _LIMIT)[1][0].tolist()),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    recalls: dict[str, list[float]] = {name: [] for name in ways}
    for number, (query, right) in enumerate(zip(asked, true, strict=True)):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            found = ways[name](query)
            times[name].append(1e3 * (time.perf_counter() - start))
            recalls[name].append(len(found & set(right.tolist())) / _LIMIT)
    middle = {name: [percentile(times[name], 50)] for name in ways}
    mean = {name: [float(np.mean(recalls[name]))] for name in ways}
    return [
        Figure(f"p50, ef {effort}", "ms", middle["ours"], "faiss", middle["faiss"]),
        Figure(f"recall, ef {effort}", "", mean["ours"], "faiss", mean["faiss"]),
    ]


if __name__ == "__main__":
    vectors()
