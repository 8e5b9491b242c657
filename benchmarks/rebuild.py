"""Queries while an index is built anew with another bundle: none fails, none is mixed, and how much slower they are.

    python -m benchmarks.rebuild --bundle bundles/compact --images DIR

A client asks at a fixed rate, whatever the answers take: first of a quiet service, then while `sceneseek index
--rebuild` runs in a process of its own beside it, until the service has followed. The other bundle prepares pictures
otherwise, so its image graph counts as another one. Latencies are from when a query was due, so that a service that
stalls cannot hide behind a client that waits.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import quote

import click

from benchmarks.client import Client
from benchmarks.machine import describe
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.serving import serving
from benchmarks.texts import own_queries
from benchmarks.timing import percentile
from sceneseek.bundle import Bundle
from sceneseek.errors import SceneseekError
from sceneseek.manifest import MANIFEST, Manifest

GOAL = Goal("ratio", 2.0)


@dataclass
class Asked:
    """What one stretch of queries met: milliseconds, errors, and the pairs of bundle and generation that answered."""

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    answered_by: set[tuple[str, str]] = field(default_factory=set)


def ask(port: int, rate: float, going_on: Callable[[], bool]) -> Asked:
    """Ask at a fixed rate for as long as it is going on."""
    asked, texts, client = Asked(), own_queries(), Client(port)
    start = time.perf_counter()
    for number in count():
        due = start + number / rate
        if (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        if not going_on():
            break
        try:
            _, body = client.get(f"/v1/search?q={quote(texts[number % len(texts)])}&k=5")
            answer = json.loads(body)
            asked.answered_by.add((answer["bundle"], answer["generation"]))
        except (OSError, SceneseekError) as error:
            asked.errors.append(str(error))
            client = Client(port)
        asked.latencies.append(1e3 * (time.perf_counter() - due))
    client.close()
    return asked


@contextmanager
def asking(port: int, rate: float) -> Iterator[Asked]:
    """Ask in a thread for the time of the block; what is yielded is filled when it ends."""
    stop, found = threading.Event(), Asked()

    def run() -> None:
        seen = ask(port, rate, lambda: not stop.is_set())
        found.latencies, found.errors, found.answered_by = seen.latencies, seen.errors, seen.answered_by

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def other_bundle(bundle: Bundle, out: Path) -> Bundle:
    """The same models with pictures prepared otherwise: another image fingerprint."""
    shutil.copytree(bundle.path, out)
    fields = bundle.manifest.model_dump(exclude={"schema_version", "fingerprints"})
    inputs = tuple(spec.model_copy(update={"fit": "letterbox"}) for spec in bundle.manifest.image_inputs)
    Manifest.build(**{**fields, "image_inputs": inputs}).write(out / MANIFEST)
    return Bundle.load(out)


def index(*words: str | Path) -> None:
    """Run `sceneseek index`."""
    command = [str(Path(sys.executable).with_name("sceneseek")), "index", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="What `export` wrote.")
@click.option("--images", type=click.Path(path_type=Path, exists=True), required=True, help="A folder of photographs.")
@click.option("--rate", type=float, default=20.0, show_default=True, help="Queries a second.")
@click.option("--quiet", type=float, default=20.0, show_default=True, help="Seconds of the quiet stretches.")
def main(bundle: Path, images: Path, rate: float, quiet: float) -> None:
    """Measure queries while an index is built anew."""
    one = Bundle.load(bundle)
    report = Report(describe())
    with tempfile.TemporaryDirectory(prefix="sceneseek-rebuild-") as scratch:
        home = Path(scratch)
        shutil.copytree(one.path, home / "one")
        two, url = other_bundle(one, home / "two"), f"file:{home}/index"
        index(images, "--bundle", home / "one", "--index", url)
        with serving(home / "one", url, "cpu", 0, home / "server.log") as server:
            with asking(server.port, rate):  # the first queries of a service are not what is asked about
                time.sleep(2)
            with asking(server.port, rate) as before:
                time.sleep(quiet)
            start = time.perf_counter()
            with asking(server.port, rate) as during:
                index("--rebuild", "--bundle", two.path, "--index", url)
                built = time.perf_counter() - start
                time.sleep(3)  # so that the service has followed
            with asking(server.port, rate) as after:
                time.sleep(quiet / 2)
    figures = [
        Figure(
            f"p{percent} while it is built", "ms", [percentile(during.latencies, percent)], "quiet before",
            [percentile(before.latencies, percent)], GOAL if percent == 99 else None,
        )
        for percent in (50, 99)
    ]  # fmt: skip
    figures.append(Figure("p99 quiet after", "ms", [percentile(after.latencies, 99)]))
    stretches = (before, during, after)
    mixed = {pair for asked in stretches for pair in asked.answered_by}
    notes = [
        f"{sum(len(asked.latencies) for asked in stretches):,} queries, {sum(len(a.errors) for a in stretches)} errors",
        f"built in {built:.0f} s; {len(mixed)} pairs of bundle and generation answered, two are right",
    ]
    report.sections.append(Section(f"{rate:g} queries a second while an index is built anew", figures, notes))
    for line in report.lines():
        click.echo(line)
    fresh = two.manifest.fingerprints.bundle
    whole = len(mixed) == 2 and after.answered_by == {pair for pair in mixed if pair[0] == fresh}
    sys.exit(int(not whole or any(a.errors for a in stretches) or any(f.met() is False for f in figures)))


if __name__ == "__main__":
    main()
