"""`python -m benchmarks`: speed and size, each figure beside its floor."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sceneseek.options import bundle_option, device_option, threads_option
from sceneseek.runtime import Device


def _sizes(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """Numbers separated by commas; ``all`` becomes 0."""
    if text is None:
        return None
    try:
        sizes = tuple(0 if word.strip() == "all" else int(word) for word in text.split(","))
    except ValueError:
        raise click.BadParameter("write numbers or `all`, such as 1000,all", context, parameter) from None
    if any(size < 0 for size in sizes):
        raise click.BadParameter("no number of images is negative", context, parameter)
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
@click.option(
    "--queries",
    type=click.Path(path_type=Path),
    help="Queries to ask: one a line, or a TSV with a column `caption`. Without it, sentences of our own.",
)
@click.option("--sizes", callback=_sizes, metavar="N,...", help="Images to index.  [default: 1000,all]")
@click.option("--rounds", type=click.IntRange(1, 100), help="Rounds of each measurement.  [default: 3]")
@click.option("--requests", type=click.IntRange(1, 100_000), help="Queries a round.  [default: 200]")
@click.option("--clients", type=click.IntRange(1, 256), help="Clients at once, beside one.  [default: 8]")
@click.option(
    "--vectors", type=click.IntRange(0), help="Vectors in the engine alone; 0 leaves it out.  [default: 100000]"
)
@click.option("--workers", type=click.IntRange(0, 256), default=0, help="Threads that load and encode; 0: a core each.")
@click.option("--quick", is_flag=True, help="Less of everything, in under a minute: does it work, not how fast.")
@device_option
@threads_option
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every round's figures there too.")
def bench(  # noqa: PLR0913, PLR0917 - as many as there are options
    bundle: Path,
    images: Path,
    queries: Path | None,
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
    """Measure indexing, querying, memory and the engine, each beside its floor, in turns.

    Temporary files (an index and a copy of it) go where TMPDIR says.
    """
    import dataclasses  # noqa: PLC0415 - these and the next so that --help answers at once
    import tempfile  # noqa: PLC0415

    from benchmarks.machine import describe  # noqa: PLC0415
    from benchmarks.plan import QUICK, Bench, Plan, Subject  # noqa: PLC0415
    from benchmarks.report import Report  # noqa: PLC0415
    from benchmarks.texts import own_queries, read_queries  # noqa: PLC0415
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.files import write_atomic  # noqa: PLC0415

    asked = {"sizes": sizes, "rounds": rounds, "requests": requests, "clients": clients, "vectors": vectors}
    chosen = {name: value for name, value in asked.items() if value is not None}
    plan = dataclasses.replace(QUICK if quick else Plan(), **chosen)  # type: ignore[arg-type]  # checked by click
    texts = read_queries(queries) if queries else own_queries()
    subject = Subject(Bundle.load(bundle), images, texts, device, workers, threads)
    report = Report(describe())
    with tempfile.TemporaryDirectory(prefix="sceneseek-bench-") as home:
        Bench(plan, subject, Path(home), lambda what: click.echo(f"bench: {what}", err=True)).fill(report)
    for line in report.lines():
        click.echo(line)
    if json_file is not None:
        write_atomic(json_file, json.dumps(report.to_json(), indent=2).encode("utf-8"))


if __name__ == "__main__":
    bench(prog_name="python -m benchmarks")
