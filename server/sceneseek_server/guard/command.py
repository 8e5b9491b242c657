"""`sceneseek keys`: the keys of a service, added, listed and removed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from sceneseek_server.guard.options import api_keys_option, rate_option


@click.group()
def keys() -> None:
    """Manage the keys that a service asks for; it follows a change within a second or two."""


def _file(path: Path | None) -> Path:
    if path is None:
        raise click.UsageError("no file of keys is named: give --api-keys FILE, or set SCENESEEK_API_KEYS")
    return path


@keys.command()
@click.argument("name")
@api_keys_option
@click.option("--expires", type=click.IntRange(1, 36_500), metavar="DAYS", help="Days until it is no longer good.")
@click.option("--rate", callback=rate_option, metavar="RATE", help="A rate limit of its own, such as 5/second.")
def add(name: str, api_keys: Path | None, expires: int | None, rate: str | None) -> None:
    """Make a key and print it, this once; only its hash is kept."""
    from sceneseek_server.guard.key_file import add_key, new_key  # noqa: PLC0415 - so that `sceneseek --help` answers at once

    created = datetime.now(UTC).replace(microsecond=0)
    key = new_key(name, created, created + timedelta(days=expires) if expires else None, rate)
    add_key(_file(api_keys), key)
    click.echo(key.secret)


@keys.command("list")
@api_keys_option
def list_keys(api_keys: Path | None) -> None:
    """Print name, date made, expiry and rate of each key, never the key."""
    from sceneseek_server.guard.key_file import read_keys  # noqa: PLC0415

    now = datetime.now(UTC)
    for entry in read_keys(_file(api_keys)):
        expiry = "does not expire"
        if entry.expires is not None:
            expiry = f"{'expired' if entry.expires <= now else 'expires'} {entry.expires:%Y-%m-%d}"
        click.echo(f"{entry.name}  made {entry.created:%Y-%m-%d}  {expiry}  {entry.rate or 'no rate of its own'}")


@keys.command()
@click.argument("name")
@api_keys_option
def remove(name: str, api_keys: Path | None) -> None:
    """Take a key away."""
    from sceneseek_server.guard.key_file import remove_key  # noqa: PLC0415

    remove_key(_file(api_keys), name)
