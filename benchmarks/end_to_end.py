"""Indexing, queries, the service's footprint and the engine, measured in order over one temporary folder."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import engine, footprint, indexing, query
from benchmarks.inputs import drawn
from benchmarks.report import Report, Section
from benchmarks.service import NO_CACHE, serving
from benchmarks.timing import others
from sceneseek.bundle import Bundle
from sceneseek.runtime import Device
from sceneseek.store.edge import EdgeStore
from sceneseek_indexer.build import BuildOptions
from sceneseek_indexer.walk import ImageFile, list_images


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        sizes: how many images to index, for each of which all is measured; 0 is all of the folder.
        rounds: of everything that is measured in rounds.
        requests: queries of a round at one client, and of all clients together.
        clients: how many clients at once, beside one.
        seconds: the most that a round of queries may take.
        vectors: of the engine's trial; 0 leaves it out.
        engine_queries: of a round of the engine's trial.
        seed: of all that is drawn.
    """

    sizes: tuple[int, ...] = (1_000, 0)
    rounds: int = 3
    requests: int = 200
    clients: int = 8
    seconds: float = 60.0
    vectors: int = 100_000
    engine_queries: int = 100
    seed: int = 0


# Under a minute on two cores; a look at whether something broke, not a measurement.
QUICK = Plan(sizes=(200,), rounds=2, requests=40, seconds=5.0, vectors=12_000, engine_queries=20)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: the bundle, the images, the queries, the device, and the threads of each kind."""

    bundle: Bundle
    images: Path
    queries: list[str]
    device: Device = "auto"
    workers: int = 0
    threads: int = 0


class EndToEnd:
    """One run.

    Args:
        plan: how much.
        subject: of what.
        home: an empty folder to work in.
        tell: called with what is being measured.
    """

    def __init__(self, plan: Plan, subject: Subject, home: Path, tell: Callable[[str], None]) -> None:
        self._plan, self._subject, self._home, self._tell = plan, subject, home, tell

    def fill(self, report: Report) -> None:
        """Measure everything, each section put into the report as soon as it is known."""
        files = list_images(self._subject.images).files
        for size in dict.fromkeys(min(size or len(files), len(files)) for size in self._plan.sizes):
            self._at_size(files[:size], report)
        if self._plan.vectors:
            report.sections.append(self._engine())

    def _at_size(self, files: list[ImageFile], report: Report) -> None:
        index = self._home / "index"
        with self._step(f"indexing {len(files):,} images") as (tell, notes):
            options = BuildOptions(self._subject.device, self._subject.workers)
            ways = indexing.Indexing(self._subject.bundle, self._subject.images, files, index, options)
            section = indexing.section(ways.rounds(self._plan.rounds, tell))
        section.notes += notes
        report.sections.append(section)
        with self._step(f"querying {len(files):,} images") as (tell, notes):
            sections = self._queries(index, tell)
        for section in sections:
            section.notes += notes
        report.sections += sections

    def _queries(self, index: Path, tell: Callable[[str], None]) -> list[Section]:
        """The queries and the server's footprint, over a finished index."""
        plan, subject = self._plan, self._subject
        index_bytes = footprint.directory_bytes(index)
        copy = self._home / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(index, copy)
        serve = functools.partial(
            serving,
            subject.bundle.path,
            EdgeStore(index).url,
            subject.device,
            subject.threads,
            self._home / "server.log",
            NO_CACHE,
        )
        starts = []
        for number in range(plan.rounds - 1):
            tell(f"start {number + 1} of {plan.rounds}")
            with serve() as server:
                starts.append(server.start_seconds)
        tell(f"start {plan.rounds} of {plan.rounds}")
        with serve() as server:
            starts.append(server.start_seconds)
            before = footprint.memory(server.pid)
            floor = query.Floor(subject.bundle, EdgeStore(copy), subject.device, subject.threads)
            try:
                images = floor.images()
                single, many = self._query_rounds(server.port, floor, tell)
            finally:
                floor.close()
            after = footprint.memory(server.pid)
        width = subject.bundle.manifest.dimensions.joint
        return [
            query.one_client_section(single, images),
            query.many_clients_section(many, plan.clients, images),
            footprint.server_section(starts, before, after, images, index_bytes, width),
        ]

    def _query_rounds(
        self, port: int, floor: query.Floor, tell: Callable[[str], None]
    ) -> tuple[list[query.Round], list[query.Round]]:
        plan = self._plan
        texts = drawn(self._subject.queries, (2 * plan.rounds + 1) * plan.requests, plan.seed)
        shares = [texts[start : start + plan.requests] for start in range(0, len(texts), plan.requests)]
        warm_up, *shares = shares
        query.alternating(port, floor, warm_up[:20], time.monotonic() + plan.seconds)
        query.together(port, floor, warm_up, plan.clients, time.monotonic() + plan.seconds, http_first=True)
        single, many = [], []
        for number in range(plan.rounds):
            tell(f"round {number + 1} of {plan.rounds}: one client, then {plan.clients}")
            until = time.monotonic() + plan.seconds
            single.append(query.alternating(port, floor, shares[2 * number], until))
            until = time.monotonic() + plan.seconds
            http_first = number % 2 == 0
            many.append(query.together(port, floor, shares[2 * number + 1], plan.clients, until, http_first))
        return single, many

    def _engine(self) -> Section:
        plan = self._plan
        width = self._subject.bundle.manifest.dimensions.joint
        trial = engine.Trial(plan.vectors, width, plan.engine_queries, plan.rounds, plan.seed, self._home / "engine")
        with self._step(f"the engine with {trial.vectors:,} vectors") as (_, notes):
            section = engine.section(trial, engine.run(trial))
        section.notes += notes
        return section

    @contextmanager
    def _step(self, name: str) -> Iterator[tuple[Callable[[str], None], list[str]]]:
        """Tell of a step; what to tell of its rounds with, and notes on the machine once it has ended."""
        notes: list[str] = []
        self._tell(name)
        with others(notes.append):
            yield lambda what: self._tell(f"{name}, {what}"), notes
