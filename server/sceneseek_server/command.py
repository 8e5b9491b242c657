"""`sceneseek serve`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sceneseek.logs import in_json
from sceneseek.options import bundle_option, device_option, index_option, threads_option
from sceneseek_server.guard.options import guard_options

if TYPE_CHECKING:
    from sceneseek.runtime import Device
    from sceneseek_server.guard.settings import Guard

log = logging.getLogger(__name__)


@click.command()
@bundle_option
@index_option
@device_option
@threads_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="SCENESEEK_HOST",
    show_envvar=True,
    help="The address to answer at; 0.0.0.0 is every one of this machine.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    envvar="SCENESEEK_PORT",
    show_envvar=True,
    help="0 takes any free one.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65_535),
    envvar="SCENESEEK_METRICS_PORT",
    show_envvar=True,
    help="Serve /metrics, /healthz and /readyz at this port too, to whoever reaches it, asked by any name and without "
    "a key: for a scraper in a private network. Off unless given.",
)
@click.option(
    "--http-threads",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    envvar="SCENESEEK_HTTP_THREADS",
    show_envvar=True,
    help="How many requests are answered at a time.",
)
@click.option(
    "--queue",
    type=click.IntRange(0, 10_000),
    default=128,
    show_default=True,
    envvar="SCENESEEK_QUEUE",
    show_envvar=True,
    help="How many more may wait; the next are refused with 429.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    envvar="SCENESEEK_DEADLINE",
    show_envvar=True,
    help="Seconds from a whole request to its answer, waiting included; then it is given up with 503.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    envvar="SCENESEEK_MAX_BATCH",
    show_envvar=True,
    help="The most queries that share one run of the text graph; 1 runs each alone.",
)
@click.option(
    "--query-cache",
    type=click.IntRange(0, 10_000_000),
    default=4096,
    show_default=True,
    envvar="SCENESEEK_QUERY_CACHE",
    show_envvar=True,
    help="How many texts' vectors are kept, some 3 KB each; 0 keeps none.",
)
@click.option(
    "--feedback",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SCENESEEK_FEEDBACK",
    show_envvar=True,
    metavar="FILE",
    help="Where ratings are kept. Unless given, in the directory of a file: index; with a Qdrant server, nowhere.",
)
@guard_options
def serve(
    bundle: Path,
    index_url: str,
    device: Device,
    threads: int,
    host: str,
    port: int,
    metrics_port: int | None,
    http_threads: int,
    queue: int,
    deadline: float,
    max_batch: int,
    query_cache: int,
    feedback: Path | None,
    guard: Guard,
) -> None:
    """Answer searches over HTTP, with a page for people at /."""
    # Imported here so that `sceneseek --help` answers at once.
    from sceneseek_server.process import run  # noqa: PLC0415
    from sceneseek_server.service import Service  # noqa: PLC0415

    service = Service(
        bundle=bundle,
        index_url=index_url,
        device=device,
        threads=threads,
        host=host,
        port=port,
        metrics_port=metrics_port,
        http_threads=http_threads,
        queue=queue,
        deadline=deadline,
        max_batch=max_batch,
        query_cache=query_cache,
        feedback=feedback,
        guard=guard,
    )
    # Where programs read what is written, they read of this too.
    run(service, announce=log.info if in_json() else click.echo)
