"""A service under load: what batching wins and costs, what happens at 70 and at 200 per cent of the peak, a restart.

    python -m benchmarks.load --bundle bundles/compact --index index

Two services run on copies of the index, one as it is and one that runs every query alone; they are measured in turns,
with texts that are all different and without the cache of encodings. Clients and services share the machine's cores:
the clients are one thread (`load_generator`), which takes its part of every figure here.
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
from benchmarks.load_generator import LoadGenerator, Outcomes, Taken, searches
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.service import NO_CACHE, serving
from benchmarks.timing import measure, others, percentile
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
# `before` is the wait for a thread and for admission, and the network; `other` is Flask, JSON and the like.
_STAGES = ("before", "encode", "shortlist", "score", "payload", "other")
RESTART = Goal("value", 3.0)
_CLIENTS = 32
_PAIRS = 200


@dataclass(frozen=True)
class Plan:
    """How long everything is measured.

    Attributes:
        rounds: of the parts that are measured in turns.
        stretch: seconds of one such part.
        steady: seconds at 70 per cent.
        overload: seconds at 200 per cent.
    """

    rounds: int
    stretch: float
    steady: float
    overload: float


@dataclass(frozen=True)
class Measured:
    """What the later sections build on: the peak in answers a second, and a lone client's median in milliseconds."""

    peak: float
    lone: float


def batching_section(
    together: LoadGenerator, alone: LoadGenerator, texts: list[str], plan: Plan
) -> tuple[Section, Measured]:
    """Many clients and one client of both services, in turns."""
    asked = searches(texts)
    parts = {
        "together": lambda: together.closed(asked, _CLIENTS, plan.stretch),
        "alone": lambda: alone.closed(asked, _CLIENTS, plan.stretch),
        "one client": lambda: together.closed(asked, 1, plan.stretch),
    }
    found = measure(parts, plan.rounds)
    lone = [outcomes.milliseconds(50) for outcomes in found["one client"]]
    rates = [outcomes.rate() for outcomes in found["together"]]
    figures = [
        Figure(f"{_CLIENTS} clients", "queries/s", rates, "each query alone", [o.rate() for o in found["alone"]], GAIN),
        Figure(f"{_CLIENTS} clients, p99", "ms", [outcomes.milliseconds(99) for outcomes in found["together"]]),
        Figure("one client, p50", "ms", lone),
        Figure("requests that failed", "", [float(_failed(o, 200)) for o in chain(*found.values())], goal=NONE),
    ]
    measured = Measured(percentile(rates, 50), percentile(lone, 50))
    return Section("Batching, over HTTP", figures), measured


def lone_section(bundle: Bundle, url: str, texts: list[str], rounds: int) -> Section:
    """A single caller of the pipeline, in this process: through the batcher's thread and in its own, text by text."""
    search = Search(ModelRegistry(bundle, "cpu"), open_store(url))
    direct, batched = search.encoder, QueryEncoder(cached_texts=0)
    quotients: list[float] = []
    taken: dict[str, float] = {}
    try:
        for number, text in enumerate(drawn(texts, _PAIRS * rounds, seed=3)):
            ways = [("batched", batched), ("direct", direct)]
            for name, encoder in ways if number % 2 else ways[::-1]:
                search.encoder = encoder
                start = time.perf_counter()
                search.query(Query(text=text))
                taken[name] = time.perf_counter() - start
            quotients.append(taken["batched"] / taken["direct"])
    finally:
        batched.close()
        search.close()
    by_round = [percentile(quotients[i : i + _PAIRS], 50) for i in range(0, len(quotients), _PAIRS)]
    # Pair by pair: the machine's noise is larger than the difference that is measured.
    figure = Figure("a search, over one in the caller's own thread, median of pairs", "", by_round, goal=COST)
    return Section("What batching costs a lone caller, in one process", [figure])


def steady_section(
    generator: LoadGenerator, texts: list[str], measured: Measured, seconds: float
) -> tuple[Section, float]:
    """Seventy per cent of the peak; and its p99, in milliseconds."""
    rate = 0.7 * measured.peak
    outcomes = generator.open(searches(texts), rate, seconds)
    figures = [
        *(Figure(f"p{p}", "ms", [outcomes.milliseconds(p)]) for p in (50, 90)),
        Figure("p99", "ms", [outcomes.milliseconds(99)], "p50 of a lone client", [measured.lone], TAIL),
        Figure("requests that failed", "", [float(_failed(outcomes, 200))], goal=NONE),
    ]
    title = f"70 % of the peak: {rate:.0f} a second for {seconds:g} s, at random moments"
    return Section(title, [*figures, *_slowest(outcomes)]), outcomes.milliseconds(99)


def _slowest(outcomes: Outcomes) -> list[Figure]:
    """Where the slowest hundredth of the answers spent their time, beside all of them."""
    spent = [
        _spent(answer) for answer in sorted(outcomes.taken, key=lambda answer: answer.took) if answer.status == 200
    ]
    slowest = spent[-max(1, len(spent) // 100) :]

    def middle(answers: list[dict[str, float]], stage: str) -> list[float]:
        return [percentile([answer[stage] for answer in answers], 50)]

    return [
        Figure(f"{stage}, slowest 1 %", "ms", middle(slowest, stage), "of all", middle(spent, stage))
        for stage in _STAGES
    ]


def _spent(answer: Taken) -> dict[str, float]:
    """Milliseconds by stage."""
    stages = answer.stages()
    inside = stages.pop("total")
    return stages | {"before": 1e3 * answer.took - inside, "other": inside - sum(stages.values())}


def overload_section(
    generator: LoadGenerator, texts: list[str], measured: Measured, seconds: float, usual: float
) -> Section:
    """Twice the peak, and how soon answers come within the usual milliseconds again."""
    asked, rate = searches(texts), 2 * measured.peak
    over = generator.open(asked, rate, seconds, seed=1)
    after = generator.open(asked, 0.5 * measured.peak, 5.0, seed=2)
    slow = [answer.due for answer in after.taken if answer.status != 200 or 1e3 * answer.took > usual]
    figures = [
        Figure("answered", "queries/s", [over.rate()], "the peak", [measured.peak], THROUGHPUT),
        Figure("refused with 429", "a second", [over.rate(429)]),
        Figure("answered, p50", "ms", [over.milliseconds(50)]),
        Figure("answered, p99", "ms", [over.milliseconds(99)]),
        Figure("refused, p50", "ms", [over.milliseconds(50, 429)]),
        Figure("requests that failed otherwise", "", [float(_failed(over, 200, 429))], goal=NONE),
        Figure("until answers are fast again", "s", [_last_of_a_row(slow)], goal=RECOVERED),
    ]
    notes = [
        "fast again: at half the peak, from the last in a row of answers that were refused, or slower than p99 at 70 %"
    ]
    return Section(f"200 % of the peak: {rate:.0f} a second for {seconds:g} s", figures, notes)


def restart_section(bundle: Path, url: str, home: Path) -> Section:
    """A service that is killed, and started again."""
    with contextlib.suppress(ProcessLookupError), serving(bundle, url, "cpu", 0, home / "killed.log") as server:
        os.kill(server.pid, signal.SIGKILL)
        start = time.perf_counter()
        with serving(bundle, url, "cpu", 0, home / "again.log"):
            seconds = time.perf_counter() - start
    return Section("Killed with all it had, and started again", [Figure("until ready", "s", [seconds], goal=RESTART)])


def _failed(outcomes: Outcomes, *expected: int) -> int:
    statuses = outcomes.statuses()
    return outcomes.lost + sum(count for status, count in statuses.items() if status not in expected)


def _last_of_a_row(moments: Sequence[float]) -> float:
    """The last of the moments that follow each other within a second, from the start."""
    last = 0.0
    for moment in sorted(moments):
        if moment - last > 1.0:
            break
        last = moment
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
            for generator in (together, alone):  # the first queries of a service are not what is asked about
                generator.closed(searches(texts), _CLIENTS, 2.0)
            section, measured = batching_section(together, alone, texts, plan)
            report.sections.append(section)
        section, usual = steady_section(together, texts, measured, plan.steady)
        report.sections.append(section)
        report.sections.append(overload_section(together, texts, measured, plan.overload, usual))
    report.sections.append(lone_section(Bundle.load(bundle), urls[0], texts, plan.rounds))
    report.sections.append(restart_section(bundle, urls[1], home))


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True, help="What `export` wrote.")
@click.option("--index", type=click.Path(path_type=Path, exists=True), required=True, help="A directory to copy.")
@queries_option
@click.option("--rounds", type=int, default=5, show_default=True, help="Of the parts that are measured in turns.")
@click.option("--stretch", type=float, default=5.0, show_default=True, help="Seconds of one such part.")
@click.option("--steady", type=float, default=60.0, show_default=True, help="Seconds at 70 per cent.")
@click.option("--overload", type=float, default=20.0, show_default=True, help="Seconds at 200 per cent.")
def main(
    bundle: Path, index: Path, texts: list[str], rounds: int, stretch: float, steady: float, overload: float
) -> None:
    """Measure a service under load."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="sceneseek-load-") as scratch, others(click.echo):
        fill(report, bundle, index, texts, Plan(rounds, stretch, steady, overload), Path(scratch))
    report.finish()


if __name__ == "__main__":
    main()
