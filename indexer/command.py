"""`sceneseek index`: bring an index up to date with a folder."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sceneseek.decode import MAX_PIXELS
from sceneseek.options import bundle_option, device_option, index_option, json_option
from sceneseek.runtime import Device


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@bundle_option
@index_option
@device_option
@click.option("--workers", type=click.IntRange(0, 256), default=0, help="Threads that load and encode; 0: a core each.")
@click.option("--batch", type=click.IntRange(1, 1024), default=16, show_default=True, help="Images a run of the graph.")
@click.option(
    "--max-pixels",
    type=click.IntRange(1, 2_000_000_000),
    default=MAX_PIXELS,
    show_default=True,
    help="Skip pictures of more pixels; decoding takes about 8 bytes a pixel.",
)
@click.option(
    "--max-skipped",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Fail if more than 100 images, and a larger share of them, cannot be used.",
)
@click.option(
    "--metadata",
    metavar="FILE",
    help="CSV, TSV or JSON lines with a column `path`; or `sidecars`: NAME.json beside each image.",
)
@json_option
def index(
    folder: Path,
    bundle: Path,
    index_url: str,
    device: Device,
    workers: int,
    batch: int,
    max_pixels: int,
    max_skipped: float,
    metadata: str | None,
    as_json: bool,
) -> None:
    """Index the images below FOLDER; a later run encodes only what is new or changed."""
    from indexer.build import BuildOptions, index_listing  # noqa: PLC0415 - so that --help answers at once
    from indexer.sidecar import read_metadata  # noqa: PLC0415
    from indexer.walk import list_images  # noqa: PLC0415
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415

    listing = list_images(folder)
    known = read_metadata(metadata, folder, [file.relative for file in listing.files]) if metadata else None
    options = BuildOptions(device, workers, batch, max_pixels, max_skipped, known)
    receipt = index_listing(folder, listing, Bundle.load(bundle), open_store(index_url), options)
    if as_json:
        click.echo(json.dumps(receipt.to_json(), indent=2, ensure_ascii=False))
        return
    for line in receipt.lines():
        click.echo(line)
