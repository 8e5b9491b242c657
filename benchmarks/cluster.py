"""Indexing on a Ray cluster, compared with a local run with as many workers, interleaved.

    python -m benchmarks.cluster --bundle DIR --images DIR --on ray --workers 2

The cluster must be running, with `--workers` free cores; docs/how-to/many-machines.md shows how to start two nodes on
one machine. Each run is a separate process and fills an empty `file:` index.
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
from benchmarks.timing import measure, other_load
from sceneseek.options import bundle_option
from sceneseek_indexer.walk import list_images


def _rate(bundle: Path, images: Path, on: str, workers: int) -> float:
    """Images per second of a run."""
    with tempfile.TemporaryDirectory() as home:
        command = [str(Path(sys.executable).with_name("sceneseek")), "index", str(images), "--index", f"file:{home}"]
        command += ["--bundle", str(bundle), "--on", on, "--workers", str(workers), "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        report = json.loads(done.stdout)
    return float(report["indexed"] / report["seconds"]["total"])


@click.command()
@bundle_option
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--on", default="ray", show_default=True, help="As for `sceneseek index`.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Workers of both runs.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@json_option
def cluster(bundle: Path, images: Path, on: str, workers: int, rounds: int, json_file: Path | None) -> None:
    """Measure images per second of whole runs, from the connection to the published generation."""
    parts = {name: functools.partial(_rate, bundle, images, name, workers) for name in ("local", on)}
    section = Section(f"indexing {len(list_images(images).files):,} images with {workers} workers")
    with other_load(section.notes.append):
        rates = measure(parts, rounds, lambda line: click.echo(line, err=True))
    goal = Goal("ratio", 0.9, "least")
    section.figures.append(Figure(f"on {on}", "images/s", rates[on], "local", rates["local"], goal))
    Report(sections=[section]).finish(json_file)


if __name__ == "__main__":
    cluster()
