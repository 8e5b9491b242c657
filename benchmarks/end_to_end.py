"""Benchmarks of indexing, queries, the service's footprint and the engine, in this order in one temporary folder."""

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
from benchmarks.timing import other_load
from sceneseek.bundle import Bundle
from sceneseek.runtime import Device
from sceneseek.store.edge import EdgeStore
from sceneseek_indexer.build import BuildOptions
from sceneseek_indexer.walk import ImageFile, list_images


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        sizes: numbers of images to index and search; 0 means all of the folder.
        rounds: rounds of each measurement.
        requests: queries per round, of one client and of all concurrent clients together.
        clients: concurrent clients, besides a single one.
        seconds: the time limit of a round of queries.
        vectors: vectors in the engine benchmark; 0 skips it.
        engine_queries: queries per round of the engine benchmark.
        seed: the seed of everything random.
    """

    sizes: tuple[int, ...] = (1_000, 0)
    rounds: int = 3
    requests: int = 200
    clients: int = 8
    seconds: float = 60.0
    vectors: int = 100_000
    engine_queries: int = 100
    seed: int = 0


# Under a minute on two cores: a smoke test, not a measurement.
QUICK = Plan(sizes=(200,), rounds=2, requests=40, seconds=5.0, vectors=12_000, engine_queries=20)


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a run: bundle, images, queries, device, and the threads of each kind."""

    bundle: Bundle
    images: Path
    queries: list[str]
    device: Device = "auto"
    workers: int = 0
    threads: int = 0


class EndToEnd:
    """A run of all benchmarks.

    Args:
        plan: how much to measure.
        subject: what to measure.
        home: an empty working directory.
        log: called with the name of each step.
    """

    def __init__(self, plan: Plan, subject: Subject, home: Path, log: Callable[[str], None]) -> None:
        self._plan, self._subject, self._home, self._log = plan, subject, home, log

    def fill(self, report: Report) -> None:
        """Measure everything; add each section to the report as soon as it is complete."""
        files = list_images(self._subject.images).files
        for size in dict.fromkeys(min(size or len(files), len(files)) for size in self._plan.sizes):
            self._at_size(files[:size], report)
        if self._plan.vectors:
            report.sections.append(self._engine())

    def _at_size(self, files: list[ImageFile], report: Report) -> None:
        index = self._home / "index"
        with self._step(f"indexing {len(files):,} images") as (log, notes):
            options = BuildOptions(self._subject.device, self._subject.workers)
            ways = indexing.Indexing(self._subject.bundle, self._subject.images, files, index, options)
            section = indexing.section(ways.rounds(self._plan.rounds, log))
        section.notes += notes
        report.sections.append(section)
        with self._step(f"querying {len(files):,} images") as (log, notes):
            sections = self._queries(index, log)
        for section in sections:
            section.notes += notes
        report.sections += sections

    def _queries(self, index: Path, log: Callable[[str], None]) -> list[Section]:
        """Measure queries and the server's footprint, over a complete index."""
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
            log(f"start {number + 1} of {plan.rounds}")
            with serve() as server:
                starts.append(server.start_seconds)
        log(f"start {plan.rounds} of {plan.rounds}")
        with serve() as server:
            starts.append(server.start_seconds)
            before = footprint.memory(server.pid)
            floor = query.Floor(subject.bundle, EdgeStore(copy), subject.device, subject.threads)
            try:
                images = floor.images()
                single, many = self._query_rounds(server.port, floor, log)
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
        self, port: int, floor: query.Floor, log: Callable[[str], None]
    ) -> tuple[list[query.Round], list[query.Round]]:
        plan = self._plan
        texts = drawn(self._subject.queries, (2 * plan.rounds + 1) * plan.requests, plan.seed)
        shares = [texts[start : start + plan.requests] for start in range(0, len(texts), plan.requests)]
        warm_up, *shares = shares
        query.alternating(port, floor, warm_up[:20], time.monotonic() + plan.seconds)
        query.together(port, floor, warm_up, plan.clients, time.monotonic() + plan.seconds, http_first=True)
        single, many = [], []
        for number in range(plan.rounds):
            log(f"round {number + 1} of {plan.rounds}: one client, then {plan.clients}")
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
        """Log a step; yield a log function for its rounds, and notes that get the machine's other load at exit."""
        notes: list[str] = []
        self._log(name)
        with other_load(notes.append):
            yield lambda line: self._log(f"{name}, {line}"), notes
