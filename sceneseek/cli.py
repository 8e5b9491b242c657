"""The command line: `sceneseek COMMAND`. Errors become one line and an exit code here, nowhere else.

Exit codes: 0 done, 1 failed, 2 usage. Each room adds its command by an entry point, loaded when it is
asked for, so `sceneseek search` does not pay for torch.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click

from sceneseek import __version__, logs
from sceneseek.errors import SceneseekError, one_line
from sceneseek.options import bundle_option, device_option, index_option, json_option, threads_option
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST, MAX_K, MAX_SHORTLIST
from sceneseek.runtime import Device

log = logging.getLogger(__name__)


class _Rooms(click.Group):
    """A group that finds the other rooms' commands by their entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        rooms = {point.name for point in entry_points(group="sceneseek.commands")}
        return sorted({*super().list_commands(ctx), *rooms})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for point in entry_points(group="sceneseek.commands", name=cmd_name):
            command: click.Command = point.load()
            return command
        return None


@click.group(cls=_Rooms, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sceneseek")
@click.option("--debug", is_flag=True, envvar="SCENESEEK_DEBUG", help="Show tracebacks and debug logs.")
@click.option("--verbose", "-v", is_flag=True, help="Log what was chosen, and why.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="SCENESEEK_LOG_FORMAT",
    show_envvar=True,
    help="json: one object a line, for a log collector, with what --verbose adds; errors too.",
)
def cli(debug: bool, verbose: bool, log_format: logs.LogFormat) -> None:
    """Find photographs by describing the scene."""
    logs.set_up(log_format, debug, verbose)


@cli.command()
@click.argument("query")
@click.option("-k", "k", type=click.IntRange(1, MAX_K), default=DEFAULT_K, show_default=True, help="How many results.")
@click.option(
    "--shortlist",
    type=click.IntRange(1, MAX_SHORTLIST),
    default=DEFAULT_SHORTLIST,
    show_default=True,
    help="How many nearest neighbours to rescore.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Find only images for which this holds, such as year>=1990, tags=dog|cat, path^=animals/; may be repeated.",
)
@click.option("--keep-duplicates", is_flag=True, help="Show near-duplicates of a better result too.")
@bundle_option
@index_option
@device_option
@threads_option
@json_option
def search(  # noqa: PLR0913, PLR0917 - one argument an option
    query: str,
    k: int,
    shortlist: int,
    where: tuple[str, ...],
    keep_duplicates: bool,
    bundle: Path,
    index_url: str,
    device: Device,
    threads: int,
    as_json: bool,
) -> None:
    """Print the images that match QUERY best: rank, score, path."""
    # Imported here so that `sceneseek --help` answers at once.
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.filters import filter_from_words  # noqa: PLC0415
    from sceneseek.request import Query  # noqa: PLC0415
    from sceneseek.search import Search  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415

    asked = Query(
        text=query,
        k=k,
        shortlist=shortlist,
        where=filter_from_words(where),
        keep_duplicates=keep_duplicates,
    )
    pipeline = Search(Bundle.load(bundle), open_store(index_url), device, threads)
    try:
        answer = pipeline.query(asked)
    finally:
        pipeline.close()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(answer), indent=2, ensure_ascii=False))
        return
    for result in answer.results:
        folded = f"  (+{result.duplicates} similar)" if result.duplicates and not keep_duplicates else ""
        click.echo(f"{result.rank:2d}  {result.score:.2f}  {result.path}{folded}")
    if not answer.calibrated:
        click.echo("note: the scores are not calibrated: read them as an order only", err=True)
    if answer.truncated:
        click.echo("note: the query is longer than the text tower reads; its end was ignored", err=True)


def main() -> None:
    """The console script."""
    debug = "--debug" in sys.argv[1:]
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(1)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "sceneseek"
        message = one_line(error.format_message().rstrip("."))
        _tell(f"{message}: see `{path} --help`")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _tell(one_line(error.format_message()))
        sys.exit(error.exit_code)
    except SceneseekError as error:
        if debug:
            raise
        _tell(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _tell(f"{type(error).__name__}: {error} (a bug: run again with `sceneseek --debug` and report it)")
        sys.exit(1)


def _tell(error: str) -> None:
    """The last line of a command that failed."""
    if logs.in_json():
        log.error("%s", error)
    else:
        click.echo(f"error: {error}", err=True)
