"""`sceneseek index`: update an index from folders, and manage its generations."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sceneseek.next_step import missing_index_hint
from sceneseek.options import bundle_option, device_option, index_option, json_option, max_pixels_option
from sceneseek.sources import parse_root
from sceneseek_indexer.patterns import Patterns

if TYPE_CHECKING:
    from sceneseek_indexer.move import MoveReport
    from sceneseek_indexer.options import BuildOptions
    from sceneseek_indexer.report import IndexReport

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class _IndexGroup(click.Group):
    """`index FOLDER...` and its subcommands: the first argument is a subcommand if it is the name of one."""

    allow_interspersed_args = True  # options may follow a FOLDER

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        command = self.commands.get(args[0]) if args else None
        if command is not None:
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def _parse_on(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value in {"local", "ray"} or value.startswith("ray://"):
        return value
    raise click.BadParameter(f"{value!r} is not one of local, ray and ray://HOST:PORT")


no_wait_option = click.option(
    "--no-wait", is_flag=True, help="Fail at once if another run writes the same index, instead of waiting for it."
)
_BUILD_OPTIONS = [
    bundle_option,
    index_option,
    device_option,
    click.option(
        "--include",
        multiple=True,
        metavar="PATTERN",
        help="Index only files that match, as in a .gitignore; may be repeated.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Skip files and folders that match; `!PATTERN` makes an exception; may be repeated.",
    ),
    click.option(
        "--no-default-excludes",
        is_flag=True,
        help="Also index folders with the usual names of thumbnails, deleted files and snapshots, and folders with a "
        "`.nomedia`.",
    ),
    click.option("--prune", is_flag=True, help="Remove images whose files are deleted or excluded."),
    click.option(
        "--yes",
        "remove_any",
        is_flag=True,
        help="Do not limit how many images --prune removes, even from folders that are empty or not mounted, or how "
        "many lose their metadata by --metadata.",
    ),
    click.option(
        "--forget",
        multiple=True,
        type=parse_root,
        metavar="DIR",
        help="Remove the images of a folder from the index; may be repeated.",
    ),
    click.option(
        "--report",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Append the outcome of each file to FILE, as JSON lines.  [default: reports/GENERATION.jsonl in file:DIR]",
    ),
    click.option(
        "--captions",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Captions of the images (a TSV of image and caption): refuse a new generation that loses more recall@5 "
        "than --max-loss.",
    ),
    click.option(
        "--max-loss",
        type=click.FloatRange(0, 100),
        default=2.0,
        show_default=True,
        help="With --captions: the largest accepted loss of recall@5, in points.",
    ),
    no_wait_option,
    click.option(
        "--on",
        default="local",
        show_default=True,
        metavar="local|ray|ray://HOST:PORT",
        callback=_parse_on,
        help="Where to load and encode: on this machine, on the Ray cluster that it is a node of, or on a cluster by "
        "its client port (the extra `ray`).",
    ),
    click.option(
        "--workers",
        type=click.IntRange(0, 4096),
        default=0,
        help="Threads that load and encode; with --on ray, processes. 0: one per core, on a cluster with GPUs one per "
        "GPU.",
    ),
    click.option(
        "--nice",
        type=click.IntRange(0, 19),
        default=10,
        show_default=True,
        help="Niceness of the process, so that a service on the same machine stays responsive; 0: unchanged.",
    ),
    click.option(
        "--batch",
        type=click.IntRange(0, 1024),
        default=0,
        help="Images per run of the graph; 0: 4 on a CPU, 16 on a GPU.",
    ),
    max_pixels_option,
    click.option(
        "--max-skipped",
        type=click.FloatRange(0, 1),
        default=0.5,
        show_default=True,
        help="Fail if more than 100 images and more than this share of all images cannot be used.",
    ),
    click.option(
        "--metadata",
        metavar="FILE",
        help="CSV, TSV or JSON lines with a column `path`; or `sidecars`: NAME.json beside each image.",
    ),
    click.option(
        "--exif",
        type=click.Choice(["all", "no-location", "none"]),
        default="all",
        show_default=True,
        help="What to read from the pictures' EXIF blocks into the metadata: taken, camera and location.",
    ),
    click.option(
        "--ocr/--no-ocr",
        default=None,
        help="Read the text in pictures, so that searches find it (the extra `ocr`).  [default: as the index has it]",
    ),
    click.option(
        "--ocr-model",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        envvar="SCENESEEK_OCR_MODEL",
        show_envvar=True,
        metavar="FILE",
        help="A recognition model for another script, in RapidOCR's format, instead of the package's own.",
    ),
    click.option(
        "--max-removed",
        type=click.FloatRange(0, 1),
        default=0.25,
        show_default=True,
        help="Fail if --prune would remove more than 20 images and more than this share of a folder, or if --metadata "
        "would remove the metadata of more than two images and more than this share of those that have any.",
    ),
    json_option,
]


def _build_options(function: _Function) -> _Function:
    """Add the options that `index` and `index watch` have in common."""
    for option in reversed(_BUILD_OPTIONS):
        function = option(function)
    return function


@click.group(cls=_IndexGroup, invoke_without_command=True, no_args_is_help=False, subcommand_metavar="| COMMAND ...")
@click.argument("folders", metavar="FOLDER...", nargs=-1)
@_build_options
@click.option("--dry-run", is_flag=True, help="Show what would happen, and write nothing.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Encode all images again into a new generation, check it, and make it live; without FOLDER, those of all "
    "folders of the index.",
)
def index(
    folders: tuple[str, ...],
    bundle: Path,
    index_url: str,
    nice: int,
    dry_run: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Index the images in each FOLDER; a later run encodes only new and changed images.

    FOLDER is a directory, or s3://BUCKET/PREFIX in an object store. Other folders of the index stay as they are.
    LABEL=DIR gives a new folder a label of your choice. A run resumes an interrupted one.
    """
    if not folders and not choices["rebuild"]:
        raise click.UsageError("Missing argument 'FOLDER...'")
    if misplaced := [folder for folder in folders if folder in index.commands]:
        name = misplaced[0]
        raise click.UsageError(f"write {name} right after `sceneseek index`, or ./{name} for a folder of that name")
    if dry_run and (choices["report"] is not None or choices["rebuild"]):
        raise click.UsageError("--dry-run writes nothing: it cannot be combined with --report or --rebuild")
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415 - imported late to keep --help fast
    from sceneseek_indexer.build import dry_run_folders, index_folders  # noqa: PLC0415
    from sceneseek_indexer.source_scan import Folder, every_folder  # noqa: PLC0415

    options = _options(**choices)
    os.nice(nice)
    graphs, store = Bundle.load(bundle), open_store(index_url)
    named = [Folder.parse(folder) for folder in folders] or every_folder(store)
    if dry_run:
        _show(dry_run_folders(named, graphs, store, options), as_json)
        return
    stop = _StopSignals()
    _show(index_folders(named, graphs, store, options, before_publishing=stop.hold), as_json)


@index.command()
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True)
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 86_400),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between checks for changes.",
)
@_build_options
def watch(
    folders: tuple[str, ...],
    interval: float,
    bundle: Path,
    index_url: str,
    nice: int,
    as_json: bool,
    **choices: Any,
) -> None:
    """Index each FOLDER, then check for changes and index them until Ctrl-C.

    A file is indexed once its size and times are the same in two checks; an upload of `sceneseek serve --uploads` is
    indexed at once.
    """
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415 - as above
    from sceneseek_indexer.source_scan import Folder  # noqa: PLC0415
    from sceneseek_indexer.watch import Watch  # noqa: PLC0415

    options = _options(rebuild=False, **choices)
    os.nice(nice)
    named = [Folder.parse(folder) for folder in folders]
    stop = _StopSignals()
    watcher = Watch(
        named,
        Bundle.load(bundle),
        open_store(index_url),
        options,
        on_error=lambda what: click.echo(f"error: {what}", err=True),
        on_report=lambda report: _show(report, as_json, indent=None),  # one line per run
        before_publishing=stop.hold,
    )
    places = ", ".join(str(folder.path) for folder in named)
    click.echo(f"watching {places} every {interval:g} s; stop with Ctrl-C", err=True)
    try:
        while True:
            watcher.check()
            stop.release()
            watcher.wait(interval, stop.release)
    except KeyboardInterrupt:  # the normal end
        click.echo("stopped", err=True)


@index.command()
@index_option
@json_option
def status(index_url: str, as_json: bool) -> None:
    """List the generations, and which one is live."""
    _list_generations(index_url, as_json)


@index.command()
@click.argument("generation", required=False)
@index_option
@no_wait_option
@json_option
def rollback(generation: str | None, index_url: str, no_wait: bool, as_json: bool) -> None:
    """Make GENERATION live again; by default the newest generation that is not live."""
    from sceneseek.store import open_store  # noqa: PLC0415 - as above
    from sceneseek_indexer.generations import roll_back  # noqa: PLC0415

    roll_back(open_store(index_url), generation, not no_wait)
    _list_generations(index_url, as_json)


@index.command()
@click.argument("generation", required=False)
@index_option
def verify(generation: str | None, index_url: str) -> None:
    """Verify the files of GENERATION, or of all generations, against their checksums."""
    from sceneseek.store import open_store  # noqa: PLC0415 - as above
    from sceneseek_indexer.generations import verify  # noqa: PLC0415

    for name in verify(open_store(index_url), generation):
        click.echo(f"{name} is intact")


@index.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@no_wait_option
@json_option
def move(source: str, target: str, no_wait: bool, as_json: bool) -> None:
    """Copy the live generation of the index FROM to the index TO, without encoding again.

    Both are URLs in the form of --index. The index FROM is unchanged.
    """
    from sceneseek.store import open_store  # noqa: PLC0415 - as above
    from sceneseek_indexer.move import move  # noqa: PLC0415

    _show(move(open_store(source), open_store(target), not no_wait), as_json)


def _options(
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    no_default_excludes: bool,
    no_wait: bool,
    exif: str,
    **choices: Any,
) -> BuildOptions:
    from sceneseek_indexer.options import BuildOptions  # noqa: PLC0415 - as above
    from sceneseek_indexer.photo_facts import FIELDS  # noqa: PLC0415 - as above

    read = frozenset() if exif == "none" else frozenset(FIELDS) - ({"location"} if exif == "no-location" else set())
    patterns = Patterns(include, exclude, not no_default_excludes)
    return BuildOptions(patterns=patterns, wait=not no_wait, exif=read, **choices)


def _list_generations(index_url: str, as_json: bool) -> None:
    from sceneseek.store import open_store  # noqa: PLC0415 - as above
    from sceneseek_indexer.generations import generations  # noqa: PLC0415

    store = open_store(index_url)
    found = generations(store)
    if as_json:
        click.echo(json.dumps([generation.to_json() for generation in found], indent=2, ensure_ascii=False))
        return
    for generation in found:
        click.echo(generation.line())
    if not found:
        click.echo(f"nothing is indexed in {store.url}: {missing_index_hint(store.url)}")


def _show(report: IndexReport | MoveReport, as_json: bool, indent: int | None = 2) -> None:
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=indent, ensure_ascii=False))
        return
    for line in report.lines():
        click.echo(line)


class _StopSignals:
    """Handlers of INT and TERM, which raise KeyboardInterrupt: at once or, after `hold`, in `release`.

    So a run that has started to publish also prints its report.
    """

    def __init__(self) -> None:
        self._held = self._received = False
        for number in _STOPPING:
            signal.signal(number, self._stop)

    def hold(self) -> None:
        """Defer signals until `release`."""
        self._held = True

    def release(self) -> None:
        """Raise KeyboardInterrupt if a signal arrived since `hold`."""
        self._held = False
        if self._received:
            raise KeyboardInterrupt

    def _stop(self, *_: object) -> None:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
        self._received = True
        if not self._held:
            raise KeyboardInterrupt
