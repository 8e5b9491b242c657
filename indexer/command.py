"""`sceneseek index`: bring an index up to date with a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sceneseek.decode import MAX_PIXELS
from sceneseek.options import bundle_option, device_option, index_option, json_option
from sceneseek.runtime import Device

if TYPE_CHECKING:
    from indexer.receipt import Receipt
    from indexer.transfer import TransferReceipt


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@bundle_option
@index_option
@click.option(
    "--from",
    "source_url",
    metavar="URL",
    help="Move the live images of this index instead, without encoding any again; then without FOLDER.",
)
@click.option("--to", "target_url", metavar="URL", help="With --from: the index that gets them.  [default: --index]")
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
@json_option
def index(
    folder: Path | None,
    bundle: Path,
    index_url: str,
    source_url: str | None,
    target_url: str | None,
    device: Device,
    workers: int,
    batch: int,
    max_pixels: int,
    max_skipped: float,
    as_json: bool,
) -> None:
    """Index the images below FOLDER; a later run encodes only what is new or changed."""
    if source_url is not None and folder is None:
        from indexer.transfer import transfer  # noqa: PLC0415
        from sceneseek.store import open_store  # noqa: PLC0415

        _show(transfer(open_store(source_url), open_store(target_url or index_url)), as_json)
        return
    if source_url is not None or target_url is not None:
        raise click.UsageError("--to goes with --from, and FOLDER with neither: --from moves what is indexed already")
    if folder is None:
        raise click.UsageError("Missing argument 'FOLDER'")
    from indexer.build import BuildOptions, index_folder  # noqa: PLC0415 - so that --help answers at once
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415

    options = BuildOptions(device, workers, batch, max_pixels, max_skipped)
    _show(index_folder(folder, Bundle.load(bundle), open_store(index_url), options), as_json)


def _show(receipt: Receipt | TransferReceipt, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(receipt.to_json(), indent=2, ensure_ascii=False))
        return
    for line in receipt.lines():
        click.echo(line)
