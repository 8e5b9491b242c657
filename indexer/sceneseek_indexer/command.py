"""`sceneseek index`: bring an index up to date with folders."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sceneseek.next_step import missing_index_hint
from sceneseek.options import bundle_option, device_option, index_option, json_option
from sceneseek.picture import MAX_PIXELS
from sceneseek.runtime import Device

if TYPE_CHECKING:
    from sceneseek_indexer.receipt import Receipt
    from sceneseek_indexer.transfer import TransferReceipt


class _Stopped(BaseException):
    """INT or TERM came; whatever is under way releases what it holds."""


@click.command()
@click.argument("folders", metavar="FOLDER...", nargs=-1)
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
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Only files that match, as in a .gitignore; may be repeated."
)
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="No files and folders that match; `!PATTERN` excepts some."
)
@click.option("--prune", is_flag=True, help="Remove images whose files are gone or excluded; else they are kept.")
@click.option(
    "--forget",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Remove the images of a folder that the index knows; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and write nothing.")
@click.option(
    "--watch",
    type=click.FloatRange(0.1, 86_400),
    is_flag=False,
    flag_value=5.0,
    metavar="SECONDS",
    help="Go on: look every so many seconds (5) and index what has changed and come to rest.",
)
@click.option(
    "--receipt",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Append the fate of every file to FILE, as JSON lines.  [default: DIR/receipts/GENERATION.jsonl of file:DIR]",
)
@click.option(
    "--rebuild",
    is_flag=True,
    help="Encode everything anew beside the live generation, check it, and let it answer; without FOLDER, all folders "
    "that the index knows.",
)
@click.option(
    "--captions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Captions of the images (a TSV of image and caption): refuse a generation that finds them worse.",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 100),
    default=2.0,
    show_default=True,
    help="With --captions: how many points of recall@5 may be lost.",
)
@click.option("--status", is_flag=True, help="List the generations instead, and which one answers.")
@click.option(
    "--rollback",
    is_flag=False,
    flag_value="",
    metavar="[GENERATION]",
    help="Let the generation before answer again instead, or the one that is named.",
)
@click.option(
    "--no-wait",
    is_flag=True,
    help="Fail at once if another run writes the same index, instead of waiting until it has ended.",
)
@click.option("--workers", type=click.IntRange(0, 256), default=0, help="Threads that load and encode; 0: a core each.")
@click.option(
    "--nice",
    type=click.IntRange(0, 19),
    default=10,
    show_default=True,
    help="How far to stand back behind other processes, so that a service beside keeps answering; 0: not at all.",
)
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
    folders: tuple[str, ...],
    bundle: Path,
    index_url: str,
    source_url: str | None,
    target_url: str | None,
    device: Device,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    prune: bool,
    forget: tuple[Path, ...],
    dry_run: bool,
    watch: float | None,
    receipt: Path | None,
    rebuild: bool,
    captions: Path | None,
    max_loss: float,
    status: bool,
    rollback: str | None,
    no_wait: bool,
    workers: int,
    nice: int,
    batch: int,
    max_pixels: int,
    max_skipped: float,
    metadata: str | None,
    as_json: bool,
) -> None:
    """Index the images below each FOLDER; a later run encodes only what is new or changed.

    Folders that the index knows and that are not named stay as they are. LABEL=DIR gives a new folder a label of
    your choice. An interrupted run is gone on with by the next.
    """
    instead = {"--from": source_url is not None, "--status": status, "--rollback": rollback is not None}
    if asked := [option for option, given in instead.items() if given]:
        if len(asked) > 1 or folders:
            raise click.UsageError(
                f"{asked[0]} goes with neither FOLDER nor {', '.join(o for o in instead if o != asked[0])}"
            )
        _instead(index_url, source_url, target_url, rollback, not no_wait, as_json)
        return
    if target_url is not None:
        raise click.UsageError("--to goes with --from")
    if not folders and not rebuild:
        raise click.UsageError("Missing argument 'FOLDER...'")
    if dry_run and (watch is not None or receipt is not None or rebuild):
        raise click.UsageError(
            "--dry-run writes nothing and ends: it goes with none of --watch, --receipt and --rebuild"
        )
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415
    from sceneseek_indexer.build import BuildOptions, index_folders  # noqa: PLC0415 - these so that --help answers at once
    from sceneseek_indexer.dry_run import foresee  # noqa: PLC0415
    from sceneseek_indexer.patterns import Patterns  # noqa: PLC0415
    from sceneseek_indexer.sources import Folder, every_folder  # noqa: PLC0415

    options = BuildOptions(
        device, workers, batch, max_pixels, max_skipped, Patterns(include, exclude), prune, forget, receipt,
        metadata, rebuild, captions, max_loss, not no_wait,
    )  # fmt: skip
    os.nice(nice)
    graphs, store = Bundle.load(bundle), open_store(index_url)
    named = [Folder.parse(folder) for folder in folders] or every_folder(store)
    if watch is None:
        _show((foresee if dry_run else index_folders)(named, graphs, store, options), as_json)
        return
    from sceneseek_indexer.watch import Watch  # noqa: PLC0415

    watcher = Watch(
        named,
        graphs,
        store,
        options,
        tell=lambda what: click.echo(f"error: {what}", err=True),
        done=lambda receipt: _show(receipt, as_json, indent=None),  # one line a run
    )
    click.echo(
        f"watching {', '.join(str(folder.path) for folder in named)} every {watch:g} s; stop with Ctrl-C", err=True
    )
    _until_stopped(lambda: watcher.run(lambda: time.sleep(watch)))


def _instead(
    index_url: str, source_url: str | None, target_url: str | None, rollback: str | None, wait: bool, as_json: bool
) -> None:
    """Do what needs no folder: move an index, go back to a generation, or list them."""
    from sceneseek.store import open_store  # noqa: PLC0415 - as above

    if source_url is not None:
        from sceneseek_indexer.transfer import transfer  # noqa: PLC0415

        _show(transfer(open_store(source_url), open_store(target_url or index_url), wait), as_json)
        return
    from sceneseek_indexer.generations import generations, roll_back  # noqa: PLC0415

    store = open_store(index_url)
    if rollback is not None:
        roll_back(store, rollback or None, wait)
    found = generations(store)
    if as_json:
        click.echo(json.dumps([generation.to_json() for generation in found], indent=2, ensure_ascii=False))
        return
    for generation in found:
        click.echo(generation.line())
    if not found:
        click.echo(f"nothing is indexed in {store.url}: {missing_index_hint(store.url)}")


def _show(receipt: Receipt | TransferReceipt, as_json: bool, indent: int | None = 2) -> None:
    if as_json:
        click.echo(json.dumps(receipt.to_json(), indent=indent, ensure_ascii=False))
        return
    for line in receipt.lines():
        click.echo(line)


def _until_stopped(work: Callable[[], None]) -> None:
    """Run until INT or TERM, which here are the way to end and no failure."""

    def stop(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # an impatient second one must not cut the tidying short
        raise _Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        work()
    except _Stopped:
        click.echo("stopped", err=True)
