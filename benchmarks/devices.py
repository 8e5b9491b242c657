"""A bundle on the devices of this machine: execution provider, parity with the CPU, and throughput.

    python -m benchmarks.devices --bundle bundles/compact --device cuda --device tensorrt

The CPU is always measured, as the reference. A device that is not available is reported with the reason, and the exit
code is 1. For each device: the largest difference of any number from the CPU's, the smallest cosine of joint vectors,
and images and texts per second at each batch size. The sizes are the buckets of GPU batches (`sceneseek.runtime`).
Nothing is downloaded.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.inputs import Feed, first, noise, photographs, queries
from benchmarks.report import Figure, Report, Section
from benchmarks.timing import cores, measure, other_load
from sceneseek.bundle import Bundle
from sceneseek.errors import SceneseekError
from sceneseek.runtime import Device, Session, open_session

BATCHES = (1, 2, 4, 8, 16, 32, 64)
BASE: Device = "cpu"


def rate(session: Session, feed: Feed, seconds: float) -> float:
    """Rows per second of one caller, over at least `seconds` and one run."""
    rows, done, start = len(next(iter(feed.values()))), 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        session.run(feed)
        done += rows
    return done / (time.perf_counter() - start)


def gap(session: Session, reference: Session, feed: Feed) -> tuple[float, float]:
    """The largest difference of any number, and the smallest cosine of joint vectors, over all batch sizes."""
    largest, cosine = 0.0, 1.0
    for count in (*BATCHES, 3, 61):  # also sizes that are not a bucket
        batch = first(feed, count)
        output, expected = session.run(batch), reference.run(batch)
        largest = max(largest, *(float(np.abs(output[name] - expected[name]).max(initial=0)) for name in expected))
        cosine = min(cosine, float((output["joint"] * expected["joint"]).sum(1).min()))
    return largest, cosine


def section(
    title: str,
    graph: Path,
    feed: Feed,
    devices: Sequence[Device],
    rounds: int,
    seconds: float,
    log: Callable[[str], None],
) -> Section:
    """Measure a graph on every device: parity with the CPU, then rows per second at each batch size, interleaved."""
    sessions = {device: open_session(graph, device, cores() if device == "cpu" else 0) for device in (BASE, *devices)}
    notes = [f"{name}: {s.placement.provider}, {s.placement.why}" for name, s in sessions.items()]
    for device in devices:
        largest, cosine = gap(sessions[device], sessions[BASE], feed)
        notes.append(f"{device} compared with the CPU: largest difference {largest:.1e}, smallest cosine {cosine:.7f}")
    figures = []
    with other_load(notes.append):
        for count in BATCHES:
            batch = first(feed, count)
            for session in sessions.values():
                session.run(batch)  # plans memory and chooses kernels before the timing
            parts = {str(d): functools.partial(rate, session, batch, seconds) for d, session in sessions.items()}
            rates = measure(parts, rounds, functools.partial(_log_batch, log, count))
            figures.append(Figure(f"{BASE}, batch {count}", "rows/s", rates[BASE]))
            figures += [Figure(f"{d}, batch {count}", "rows/s", rates[d], BASE, rates[BASE]) for d in devices]
    return Section(title, figures, notes)


def _log_batch(log: Callable[[str], None], count: int, line: str) -> None:
    log(f"batch {count}, {line}")


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="The bundle directory.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    type=click.Choice(["cuda", "tensorrt"]),
    help="Device to compare with the CPU; may be repeated.  [default: cuda]",
)
@click.option(
    "--images", type=click.Path(path_type=Path, exists=True), help="Photographs for the image graph.  [default: noise]"
)
@click.option("--rounds", default=5, show_default=True, help="Rounds, in each of which every device runs.")
@click.option("--seconds", default=1.0, show_default=True, help="Seconds per device and round.")
def main(bundle: Path, devices: tuple[Device, ...], images: Path | None, rounds: int, seconds: float) -> None:
    """Measure a bundle on the devices of this machine."""
    loaded, report, usable = Bundle.load(bundle), Report(), []
    for device in devices or ("cuda",):
        try:
            open_session(loaded.score_graph, device)
            usable.append(device)
        except SceneseekError as error:
            print(f"error: {error}", file=sys.stderr)
    inputs = loaded.manifest.image_inputs
    pixels = photographs(images, inputs, BATCHES[-1]) if images else noise(loaded.image_graph, BATCHES[-1])
    for title, graph, feed in (
        ("image graph", loaded.image_graph, pixels),
        ("text graph", loaded.text_graph, queries(loaded, BATCHES[-1])),
    ):
        log = functools.partial(print, title, file=sys.stderr)
        report.sections.append(section(title, graph, feed, usable, rounds, seconds, log))
    report.write()
    sys.exit(int(len(usable) < len(devices or ("cuda",))))


if __name__ == "__main__":
    main()
