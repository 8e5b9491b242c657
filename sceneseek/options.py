"""Options that several commands share, each with its environment variable: settings are read here, once."""

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
    """``OWNER/NAME=DIR`` each."""
    found = {}
    for value in values:
        name, equals, folder = value.partition("=")
        if not (name and equals and folder):
            raise click.BadParameter(f"{value!r} is not OWNER/NAME=DIR", context, parameter)
        found[name] = Path(folder)
    return found


def places() -> tuple[Path, str]:
    """The bundle and the index that a command without `--bundle` and `--index` takes."""
    return Path(os.environ.get(_BUNDLE_VARIABLE) or DEFAULT_BUNDLE), os.environ.get(_INDEX_VARIABLE) or DEFAULT_INDEX


def read_key(file: Path | None) -> str | None:
    """The key of the service; no option, since other users of a machine can read what a command was called with."""
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"the key file {file} cannot be read ({error.strerror})", "check its name") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"the key file {file} holds no text", "give the file that has the key alone") from error


pack_option = click.option(
    "--pack",
    "pack_name",
    default="compact",
    show_default=True,
    help="Which towers: a pack's name, or a TOML file that describes one (docs/how-to/packs.md).",
)
weights_option = click.option(
    "--weights",
    multiple=True,
    callback=_folders,
    metavar="OWNER/NAME=DIR",
    envvar="SCENESEEK_WEIGHTS",
    show_envvar=True,
    help="A local directory, laid out as on the model hub, in the place of the hub's; may be repeated.",
)
bundle_option = click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    default=DEFAULT_BUNDLE,
    show_default=True,
    envvar=_BUNDLE_VARIABLE,
    show_envvar=True,
    help="The directory that `sceneseek export` wrote.",
)
index_option = click.option(
    "--index",
    "index_url",
    default=DEFAULT_INDEX,
    show_default=True,
    envvar=_INDEX_VARIABLE,
    show_envvar=True,
    help="Where the vectors live: file:DIR is the embedded engine, http(s)://HOST:PORT a Qdrant server.",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    envvar="SCENESEEK_DEVICE",
    show_envvar=True,
    help="Where the graphs run. auto: CUDA if it works, else the CPU; cuda, tensorrt: that or an error.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(0, 256),
    default=0,
    show_default=True,
    envvar="SCENESEEK_THREADS",
    show_envvar=True,
    help="Threads within one run of a graph; 0 is one a core.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, 2_000_000_000),
    default=MAX_PIXELS,
    show_default=True,
    envvar="SCENESEEK_MAX_PIXELS",
    show_envvar=True,
    help="Refuse pictures that need more pixels decoded; decoding takes 8 to 16 bytes a pixel.",
)
key_file_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help=f"A file with the service's key; without it {KEY_VARIABLE} is the key.",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=10,
    show_default=True,
    help="Seconds that the service may take.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
aggregate_option = click.option(
    "--aggregate",
    type=click.Choice(["mean", "median", "majority"]),
    default="mean",
    show_default=True,
    help="What becomes of several raters' scores of one pair.",
)
skip_unknown_option = click.option(
    "--skip-unknown", is_flag=True, help="Leave out ratings of unknown images or captions, and say which."
)
