"""`python -m benchmarks`: speed and size, compared with their floors."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import click

from benchmarks.end_to_end import QUICK, EndToEnd, Plan, Subject
from benchmarks.inputs import queries_option
from benchmarks.report import Report, json_option
from sceneseek.bundle import Bundle
from sceneseek.options import bundle_option, device_option, threads_option
from sceneseek.runtime import Device


def _sizes(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """Parse numbers separated by commas; ``all`` becomes 0."""
    if text is None:
        return None
    try:
        sizes = tuple(0 if word.strip() == "all" else int(word) for word in text.split(","))
    except ValueError:
        raise click.BadParameter("write numbers or `all`, such as 1000,all", context, parameter) from None
    if any(size < 0 for size in sizes):
        raise click.BadParameter("a number of images cannot be negative", context, parameter)
    return sizes


@click.command()
@bundle_option
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    required=True,
    envvar="SCENESEEK_BENCH_IMAGES",
    show_envvar=True,
    help="A folder of photographs.",
)
@queries_option
@click.option("--sizes", callback=_sizes, metavar="N,...", help="Images to index.  [default: 1000,all]")
@click.option("--rounds", type=click.IntRange(1, 100), help="Rounds of each measurement.  [default: 3]")
@click.option("--requests", type=click.IntRange(1, 100_000), help="Queries per round.  [default: 200]")
@click.option("--clients", type=click.IntRange(1, 256), help="Concurrent clients, besides a single one.  [default: 8]")
@click.option(
    "--vectors", type=click.IntRange(0), help="Vectors in the engine benchmark; 0 skips it.  [default: 100000]"
)
@click.option("--workers", type=click.IntRange(0, 256), default=0, help="Loader and encoder threads; 0: one per core.")
@click.option("--quick", is_flag=True, help="A smoke test in under a minute, not a measurement.")
@device_option
@threads_option
@json_option
def bench(  # noqa: PLR0913, PLR0917 - as many as there are options
    bundle: Path,
    images: Path,
    texts: list[str],
    sizes: tuple[int, ...] | None,
    rounds: int | None,
    requests: int | None,
    clients: int | None,
    vectors: int | None,
    workers: int,
    quick: bool,
    device: Device,
    threads: int,
    json_file: Path | None,
) -> None:
    """Measure indexing, querying, memory and the engine, compared with their floors.

    Temporary files (an index and a copy of it) are written below TMPDIR.
    """
    options = {"sizes": sizes, "rounds": rounds, "requests": requests, "clients": clients, "vectors": vectors}
    overrides = {name: value for name, value in options.items() if value is not None}
    plan = dataclasses.replace(QUICK if quick else Plan(), **overrides)  # type: ignore[arg-type]  # checked by click
    subject = Subject(Bundle.load(bundle), images, texts, device, workers, threads)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="sceneseek-bench-") as home:
        EndToEnd(plan, subject, Path(home), lambda line: click.echo(f"bench: {line}", err=True)).fill(report)
    report.write(json_file)


if __name__ == "__main__":
    bench(prog_name="python -m benchmarks")
