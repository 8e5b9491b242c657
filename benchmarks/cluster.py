"""Indexing on a Ray cluster beside a local run with as many workers, in turns.

    python -m benchmarks.cluster --bundle DIR --images DIR --on ray --workers 2

The cluster must run, with `--workers` free cores; docs/how-to/many-machines.md shows how two nodes are started on one
machine. Each run is a process of its own and fills an empty `file:` index.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.report import Figure, Goal, Report, Section, json_option
from benchmarks.timing import measure, others
from sceneseek.options import bundle_option
from sceneseek_indexer.walk import list_images


def _rate(bundle: Path, images: Path, on: str, workers: int) -> float:
    """Images a second of a run."""
    with tempfile.TemporaryDirectory() as home:
        command = [str(Path(sys.executable).with_name("sceneseek")), "index", str(images), "--index", f"file:{home}"]
        command += ["--bundle", str(bundle), "--on", on, "--workers", str(workers), "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        report = json.loads(done.stdout)
    return float(report["indexed"] / report["seconds"]["total"])


@click.command()
@bundle_option
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--on", default="ray", show_default=True, help="As of `sceneseek index`.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Of both runs.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@json_option
def cluster(bundle: Path, images: Path, on: str, workers: int, rounds: int, json_file: Path | None) -> None:
    """Measure images a second of whole runs, from the connection to the published generation."""
    parts = {name: functools.partial(_rate, bundle, images, name, workers) for name in ("local", on)}
    section = Section(f"indexing {len(list_images(images).files):,} images with {workers} workers")
    with others(section.notes.append):
        rates = measure(parts, rounds, lambda what: click.echo(what, err=True))
    goal = Goal("ratio", 0.9, "least")
    section.figures.append(Figure(f"on {on}", "images/s", rates[on], "local", rates["local"], goal))
    Report(sections=[section]).finish(json_file)


if __name__ == "__main__":
    cluster()
