"""The commands `sceneseek serve`, `sceneseek keys` (its API keys) and `sceneseek feedback` (its ratings)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from sceneseek.errors import InvalidRequest
from sceneseek.logs import in_json
from sceneseek.options import bundle_option, device_option, index_option, max_pixels_option, threads_option
from sceneseek_server.access.keys import add_key, new_key, read_keys, remove_key
from sceneseek_server.access.origins import checked_origin
from sceneseek_server.access.rates import parsed_rate
from sceneseek_server.feedback import export_lines, feedback_path

log = logging.getLogger(__name__)

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _setting(*names: str, **about: Any) -> Callable[[_Function], _Function]:
    """An option with an environment variable: SCENESEEK_ and the last of its names."""
    variable = names[-1].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=f"SCENESEEK_{variable}", show_envvar=True, show_default=True, **about)


def _rate(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            parsed_rate(value)
        except InvalidRequest as error:
            raise click.BadParameter(str(error), context, parameter) from None
    return value


def _origins(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(checked_origin(value) for value in values)
    except InvalidRequest as error:
        raise click.BadParameter(str(error), context, parameter) from None


def _prefix(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    prefix = (value or "").rstrip("/")
    if prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix, re.ASCII):
        raise click.BadParameter("write it as /photos", context, parameter)
    return prefix


api_keys_option = _setting(
    "--api-keys",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The key file, written by `sceneseek keys add`.",
)
feedback_option = _setting(
    "--feedback",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The SQLite file of ratings. By default in the directory of a file: index; with a Qdrant server, none.",
)


@click.command()
@bundle_option
@index_option
@device_option
@threads_option
@_setting(
    "--host",
    default="127.0.0.1",
    help="The address to listen on: 0.0.0.0 is every IPv4 address of this machine, :: every address, and unix:PATH a "
    "Unix socket.",
)
@_setting(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    help="The port to listen on; 0 chooses a free one.",
)
@_setting(
    "--metrics-port",
    type=click.IntRange(1, 65_535),
    help="Also serve /metrics, /healthz and /readyz on this port, without access control, for a scraper in a private "
    "network. Off by default.",
)
@_setting(
    "--http-threads",
    type=click.IntRange(1, 256),
    default=32,
    help="Requests processed at the same time.",
)
@_setting(
    "--queue",
    type=click.IntRange(0, 10_000),
    default=128,
    help="Requests that may wait; further ones get 429.",
)
@_setting(
    "--deadline",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    help="Seconds within which a received request is answered, including waiting; after that it gets 503.",
)
@_setting(
    "--max-batch",
    type=click.IntRange(1, 1024),
    default=32,
    help="Maximum number of queries in one run of the text graph; 1 disables batching.",
)
@_setting(
    "--query-cache",
    type=click.IntRange(0, 10_000_000),
    default=4096,
    help="Text vectors to cache, about 3 KB each; 0 disables the cache.",
)
@feedback_option
@api_keys_option
@_setting(
    "--rate-limit",
    callback=_rate,
    metavar="RATE",
    help="Requests that one key (without keys: one address) may send, such as 20/second; 50 times as many for images. "
    "Unlimited by default.",
)
@_setting(
    "--trusted-proxies",
    type=click.IntRange(0, 10),
    default=0,
    help="Number of proxies in front of the service; that many values of X-Forwarded-For are trusted.",
)
@_setting(
    "--url-prefix",
    callback=_prefix,
    metavar="PATH",
    help="The path under which a proxy serves the service, such as /photos, if the proxy removes it from requests.",
)
@_setting(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    callback=_origins,
    metavar="ORIGIN",
    help="An origin such as https://example.org whose pages may read responses; may be repeated.",
)
@_setting(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A host name to accept besides localhost; may be repeated; * accepts any. By default only localhost if --host "
    "is a loopback address, else any.",
)
@_setting(
    "--show-paths/--hide-paths",
    "show_paths",
    default=False,
    help="Whether responses may contain paths and names of files.",
)
@_setting(
    "--uploads",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="The indexed folder in which clients add and delete pictures, with keys that may write (`keys add NAME "
    "--write`); run `sceneseek index watch FOLDER` beside the service. Off by default.",
)
@max_pixels_option
@_setting(
    "--max-upload",
    type=click.IntRange(1, 1_000),
    default=16,
    metavar="MB",
    help="Maximum size of an uploaded image in megabytes.",
)
def serve(host: str, api_keys: Path | None, max_upload: int, **choices: Any) -> None:
    """Run the HTTP service, with the search page at /."""
    if choices["uploads"] is not None and api_keys is None:
        raise click.UsageError("--uploads needs --api-keys: adding and deleting pictures requires a key that may write")
    from sceneseek_server.process import run  # noqa: PLC0415 - keeps `sceneseek --help` fast
    from sceneseek_server.service import AccessSettings, ServiceSettings  # noqa: PLC0415

    access_choices = {each.name: choices.pop(each.name) for each in fields(AccessSettings) if each.name in choices}
    access = AccessSettings(api_keys=api_keys, bound_to=host, max_upload=max_upload * 10**6, **access_choices)
    settings = ServiceSettings(host=host, access=access, **choices)
    # With JSON logs, the announcement is a log line too.
    run(settings, announce=log.info if in_json() else click.echo)


@click.group()
def keys() -> None:
    """Manage the API keys of a service, which applies changes within two seconds."""


def _key_file(path: Path | None) -> Path:
    if path is None:
        raise click.UsageError("no key file is set: give --api-keys FILE, or set SCENESEEK_API_KEYS")
    return path


@keys.command()
@click.argument("name")
@api_keys_option
@click.option("--expires", type=click.IntRange(1, 36_500), metavar="DAYS", help="Days until the key expires.")
@click.option("--rate", callback=_rate, metavar="RATE", help="The key's own rate limit, such as 5/second.")
@click.option("--write", is_flag=True, help="Let the key add and delete pictures (with `serve --uploads`).")
def add(name: str, api_keys: Path | None, expires: int | None, rate: str | None, write: bool) -> None:
    """Create a key and print it, once only; the file stores only its hash."""
    created = datetime.now(UTC).replace(microsecond=0)
    key = new_key(name, created, created + timedelta(days=expires) if expires else None, rate, write)
    add_key(_key_file(api_keys), key)
    click.echo(key.secret)


@keys.command("list")
@api_keys_option
def list_keys(api_keys: Path | None) -> None:
    """Print name, creation date, expiry and rate limit of each key, and whether it may write; never the key."""
    now = datetime.now(UTC)
    for entry in read_keys(_key_file(api_keys)):
        expiry = "does not expire"
        if entry.expires is not None:
            expiry = f"{'expired' if entry.expires <= now else 'expires'} {entry.expires:%Y-%m-%d}"
        rate, rights = entry.rate or "default rate", "  may write" if entry.write else ""
        click.echo(f"{entry.name}  created {entry.created:%Y-%m-%d}  {expiry}  {rate}{rights}")


@keys.command()
@click.argument("name")
@api_keys_option
def remove(name: str, api_keys: Path | None) -> None:
    """Remove a key, which makes it invalid."""
    remove_key(_key_file(api_keys), name)


@click.group()
def feedback() -> None:
    """The ratings of a service's users."""


@feedback.command("export")
@feedback_option
@index_option
def export_feedback(feedback: Path | None, index_url: str) -> None:
    """Print the ratings as JSON lines, for `sceneseek train heads --feedback`; the service may be running."""
    path = feedback_path(feedback, index_url)
    if path is None:
        raise click.UsageError("no file of ratings is set: give --feedback FILE, or set SCENESEEK_FEEDBACK")
    for line in export_lines(path):
        click.echo(line)
