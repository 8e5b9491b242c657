"""A service under load: gain and cost of batching, 70 and 200 % of the peak, and a restart.

    python -m benchmarks.load --bundle bundles/compact --index index

Two services run on copies of the index, one with the default batch size and one with batches of one query. They are
measured interleaved, with distinct texts and without the query cache. Clients and services share the machine's cores:
the clients are one thread (`load_generator`), whose CPU time is part of every figure.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import click

from benchmarks.inputs import drawn, queries_option
from benchmarks.load_generator import LoadGenerator, Outcomes, Response, searches
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.service import NO_CACHE, serving
from benchmarks.timing import measure, other_load, percentile
from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.queries import Query
from sceneseek.query_encoder import QueryEncoder
from sceneseek.search import Search
from sceneseek.store import open_store

GAIN, COST = Goal("ratio", 1.5, "least"), Goal("value", 1.03)
TAIL, THROUGHPUT, RECOVERED, NONE = (
    Goal("ratio", 4.0),
    Goal("ratio", 0.9, "least"),
    Goal("value", 2.0),
    Goal("value", 0.0),
)
# `before`: network, and waiting for a thread and for admission. `other`: Flask, JSON and the like.
_STAGES = ("before", "encode", "shortlist", "score", "payload", "other")
RESTART = Goal("value", 3.0)
_CLIENTS = 32
_PAIRS = 200


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        rounds: rounds of the interleaved parts.
        stretch: seconds of one such part.
        steady: seconds at 70 % of the peak.
        overload: seconds at 200 % of the peak.
    """

    rounds: int
    stretch: float
    steady: float
    overload: float


@dataclass(frozen=True)
class Measured:
    """Inputs of later sections: the peak in responses per second, and the median of a lone client in milliseconds."""

    peak: float
    lone: float


def batching_section(
    together: LoadGenerator, alone: LoadGenerator, texts: list[str], plan: Plan
) -> tuple[Section, Measured]:
    """Measure many clients of both services, and one client, interleaved."""
    requests = searches(texts)
    parts = {
        "together": lambda: together.closed(requests, _CLIENTS, plan.stretch),
        "alone": lambda: alone.closed(requests, _CLIENTS, plan.stretch),
        "one client": lambda: together.closed(requests, 1, plan.stretch),
    }
    measured_parts = measure(parts, plan.rounds)
    lone = [outcomes.milliseconds(50) for outcomes in measured_parts["one client"]]
    rates = [outcomes.rate() for outcomes in measured_parts["together"]]
    figures = [
        Figure(
            f"{_CLIENTS} clients",
            "queries/s",
            rates,
            "each query alone",
            [o.rate() for o in measured_parts["alone"]],
            GAIN,
        ),
        Figure(
            f"{_CLIENTS} clients, p99", "ms", [outcomes.milliseconds(99) for outcomes in measured_parts["together"]]
        ),
        Figure("one client, p50", "ms", lone),
        Figure(
            "requests that failed", "", [float(_failed(o, 200)) for o in chain(*measured_parts.values())], goal=NONE
        ),
    ]
    measured = Measured(percentile(rates, 50), percentile(lone, 50))
    return Section("Batching, over HTTP", figures), measured


def lone_section(bundle: Bundle, url: str, texts: list[str], rounds: int) -> Section:
    """Measure a lone caller of the pipeline in this process, encoding in the batcher's thread and in its own."""
    search = Search(ModelRegistry(bundle, "cpu"), open_store(url))
    direct, batched = search.encoder, QueryEncoder(cached_texts=0)
    ratios: list[float] = []
    seconds: dict[str, float] = {}
    try:
        for number, text in enumerate(drawn(texts, _PAIRS * rounds, seed=3)):
            encoders = [("batched", batched), ("direct", direct)]
            for name, encoder in encoders if number % 2 else encoders[::-1]:
                search.encoder = encoder
                start = time.perf_counter()
                search.query(Query(text=text))
                seconds[name] = time.perf_counter() - start
            ratios.append(seconds["batched"] / seconds["direct"])
    finally:
        batched.close()
        search.close()
    by_round = [percentile(ratios[i : i + _PAIRS], 50) for i in range(0, len(ratios), _PAIRS)]
    # Ratios of pairs, because the machine's noise is larger than the difference.
    figure = Figure("batched over direct search, median ratio of pairs", "", by_round, goal=COST)
    return Section("Cost of batching for a lone caller, in one process", [figure])


def steady_section(
    generator: LoadGenerator, texts: list[str], measured: Measured, seconds: float
) -> tuple[Section, float]:
    """Measure 70 % of the peak; return the section and its p99 in milliseconds."""
    rate = 0.7 * measured.peak
    outcomes = generator.open(searches(texts), rate, seconds)
    figures = [
        *(Figure(f"p{p}", "ms", [outcomes.milliseconds(p)]) for p in (50, 90)),
        Figure("p99", "ms", [outcomes.milliseconds(99)], "p50 of a lone client", [measured.lone], TAIL),
        Figure("requests that failed", "", [float(_failed(outcomes, 200))], goal=NONE),
    ]
    title = f"70 % of the peak: {rate:.0f} per second for {seconds:g} s, at random times"
    return Section(title, [*figures, *_slowest(outcomes)]), outcomes.milliseconds(99)


def _slowest(outcomes: Outcomes) -> list[Figure]:
    """Report the stages of the slowest 1 % of the responses, compared with those of all."""
    spent = [_spent(r) for r in sorted(outcomes.responses, key=lambda r: r.latency) if r.status == 200]
    slowest = spent[-max(1, len(spent) // 100) :]

    def median(responses: list[dict[str, float]], stage: str) -> list[float]:
        return [percentile([response[stage] for response in responses], 50)]

    return [
        Figure(f"{stage}, slowest 1 %", "ms", median(slowest, stage), "all", median(spent, stage)) for stage in _STAGES
    ]


def _spent(response: Response) -> dict[str, float]:
    """Milliseconds by stage."""
    stages = response.stages()
    inside = stages.pop("total")
    return stages | {"before": 1e3 * response.latency - inside, "other": inside - sum(stages.values())}


def overload_section(
    generator: LoadGenerator, texts: list[str], measured: Measured, seconds: float, usual: float
) -> Section:
    """Measure twice the peak, and the time until responses take at most `usual` milliseconds again."""
    requests, rate = searches(texts), 2 * measured.peak
    over = generator.open(requests, rate, seconds, seed=1)
    after = generator.open(requests, 0.5 * measured.peak, 5.0, seed=2)
    slow = [r.due for r in after.responses if r.status != 200 or 1e3 * r.latency > usual]
    figures = [
        Figure("answered", "queries/s", [over.rate()], "the peak", [measured.peak], THROUGHPUT),
        Figure("refused with 429", "per second", [over.rate(429)]),
        Figure("answered, p50", "ms", [over.milliseconds(50)]),
        Figure("answered, p99", "ms", [over.milliseconds(99)]),
        Figure("refused, p50", "ms", [over.milliseconds(50, 429)]),
        Figure("requests that failed otherwise", "", [float(_failed(over, 200, 429))], goal=NONE),
        Figure("until responses are fast again", "s", [_end_of_series(slow)], goal=RECOVERED),
    ]
    notes = ["fast again: at half the peak, after consecutive responses that were refused or slower than p99 at 70 %"]
    return Section(f"200 % of the peak: {rate:.0f} per second for {seconds:g} s", figures, notes)


def restart_section(bundle: Path, url: str, home: Path) -> Section:
    """Measure the restart of a killed service."""
    with contextlib.suppress(ProcessLookupError), serving(bundle, url, "cpu", 0, home / "killed.log") as server:
        os.kill(server.pid, signal.SIGKILL)
        start = time.perf_counter()
        with serving(bundle, url, "cpu", 0, home / "again.log"):
            seconds = time.perf_counter() - start
    return Section("Killed and restarted", [Figure("until ready", "s", [seconds], goal=RESTART)])


def _failed(outcomes: Outcomes, *expected: int) -> int:
    statuses = outcomes.statuses()
    return outcomes.lost + sum(count for status, count in statuses.items() if status not in expected)


def _end_of_series(instants: Sequence[float]) -> float:
    """The last of the instants that follow each other within a second, from 0 on."""
    last = 0.0
    for instant in sorted(instants):
        if instant - last > 1.0:
            break
        last = instant
    return last


def fill(report: Report, bundle: Path, index: Path, texts: list[str], plan: Plan, home: Path) -> None:
    """Measure everything, and add the sections to a report."""
    urls = []
    for name in ("together", "alone"):
        shutil.copytree(index, home / name)
        urls.append(f"file:{home / name}")
    with (
        serving(bundle, urls[0], "cpu", 0, home / "together.log", NO_CACHE) as server,
        contextlib.closing(LoadGenerator(server.port)) as together,
    ):
        with (
            serving(bundle, urls[1], "cpu", 0, home / "alone.log", (*NO_CACHE, "--max-batch", "1")) as other,
            contextlib.closing(LoadGenerator(other.port)) as alone,
        ):
            for generator in (together, alone):  # warm up
                generator.closed(searches(texts), _CLIENTS, 2.0)
            section, measured = batching_section(together, alone, texts, plan)
            report.sections.append(section)
        section, usual = steady_section(together, texts, measured, plan.steady)
        report.sections.append(section)
        report.sections.append(overload_section(together, texts, measured, plan.overload, usual))
    report.sections.append(lone_section(Bundle.load(bundle), urls[0], texts, plan.rounds))
    report.sections.append(restart_section(bundle, urls[1], home))


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="The bundle directory.")
@click.option("--index", type=click.Path(path_type=Path, exists=True), required=True, help="The index; it is copied.")
@queries_option
@click.option("--rounds", type=int, default=5, show_default=True, help="Rounds of the interleaved parts.")
@click.option("--stretch", type=float, default=5.0, show_default=True, help="Seconds of one such part.")
@click.option("--steady", type=float, default=60.0, show_default=True, help="Seconds at 70 % of the peak.")
@click.option("--overload", type=float, default=20.0, show_default=True, help="Seconds at 200 % of the peak.")
def main(
    bundle: Path, index: Path, texts: list[str], rounds: int, stretch: float, steady: float, overload: float
) -> None:
    """Measure a service under load."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="sceneseek-load-") as scratch, other_load(click.echo):
        fill(report, bundle, index, texts, Plan(rounds, stretch, steady, overload), Path(scratch))
    report.finish()


if __name__ == "__main__":
    main()
