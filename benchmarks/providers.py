"""ONNX Runtime's CPU provider beside OpenVINO on a bundle's graphs: is a second engine worth its place?

    python -m benchmarks.providers --bundle bundles/compact

Every engine runs the same graph on the same inputs, in turns, as the product would: indexing has one caller
a core with one thread each, a lone query has all threads. Each figure is the median of the rounds; processor
time hardly depends on who else is using the machine. How far an engine's outputs lie from those of ONNX
Runtime is told beside its speed; for a quantised graph, also from those of the graph it was made from.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.feeds import Feed, first, noise, photographs, queries
from benchmarks.machine import cores, describe, others
from benchmarks.report import Figure, Report, Section
from benchmarks.timing import measure
from sceneseek.bundle import Bundle

_BATCH, _COMPARED = 16, 64

Outputs = Mapping[str, np.ndarray[Any, Any]]
Engine = Callable[[Feed], Outputs]


@dataclass(frozen=True, slots=True)
class Case:
    """What is run: a graph, its inputs, and by how many callers with how many threads each.

    Attributes:
        name: what it is called.
        graph: the model file.
        feed: what is timed.
        compared: what outputs are compared on.
        callers: how many run it at once.
        threads: of each caller.
        source: the graph that this one was quantised from.
    """

    name: str
    graph: Path
    feed: Feed
    compared: Feed
    callers: int
    threads: int
    source: Path | None = None

    @property
    def rows(self) -> int:
        """The rows of what is timed."""
        return len(next(iter(self.feed.values())))


def engines(case: Case) -> dict[str, Engine]:
    """The engines by name, ONNX Runtime's CPU provider first."""
    return {
        "ONNX Runtime, CPU": onnxruntime_engine(case.graph, case.threads),
        "OpenVINO, f32": openvino_engine(case, {"INFERENCE_PRECISION_HINT": "f32"}),
        "OpenVINO, its own precision": openvino_engine(case, {}),
    }


def onnxruntime_engine(graph: Path, threads: int) -> Engine:
    """ONNX Runtime with the options of `sceneseek.runtime`."""
    import onnxruntime  # noqa: PLC0415 - optional, as OpenVINO is

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def openvino_engine(case: Case, config: Mapping[str, str]) -> Engine:
    """OpenVINO with a stream for each caller, and an inference request of its own for each run."""
    import openvino  # noqa: PLC0415 - not a dependency: this measures whether it should be one

    settings: dict[str, Any] = {
        **config,
        "INFERENCE_NUM_THREADS": case.callers * case.threads,
        "NUM_STREAMS": case.callers,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(str(case.graph), "CPU", settings)
    idle = [compiled.create_infer_request() for _ in range(case.callers)]

    def run(feed: Feed) -> Outputs:
        request = idle.pop()
        try:
            results = request.infer(dict(feed))
            return {name: np.array(value) for port, value in results.items() for name in port.get_names()}
        finally:
            idle.append(request)

    return run


@dataclass(frozen=True, slots=True)
class Speed:
    """What one engine did in one round: rows a second over all callers, and milliseconds of processor a row."""

    rate: float
    cost: float


def speed(engine: Engine, case: Case, seconds: float) -> Speed:
    """Run one engine for so long."""

    def calls(until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            engine(case.feed)
            done += 1
        return done

    start, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(case.callers) as pool:
        rows = case.rows * sum(pool.map(calls, [start + seconds] * case.callers))
    return Speed(rows / (time.perf_counter() - start), 1e3 * (time.process_time() - processor) / rows)


def distance(found: Outputs, expected: Outputs) -> str:
    """How far outputs lie from others: the cosines of the first one's rows, and the largest difference of all."""
    name = next(iter(expected))
    a, b = (x[name].reshape(len(expected[name]), -1).astype(np.float64) for x in (found, expected))
    cosines = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    difference = max(float(np.abs(found[n] - true).max()) for n, true in expected.items() if true.size)
    return f"cosine {cosines.min():.5f} at least, {cosines.mean():.5f} on average; differs by {difference:.1e} at most"


def section(case: Case, rounds: int, seconds: float, tell: Callable[[str], None]) -> Section:
    """One case, measured: the speed of every engine, and how far its outputs lie from the first one's."""
    made = engines(case)
    outputs = {name: engine(case.compared) for name, engine in made.items()}
    parts = {name: functools.partial(speed, engine, case, seconds) for name, engine in made.items()}
    notes: list[str] = []
    with others(notes.append):
        speeds = measure(parts, rounds, tell)
    base, *rest = made
    figures = []
    for field, unit in (("rate", "rows/s"), ("cost", "ms of processor/row")):
        values = {name: [getattr(s, field) for s in speeds[name]] for name in made}
        figures.append(Figure(base, unit, values[base]))
        figures += [Figure(name, unit, values[name], base, values[base]) for name in rest]
    notes += [f"{name} beside {base}: {distance(outputs[name], outputs[base])}" for name in rest]
    if case.source is not None:
        true = onnxruntime_engine(case.source, 0)(case.compared)
        notes += [f"{name} beside {case.source.name}: {distance(outputs[name], true)}" for name in made]
    title = f"{case.name}: {case.rows} rows a run, {case.callers} at once with {case.threads} threads each"
    return Section(title, figures, notes)


def cases(bundle: Bundle, images: Path | None, graphs: Sequence[tuple[Path, Path]]) -> Iterator[Case]:
    """Indexing and a lone query with the bundle, and indexing with other image graphs."""
    inputs, at_once = bundle.manifest.image_inputs, cores()
    pixels = photographs(images, inputs, _COMPARED) if images else noise(bundle.image_graph, _COMPARED)
    yield Case("image graph", bundle.image_graph, first(pixels, _BATCH), pixels, at_once, 1)
    texts = queries(bundle, _COMPARED)
    yield Case("text graph, a lone query", bundle.text_graph, first(texts, 1), texts, 1, at_once)
    for graph, source in graphs:
        fits = set(pixels) == set(noise(graph, 1))
        feed = pixels if fits else noise(graph, _COMPARED)
        yield Case(graph.name, graph, first(feed, _BATCH), feed, at_once, 1, source)


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="What `export` wrote.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True),
    help="A folder of photographs for the image graph to read; noise without it.",
)
@click.option(
    "--graph",
    "graphs",
    nargs=2,
    multiple=True,
    type=(click.Path(path_type=Path, exists=True), click.Path(path_type=Path, exists=True)),
    help="One more image graph, and the one it was quantised from.",
)
@click.option("--rounds", default=5, show_default=True, help="Rounds; engines take turns in each.")
@click.option("--seconds", default=2.0, show_default=True, help="How long an engine runs in a round.")
def main(bundle: Path, images: Path | None, graphs: list[tuple[Path, Path]], rounds: int, seconds: float) -> None:
    """Measure ONNX Runtime's CPU provider beside OpenVINO."""
    if find_spec("openvino") is None:
        raise click.ClickException("OpenVINO is not installed: pip install openvino beside the extra `cpu`")
    report = Report(describe())
    for case in cases(Bundle.load(bundle), images, graphs):
        print(case.name, file=sys.stderr)
        report.sections.append(section(case, rounds, seconds, lambda what: print(f"  {what}", file=sys.stderr)))
    for line in report.lines():
        print(line)


if __name__ == "__main__":
    main()
