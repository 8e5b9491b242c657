"""Options shared by several commands, with their environment variables."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sceneseek.containers import MAX_PIXELS
from sceneseek.errors import SourceError
from sceneseek.next_step import DEFAULT_BUNDLE, DEFAULT_INDEX

KEY_VARIABLE = "SCENESEEK_API_KEY"
_BUNDLE_VARIABLE, _INDEX_VARIABLE = "SCENESEEK_BUNDLE", "SCENESEEK_INDEX"


def _folders(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    """Parse values of the form ``OWNER/NAME=DIR``."""
    folders = {}
    for value in values:
        name, equals, folder = value.partition("=")
        if not (name and equals and folder):
            raise click.BadParameter(f"{value!r} is not OWNER/NAME=DIR", context, parameter)
        folders[name] = Path(folder)
    return folders


def places() -> tuple[Path, str]:
    """The default bundle and index of commands, from the environment if set there."""
    return Path(os.environ.get(_BUNDLE_VARIABLE) or DEFAULT_BUNDLE), os.environ.get(_INDEX_VARIABLE) or DEFAULT_INDEX


def read_key(file: Path | None) -> str | None:
    """Read the service's key from a file, or the environment; not an option, since other users can see arguments."""
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"the key file {file} cannot be read ({error.strerror})", "check its name") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"the key file {file} is not UTF-8", "give a file that contains only the key") from error


pack_option = click.option(
    "--pack",
    "pack_name",
    default="compact",
    show_default=True,
    help="Pack of encoders: a name, or a TOML file that describes one (docs/how-to/packs.md).",
)
weights_option = click.option(
    "--weights",
    multiple=True,
    callback=_folders,
    metavar="OWNER/NAME=DIR",
    envvar="SCENESEEK_WEIGHTS",
    show_envvar=True,
    help="Use a local directory, laid out as on the model hub, instead of the hub; may be repeated.",
)
bundle_option = click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    default=DEFAULT_BUNDLE,
    show_default=True,
    envvar=_BUNDLE_VARIABLE,
    show_envvar=True,
    help="Directory of the bundle, written by `sceneseek export`.",
)
index_option = click.option(
    "--index",
    "index_url",
    default=DEFAULT_INDEX,
    show_default=True,
    envvar=_INDEX_VARIABLE,
    show_envvar=True,
    help="URL of the index: file:DIR for the embedded engine, http(s)://HOST:PORT for a Qdrant server.",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    envvar="SCENESEEK_DEVICE",
    show_envvar=True,
    help="Device that runs the graphs. auto: CUDA if it works, else the CPU; cuda, tensorrt: fail if it does not work.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(0, 256),
    default=0,
    show_default=True,
    envvar="SCENESEEK_THREADS",
    show_envvar=True,
    help="Threads per run of a graph; 0: one per core.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, 2_000_000_000),
    default=MAX_PIXELS,
    show_default=True,
    envvar="SCENESEEK_MAX_PIXELS",
    show_envvar=True,
    help="Reject pictures with more pixels to decode; decoding takes 8 to 16 bytes per pixel.",
)
key_file_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help=f"File with the service's key; defaults to the key in {KEY_VARIABLE}.",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=10,
    show_default=True,
    help="Timeout of the service, in seconds.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
aggregate_option = click.option(
    "--aggregate",
    type=click.Choice(["mean", "median", "majority"]),
    default="mean",
    show_default=True,
    help="How to combine several raters' scores of a pair.",
)
skip_unknown_option = click.option(
    "--skip-unknown", is_flag=True, help="Skip ratings of unknown images or captions, and report them."
)
