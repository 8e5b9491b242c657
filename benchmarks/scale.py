"""Scaling with the size of the collection: indexes of synthetic pictures, built and searched by the real commands.

    python -m benchmarks.scale --bundle bundles/compact --home DIR --sizes 1000,10000,100000,1000000

The pictures have 32 x 32 pixels and are clustered. In place of the bundle's image graph, whose time per image is
constant, a random projection encodes them to vectors distributed like those of the bundle's texts. Everything else is
real. Pictures are kept in `--home` for the next run; so are indexes, until it builds them again.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.footprint import directory_bytes, memory
from benchmarks.inputs import drawn, own_queries
from benchmarks.load_generator import LoadGenerator, searches
from benchmarks.report import Figure, Report, Section, json_option
from benchmarks.service import NO_CACHE, serving
from benchmarks.timing import other_load, percentile
from sceneseek.bundle import IMAGE_GRAPH, MANIFEST, Bundle, Manifest
from sceneseek.encoders import TextEncoder
from sceneseek.files import sha256_of
from sceneseek.options import bundle_option
from sceneseek.sample_queries import QUERIES
from sceneseek.store.edge import EdgeStore
from sceneseek.vectors import Floats

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

_SIDE = 32
_FOLDER_SIZE, _CLUSTER_SIZE = 1_000, 100
_SPREAD, _NOISE = 45.0, 29.0
_ADDED = 10
_LIMIT = 100
_QUERIES = 200
_QUERY = "a dog jumping over a log"


@click.command()
@bundle_option
@click.option("--home", type=click.Path(path_type=Path), required=True, help="Pictures and indexes are kept here.")
@click.option("--sizes", default="1000,10000,100000", show_default=True, help="Numbers of pictures, comma-separated.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of repeated measurements.")
@json_option
def scale(bundle: Path, home: Path, sizes: str, rounds: int, json_file: Path | None) -> None:
    """Measure indexing, incremental runs, start-up and searches at several sizes."""
    home = home.absolute()
    projected = _projected(Bundle.load(bundle), home / "bundle")
    report = Report()
    for size in sorted(map(int, sizes.split(","))):
        report.sections.append(_at_size(projected, home, size, rounds))
        for line in report.sections[-1].lines():
            click.echo(line, err=True)
    report.write(json_file)


def _projected(bundle: Bundle, out: Path) -> Bundle:
    """The bundle with an image graph that multiplies the pixels of a small picture by a random matrix."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(bundle.path, out)
    (out / f"{IMAGE_GRAPH}.data").unlink(missing_ok=True)
    manifest, pixels = bundle.manifest, 3 * _SIDE * _SIDE
    spec = dataclasses.replace(manifest.image_inputs[0], height=_SIDE, width=_SIDE, shortest_edge=None)
    matrix, offset = _projection(bundle, pixels)
    constants = {
        "middle": np.array(128, np.float32),
        "matrix": matrix,
        "offset": offset,
        "flat": np.array([-1, pixels]),
        "none": np.array([0]),
        "columns": np.array([1]),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [spec.name], ["values"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["values", "middle"], ["centred"]),
            helper.make_node("Reshape", ["centred", "flat"], ["rows"]),
            helper.make_node("Gemm", ["rows", "matrix", "offset"], ["raw"]),
            helper.make_node("LpNormalization", ["raw"], ["joint"], axis=1, p=2),
            helper.make_node("Slice", ["raw", "none", "none", "columns"], ["head"]),
        ],
        "image",
        [helper.make_tensor_value_info(spec.name, TensorProto.UINT8, ["N", _SIDE, _SIDE, 3])],
        [
            helper.make_tensor_value_info("joint", TensorProto.FLOAT, ["N", manifest.dimensions.joint]),
            helper.make_tensor_value_info("head", TensorProto.FLOAT, ["N", 0]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, out / IMAGE_GRAPH)
    files = {name: sha256_of(out / name) for name in manifest.files if (out / name).is_file()}
    changed: Manifest = manifest.changed(
        image_inputs=(spec,),
        dimensions=dataclasses.replace(manifest.dimensions, image_head=0),
        recipes=manifest.recipes | {IMAGE_GRAPH: files[IMAGE_GRAPH]},
        files=files,
    )
    changed.write(out / MANIFEST)
    return Bundle.load(out)


def _projection(bundle: Bundle, pixels: int) -> tuple[Floats, Floats]:
    """A matrix (pixels, D) and an offset (D,) that yield the mean and covariance of the text vectors."""
    texts = TextEncoder(bundle, "cpu").encode([*own_queries(), *QUERIES]).joint
    offset: Floats = texts.mean(axis=0)
    draw = np.random.default_rng(0).standard_normal((pixels, len(texts)), dtype=np.float32)
    length = np.float32(np.hypot(_SPREAD, _NOISE) * np.sqrt(pixels * len(texts)))
    matrix: Floats = (draw @ (texts - offset) / length).astype(np.float32)
    return matrix, offset


def _pictures(numbers: range, clusters: int) -> list[Pixels]:
    """Pictures by number; deterministic for a number and a number of clusters."""
    pictures = []
    for number in numbers:
        draw = np.random.default_rng((1, number))
        centre = np.random.default_rng((0, int(draw.integers(clusters)))).normal(128, _SPREAD, (_SIDE, _SIDE, 3))
        pictures.append(np.clip(centre + draw.normal(0, _NOISE, centre.shape), 0, 255).astype(np.uint8))
    return pictures


def _write(clusters: int, folder: Path, numbers: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in zip(numbers, _pictures(numbers, clusters), strict=True):
        Image.fromarray(picture).save(folder / f"{number:08}.jpg", quality=85)


def _ensure(photos: Path, size: int) -> None:
    """Write missing pictures, a thousand per folder. A folder is complete once its last picture exists."""
    parts = [range(start, min(start + _FOLDER_SIZE, size)) for start in range(0, size, _FOLDER_SIZE)]
    missing = [
        (photos / f"{number:05}", numbers)
        for number, numbers in enumerate(parts)
        if not (photos / f"{number:05}" / f"{numbers[-1]:08}.jpg").is_file()
    ]
    write = functools.partial(_write, max(1, size // _CLUSTER_SIZE))
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(write, *zip(*missing, strict=True)):  # raises what a process raised
            pass


def _at_size(bundle: Bundle, home: Path, size: int, rounds: int) -> Section:
    photos, index = home / f"photos-{size}", home / f"index-{size}"
    click.echo(f"{size:,}: writing pictures", err=True)
    _ensure(photos, size)
    shutil.rmtree(index, ignore_errors=True)
    locations = ["--bundle", str(bundle.path), "--index", f"file:{index}"]
    run = functools.partial(_run, log=home / f"log-{size}")
    section = Section(f"{size:,} images, vectors of {bundle.manifest.dimensions.joint}")
    with other_load(section.notes.append):
        seconds, peak = run(["index", str(photos), *locations, "--nice", "0"])
        section.figures += [Figure("first run", "s", [seconds]), Figure("its memory", "MB", [peak])]
        stored = directory_bytes(index)
        section.figures.append(Figure("index on disk", "bytes/image", [stored / size]))
        unchanged = [run(["index", str(photos), *locations]) for _ in range(rounds)]
        section.figures += _figures("unchanged run", unchanged)
        section.figures += _figures(f"run with {_ADDED} added", _added(photos, size, rounds, run, locations))
        cold = [run(["search", _QUERY, *locations]) for _ in range(rounds)]
        section.figures += _figures("search in a new process", cold)
        section.figures += _service(bundle, index, home, rounds)
        section.figures += _engine(bundle, EdgeStore(index), size, rounds)
    return section


def _figures(name: str, runs: Sequence[tuple[float, float]]) -> list[Figure]:
    seconds, peaks = zip(*runs, strict=True)
    return [Figure(name, "s", seconds), Figure("its memory", "MB", peaks)]


def _run(arguments: Sequence[str], log: Path) -> tuple[float, float]:
    """Run a command; return its seconds, and its peak memory in MB by sampling."""
    command = [str(Path(sys.executable).with_name("sceneseek")), *arguments]
    start, peak = time.perf_counter(), 0.0
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    while True:
        try:
            # Sample long runs rarely: reading the memory of a large process takes a quarter of a second of its time.
            code = process.wait(max(0.05, min(5.0, (time.perf_counter() - start) / 20)))
        except subprocess.TimeoutExpired:
            try:
                peak = max(peak, memory(process.pid).pss)
            except (OSError, KeyError):  # it is exiting
                continue
        else:
            seconds = time.perf_counter() - start
            break
    if code:
        sys.exit(f"{' '.join(command)} failed with exit code {code}, see {log}")
    return seconds, peak


def _added(
    photos: Path, size: int, rounds: int, run: Callable[[Sequence[str]], tuple[float, float]], locations: Sequence[str]
) -> list[tuple[float, float]]:
    runs = []
    for number in range(rounds):
        start = size + number * _ADDED
        _write(max(1, size // _CLUSTER_SIZE), photos / "added", range(start, start + _ADDED))
        runs.append(run(["index", str(photos), *locations]))
    shutil.rmtree(photos / "added")
    run(["index", str(photos), *locations, "--prune"])
    return runs


def _service(bundle: Bundle, index: Path, home: Path, rounds: int) -> list[Figure]:
    percentiles: list[list[float]] = []
    texts = searches(drawn(own_queries(), (rounds + 1) * _QUERIES, seed=0))
    with serving(bundle.path, f"file:{index}", "cpu", 0, home / "server.log", NO_CACHE) as server:
        load = LoadGenerator(server.port)
        for number in range(rounds + 1):
            outcomes = load.closed(texts, 1, 60.0, limit=_QUERIES)
            if number:
                percentiles.append([outcomes.milliseconds(50), outcomes.milliseconds(99)])
        load.close()
        resident = memory(server.pid).pss
        start = server.start_seconds
    p50, p99 = zip(*percentiles, strict=True)
    return [
        Figure("the service, from start to ready", "s", [start]),
        Figure("a search over HTTP, p50", "ms", p50),
        Figure("a search over HTTP, p99", "ms", p99),
        Figure("the service's memory", "MB", [resident]),
    ]


def _engine(bundle: Bundle, store: EdgeStore, size: int, rounds: int) -> list[Figure]:
    """Search for the nearest hundred of pictures that are not in the index."""
    import onnxruntime  # noqa: PLC0415 - optional: the user chooses which runtime is installed

    session = onnxruntime.InferenceSession(bundle.image_graph, providers=["CPUExecutionProvider"])
    numbers = range(2 * size, 2 * size + rounds * _QUERIES)
    pixels = np.stack(_pictures(numbers, max(1, size // _CLUSTER_SIZE)))
    vectors: Floats = session.run(["joint"], {bundle.manifest.image_inputs[0].name: pixels})[0]
    collection = store.open(str(store.live()))
    figures: dict[str, list[float]] = {"p50": [], "p99": [], "recall": []}
    try:
        for part in np.split(vectors, rounds):
            times, shares = [], []
            for vector in part:
                start = time.perf_counter()
                near = set(collection.nearest(vector, _LIMIT).ids)
                times.append(1e3 * (time.perf_counter() - start))
                shares.append(len(near & set(collection.nearest(vector, _LIMIT, exact=True).ids)) / len(near))
            figures["p50"].append(percentile(times, 50))
            figures["p99"].append(percentile(times, 99))
            figures["recall"].append(float(np.mean(shares)))
    finally:
        collection.close()
    return [
        Figure(f"the engine's nearest {_LIMIT}, p50", "ms", figures["p50"]),
        Figure(f"the engine's nearest {_LIMIT}, p99", "ms", figures["p99"]),
        Figure(f"recall@{_LIMIT} of approximate against exact", "", figures["recall"]),
    ]


if __name__ == "__main__":
    scale()
