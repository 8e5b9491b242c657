"""The command line: `sceneseek COMMAND`. Only this module turns errors into one line and an exit code.

Exit codes: 0 success, 1 failure, 2 usage. The command of a role is imported on use, so `sceneseek search` does not
import torch. A role is installed by an extra; without it, the command fails and names the extra.
"""

from __future__ import annotations

import errno
import importlib
import logging
import sys
from pathlib import Path

import click

from sceneseek import __version__, logs
from sceneseek.errors import MissingExtra, SceneseekError, one_line
from sceneseek.next_step import next_steps
from sceneseek.options import bundle_option, places
from sceneseek.search_command import search

log = logging.getLogger(__name__)


# The module of each role's command.
_ROLES = {
    "evaluate": "sceneseek_evaluation.command",
    "export": "sceneseek_export.command",
    "feedback": "sceneseek_server.command",
    "index": "sceneseek_indexer.command",
    "keys": "sceneseek_server.command",
    "mcp": "sceneseek.mcp_command",
    "serve": "sceneseek_server.command",
    "train": "sceneseek_training.command",
}
# The extra that a command requires, if it does not have the command's name.
_EXTRAS = {"feedback": "serve", "keys": "serve"}


# Errors of the file system, which are not bugs to report.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FILE_SYSTEM = {
    *_FULL,
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO),
    *(errno.EMFILE, errno.ENFILE),
}


class _Roles(click.Group):
    """A command group that also contains the commands of the roles."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ROLES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ROLES:
            return super().get_command(ctx, cmd_name)
        try:
            command: click.Command = getattr(importlib.import_module(_ROLES[cmd_name]), cmd_name)
        except ModuleNotFoundError as error:
            return _not_installed(_missing_extra(cmd_name, error))
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if ctx.invoked_subcommand is None:
                raise
            raise _missing_extra(ctx.invoked_subcommand, error) from error


def _missing_extra(command: str, error: ModuleNotFoundError) -> MissingExtra:
    """The error for a missing dependency; a missing module of sceneseek is a bug and is raised again."""
    if error.name is None or error.name.startswith("sceneseek"):
        raise error
    return MissingExtra(command, _EXTRAS.get(command, command), error.name)


def _not_installed(error: MissingExtra) -> click.Command:
    """A placeholder for a command whose packages are not installed."""

    def fail(**_: object) -> None:
        raise error

    settings = {"ignore_unknown_options": True, "help_option_names": []}
    rest = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
    return click.Command(
        error.command, settings, fail, [rest], short_help=f"Not installed: {error.hint}", add_help_option=False
    )


@click.group(cls=_Roles, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sceneseek")
@click.option("--debug", is_flag=True, envvar="SCENESEEK_DEBUG", help="Show tracebacks and debug logs.")
@click.option("--verbose", "-v", is_flag=True, help="Log automatic choices and their reasons.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="SCENESEEK_LOG_FORMAT",
    show_envvar=True,
    help="json: one object per line, for log collectors; includes errors and the output of --verbose.",
)
@click.pass_context
def cli(context: click.Context, debug: bool, verbose: bool, log_format: logs.LogFormat) -> None:
    """Find photographs by describing the scene."""
    logs.set_up(log_format, debug, verbose)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        click.echo("\n" + "\n".join(next_steps(*places())))


cli.add_command(search)


@cli.command()
@bundle_option
def verify(bundle: Path) -> None:
    """Read every file of a bundle and check that it has not changed since the export."""
    from sceneseek.bundle import Bundle  # noqa: PLC0415 - keeps `sceneseek --help` fast

    manifest = Bundle.load(bundle, trust=False).manifest
    name = f"{manifest.pack} {manifest.fingerprints.bundle[:12]}"
    click.echo(f"{bundle} is intact: {name}, {len(manifest.files)} files")


def main() -> None:
    """Entry point of the console script."""
    debug = "--debug" in sys.argv[1:]
    try:
        cli.main(prog_name="sceneseek", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(1)
    except click.UsageError as error:
        _report_usage(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _report(one_line(error.format_message()))
        sys.exit(error.exit_code)
    except SceneseekError as error:
        if debug:
            raise
        _report(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _report(_unexpected(error))
        sys.exit(1)


def _unexpected(error: Exception) -> str:
    if not isinstance(error, OSError) or error.errno not in _FILE_SYSTEM:
        return f"{type(error).__name__}: {error} (a bug: run again with `sceneseek --debug` and report it)"
    what = f"{one_line(str(error.filename))} cannot be used" if error.filename else "a file cannot be read or written"
    hint = "free space on its disk" if error.errno in _FULL else "check its path and its permissions"
    return f"{what} ({error.strerror}): {hint}"


def _report_usage(error: click.UsageError) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # a group without a command prints its help
        click.echo(error.format_message(), err=True)
        return
    path = error.ctx.command_path if error.ctx else "sceneseek"
    message = one_line(error.format_message().rstrip("."))
    _report(f"{message}: see `{path} --help`")


def _report(error: str) -> None:
    """Print or log the error of a failed command, as its last line."""
    if logs.in_json():
        log.error("%s", error)
    else:
        click.echo(f"error: {error}", err=True)
