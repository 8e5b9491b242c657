"""One browser tab's worth of traffic: the thumbnails of fifty results.

    python -m benchmarks.tab --bundle bundles/compact --index index

Over six connections, as browsers open to a host. First of pictures that the service has not shown before, each round
of another search, so that every thumbnail is drawn from its file; then the same again, from the service's cache; then
as a browser asks for what it has, by tag, and is told that it is still right. Client and service share the cores.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import click
import urllib3

from benchmarks.client import Client
from benchmarks.machine import describe, others
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.serving import HOST, serving
from benchmarks.texts import own_queries

RESULTS = 50
_CONNECTIONS = 6
GOAL = Goal("value", 150.0)


@dataclass
class Loads:
    """Milliseconds of each tab, and the tags of its pictures."""

    drawn: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    unchanged: list[float] = field(default_factory=list)


class Tab:
    """Six connections to a service."""

    def __init__(self, port: int) -> None:
        self._pool = urllib3.HTTPConnectionPool(HOST, port, maxsize=_CONNECTIONS, block=True)
        self._threads = ThreadPoolExecutor(_CONNECTIONS)

    def load(self, addresses: Sequence[str], tags: Sequence[str] = ()) -> tuple[float, list[str], set[int]]:
        """Fetch all of them; milliseconds until the last is there, their tags, and the statuses that were answered."""
        headers = [{"If-None-Match": tag} for tag in tags] or [{}] * len(addresses)
        start = time.perf_counter()
        answers = list(
            self._threads.map(lambda a, h: self._pool.request("GET", a, headers=h, retries=False), addresses, headers)
        )
        milliseconds = 1e3 * (time.perf_counter() - start)
        return milliseconds, [answer.headers["ETag"] for answer in answers], {answer.status for answer in answers}

    def close(self) -> None:
        """End the connections."""
        self._threads.shutdown()
        self._pool.close()


def measure_tabs(port: int, texts: Sequence[str], rounds: int) -> tuple[Loads, int]:
    """So many searches whose fifty best have not been shown before, each loaded three times; and pictures in all."""
    client, tab, loads, shown = Client(port), Tab(port), Loads(), set[str]()
    try:
        for text in texts:
            _, body = client.get(f"/v1/search?q={quote(text)}&k={RESULTS * 4}&shortlist={RESULTS * 4}")
            fresh = [r["thumbnail"] for r in json.loads(body)["results"] if r["thumbnail"] not in shown][:RESULTS]
            if len(fresh) < RESULTS:
                continue
            shown.update(fresh)
            drawn, tags, statuses = tab.load(fresh)
            kept, _, again = tab.load(fresh)
            unchanged, _, asked = tab.load(fresh, tags)
            assert (statuses, again, asked) == ({200}, {200}, {304}), (statuses, again, asked)  # noqa: S101
            loads.drawn.append(drawn)
            loads.kept.append(kept)
            loads.unchanged.append(unchanged)
            if len(loads.drawn) == rounds:
                break
    finally:
        client.close()
        tab.close()
    return loads, len(shown)


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="What `export` wrote.")
@click.option("--index", type=click.Path(path_type=Path, exists=True), required=True, help="The directory of an index.")
@click.option("--rounds", type=click.IntRange(1, 100), default=15, show_default=True, help="Searches.")
def main(bundle: Path, index: Path, rounds: int) -> None:
    """Measure how long the thumbnails of fifty results take."""
    report = Report(describe())
    with tempfile.TemporaryDirectory(prefix="sceneseek-tab-") as scratch:
        copy = shutil.copytree(index, Path(scratch) / "index")
        busy: list[str] = []
        with others(busy.append), serving(bundle, f"file:{copy}", "cpu", 0, Path(scratch) / "log") as server:
            loads, shown = measure_tabs(server.port, own_queries(), rounds)
    figures = [
        Figure("drawn for the first time", "ms", loads.drawn, goal=GOAL),
        Figure("kept from before", "ms", loads.kept),
        Figure("asked for by tag", "ms", loads.unchanged),
    ]
    notes = [f"{len(loads.drawn)} tabs, {shown:,} pictures, over {_CONNECTIONS} connections", *busy]
    report.sections.append(Section(f"The thumbnails of {RESULTS} results", figures, notes))
    for line in report.lines():
        click.echo(line)
    sys.exit(int(any(figure.met() is False for figure in figures)))


if __name__ == "__main__":
    main()
