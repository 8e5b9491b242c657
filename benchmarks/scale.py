"""How far the embedded engine carries: many vectors beside few, each in an index of its own.

    python -m benchmarks.scale

Clustered vectors of the width of `compact`'s, searched as a query is: the nearest hundred with the vectors that the
head reads. Asked are recall of the graph against exact search, and how much slower the tail is than with few. A
million vectors of 386 numbers need some 5 GB of disk and 4 GB of memory while the graph is built.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path

import click

from benchmarks import engine
from benchmarks.machine import describe, others
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.timing import percentile
from sceneseek.files import write_atomic

RECALL, SLOWER = 0.98, 5.0


@click.command()
@click.option("--many", type=click.IntRange(1), default=1_000_000, show_default=True, help="Vectors of the large one.")
@click.option("--few", type=click.IntRange(1), default=10_000, show_default=True, help="Vectors of the small one.")
@click.option("--width", type=click.IntRange(1), default=386, show_default=True, help="Numbers of a vector.")
@click.option("--queries", type=click.IntRange(1), default=200, show_default=True, help="Queries a round.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every round's figures there too.")
def main(many: int, few: int, width: int, queries: int, rounds: int, json_file: Path | None) -> None:
    """Measure the embedded engine with many vectors beside few."""
    report, outcomes = Report(describe()), []
    with tempfile.TemporaryDirectory(prefix="sceneseek-scale-") as home:
        for count in (few, many):
            print(f"{count:,} vectors", file=sys.stderr)
            trial = engine.Trial(count, width, queries, rounds, 0, Path(home) / str(count))
            notes: list[str] = []
            with others(notes.append):
                outcomes.append(engine.run(trial))
            section = engine.section(trial, outcomes[-1])
            section.notes += notes
            report.sections.append(section)
            shutil.rmtree(trial.home)
    report.sections.append(_beside(*outcomes))
    for line in report.lines():
        click.echo(line)
    if json_file is not None:
        document = report.to_json() | {"outcomes": [dataclasses.asdict(outcome) for outcome in outcomes]}
        write_atomic(json_file, json.dumps(document).encode("utf-8"))
    sys.exit(int(any(figure.met() is False for section in report.sections for figure in section.figures)))


def _beside(few: engine.Outcome, many: engine.Outcome) -> Section:
    tails = [[percentile(ms, 99) for ms in outcome.with_vectors] for outcome in (few, many)]
    return Section(
        "Many beside few",
        [
            Figure("recall of many", "", many.recall, goal=Goal("value", RECALL, "least")),
            Figure("p99 of many, with vectors", "ms", tails[1], "of few", tails[0], Goal("ratio", SLOWER)),
        ],
        ["the indexes are measured one after the other, so the ratio is not of the same moments"],
    )


if __name__ == "__main__":
    main()
