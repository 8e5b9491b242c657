"""Indexing the same small pictures from a folder and from a bucket on moto's server, interleaved.

    python -m benchmarks.sources --bundle bundles/compact --count 5000

The server is written in Python and runs on the same machine, so its rate of bare requests is measured as well. A second
run over the unchanged bucket shows the cost of listing it.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from PIL import Image

from benchmarks.report import Figure, Goal, Report, Section, json_option
from benchmarks.timing import measure, other_load
from sceneseek.bundle import Bundle
from sceneseek.options import bundle_option
from sceneseek.sources import Root, open_file, parse_root
from sceneseek.store import open_store
from sceneseek_indexer.build import BuildOptions, index_folder
from sceneseek_indexer.walk import list_images

_BUCKET = "benchmark"
_THREADS = 16
_START_TIMEOUT = 60.0
_GOAL = Goal("ratio", 0.8, "least")


@click.command()
@bundle_option
@click.option("--count", type=click.IntRange(100), default=5_000, show_default=True, help="Number of pictures.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Runs per source.")
@json_option
def sources(bundle: Path, count: int, rounds: int, json_file: Path | None) -> None:
    """Measure indexing from a bucket, compared with the same run over a folder."""
    graphs = Bundle.load(bundle)
    with tempfile.TemporaryDirectory() as home, _server():
        folder, bucket = Path(home) / "pictures", parse_root(f"s3://{_BUCKET}")
        _draw(folder, count)
        _upload(folder)
        runs = {"folder": partial(_run, folder, graphs), "bucket": partial(_run, bucket, graphs)}
        with other_load(lambda line: click.echo(line, err=True)):
            seconds = measure(runs, rounds, lambda line: click.echo(line, err=True))
        bare = _bare(bucket)
    folders, buckets = seconds["folder"], seconds["bucket"]
    rates = [[count / run.seconds for run in runs] for runs in (buckets, folders)]
    cpu = [[1_000 * run.cpu / count for run in runs] for runs in (buckets, folders)]
    reruns = [[run.rerun for run in runs] for runs in (buckets, folders)]
    figures = [
        Figure("indexed from the bucket", "images/s", rates[0], "the folder", rates[1], _GOAL),
        Figure("CPU time of the indexer", "ms/image", cpu[0], "the folder", cpu[1]),
        Figure("unchanged bucket", "s", reruns[0], "the folder", reruns[1]),
        Figure(f"bare requests, {_THREADS} threads", "objects/s", [bare]),
    ]
    Report(sections=[Section(f"{count:,} pictures of 256 x 192 pixels", figures)]).write(json_file)


def _draw(folder: Path, count: int) -> None:
    """Draw pictures like photographs: smooth noise, some 10 KB as JPEG, all different."""
    folder.mkdir()
    random = np.random.default_rng(7)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        out = io.BytesIO()
        coarse.resize((256, 192), Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        place = folder / f"{number % 20:02d}"
        place.mkdir(exist_ok=True)
        (place / f"{number:05d}.jpg").write_bytes(out.getvalue())


class _Run(NamedTuple):
    """Seconds of a run into an empty index, its CPU seconds over all threads, and seconds of a rerun."""

    seconds: float
    cpu: float
    rerun: float


def _run(root: Root, bundle: Bundle) -> _Run:
    with tempfile.TemporaryDirectory() as home:
        marks = [(time.perf_counter(), time.process_time())]
        for _ in range(2):
            index_folder(root, bundle, open_store(f"file:{home}"), BuildOptions("cpu"))
            marks.append((time.perf_counter(), time.process_time()))
    (start, cpu_start), (end, cpu_end), (last, _) = marks
    return _Run(end - start, cpu_end - cpu_start, last - end)


def _bare(bucket: Root) -> float:
    """Objects read per second, without decoding."""
    files = list_images(bucket).files[:2_000]

    def read(relative: str) -> int:
        with open_file(bucket, relative).content as content:
            return len(content.read())

    with ThreadPoolExecutor(_THREADS) as pool:
        start = time.perf_counter()
        list(pool.map(read, (file.relative for file in files)))
        return len(files) / (time.perf_counter() - start)


@contextmanager
def _server() -> Iterator[None]:
    """Run moto's server, with its settings in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    os.environ.update(settings)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + _START_TIMEOUT
            while not _listens(port):
                if time.monotonic() >= end:
                    raise click.ClickException("the server of the bucket did not start; is moto installed?")
                time.sleep(0.1)
            yield
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _upload(folder: Path) -> None:
    import boto3  # type: ignore[import-untyped] # noqa: PLC0415 - comes with moto

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    client.create_bucket(Bucket=_BUCKET)
    for file in folder.rglob("*.jpg"):
        client.put_object(Bucket=_BUCKET, Key=file.relative_to(folder).as_posix(), Body=file.read_bytes())


if __name__ == "__main__":
    sources()
