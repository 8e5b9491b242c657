"""A bundle on every device that this machine has: where it really runs, whether it says the same, how fast it is.

    python -m benchmarks.devices --bundle bundles/compact --device cuda --device tensorrt

The CPU is always measured, and is what the others are compared with. A device that is not available is reported with
its reason, and the exit code is 1. For each device: the largest difference of any number from the CPU's, the smallest
cosine of joint vectors, and images and texts a second at each batch size. On a GPU batches come in buckets
(`sceneseek.runtime`), so the sizes here are those. Nothing is downloaded.
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
from benchmarks.timing import cores, measure, others
from sceneseek.bundle import Bundle
from sceneseek.errors import SceneseekError
from sceneseek.runtime import Device, Session, open_session

BATCHES = (1, 2, 4, 8, 16, 32, 64)
BASE: Device = "cpu"


def rate(session: Session, feed: Feed, seconds: float) -> float:
    """Rows a second, by one caller, over so long; at least one run."""
    rows, done, start = len(next(iter(feed.values()))), 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        session.run(feed)
        done += rows
    return done / (time.perf_counter() - start)


def gap(ours: Session, reference: Session, feed: Feed) -> tuple[float, float]:
    """The largest difference of any number, and the smallest cosine of joint vectors, over batches of every size."""
    largest, cosine = 0.0, 1.0
    for count in (*BATCHES, 3, 61):  # sizes that are no bucket too
        batch = first(feed, count)
        found, true = ours.run(batch), reference.run(batch)
        largest = max(largest, *(float(np.abs(found[name] - true[name]).max(initial=0)) for name in true))
        cosine = min(cosine, float((found["joint"] * true["joint"]).sum(1).min()))
    return largest, cosine


def section(
    title: str,
    graph: Path,
    feed: Feed,
    devices: Sequence[Device],
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
) -> Section:
    """One graph on every device: parity with the CPU, then rows a second at each batch size, in turns."""
    sessions = {device: open_session(graph, device, cores() if device == "cpu" else 0) for device in (BASE, *devices)}
    notes = [f"{name}: {s.placement.provider}, {s.placement.why}" for name, s in sessions.items()]
    for device in devices:
        largest, cosine = gap(sessions[device], sessions[BASE], feed)
        notes.append(f"{device} beside the CPU: largest difference {largest:.1e}, smallest cosine {cosine:.7f}")
    figures = []
    with others(notes.append):
        for count in BATCHES:
            batch = first(feed, count)
            for session in sessions.values():
                session.run(batch)  # memory is planned and kernels are chosen before anything is timed
            parts = {str(d): functools.partial(rate, session, batch, seconds) for d, session in sessions.items()}
            found = measure(parts, rounds, functools.partial(_tell_batch, tell, count))
            figures.append(Figure(f"{BASE}, batch {count}", "rows/s", found[BASE]))
            figures += [Figure(f"{d}, batch {count}", "rows/s", found[d], BASE, found[BASE]) for d in devices]
    return Section(title, figures, notes)


def _tell_batch(tell: Callable[[str], None], count: int, what: str) -> None:
    tell(f"batch {count}, {what}")


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="What `export` wrote.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    type=click.Choice(["cuda", "tensorrt"]),
    help="Beside the CPU; may be repeated.  [default: cuda]",
)
@click.option(
    "--images", type=click.Path(path_type=Path, exists=True), help="Photographs for the image graph; noise without it."
)
@click.option("--rounds", default=5, show_default=True, help="Rounds; devices take turns in each.")
@click.option("--seconds", default=1.0, show_default=True, help="How long a device runs in a round.")
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
        say = functools.partial(print, title, file=sys.stderr)
        report.sections.append(section(title, graph, feed, usable, rounds, seconds, say))
    report.write()
    sys.exit(int(len(usable) < len(devices or ("cuda",))))


if __name__ == "__main__":
    main()
