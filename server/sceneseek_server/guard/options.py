"""The options of `sceneseek serve` that set up its door, put together into one argument, a `Guard`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sceneseek.errors import InvalidRequest
from sceneseek_server.guard.settings import MEGABYTE, Guard

api_keys_option = click.option(
    "--api-keys",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SCENESEEK_API_KEYS",
    show_envvar=True,
    metavar="FILE",
    help="A file of keys, made by `sceneseek keys add`.",
)


def rate_option(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Check a rate where it is given."""
    if value is not None:
        from sceneseek_server.guard.rates import parsed_rate  # noqa: PLC0415 - so that `sceneseek --help` answers at once

        try:
            parsed_rate(value)
        except InvalidRequest as error:
            raise click.BadParameter(str(error), context, parameter) from None
    return value


def _origins(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        return ()
    from sceneseek_server.guard.origins import checked_origin  # noqa: PLC0415 - imports Flask

    try:
        return tuple(checked_origin(value) for value in values)
    except InvalidRequest as error:
        raise click.BadParameter(str(error), context, parameter) from None


_OPTIONS = (
    api_keys_option,
    click.option(
        "--rate-limit",
        callback=rate_option,
        metavar="RATE",
        envvar="SCENESEEK_RATE_LIMIT",
        show_envvar=True,
        help="How much one key (without keys: one address) may ask, such as 20/second; images: 50 times as many. "
        "No limit unless given.",
    ),
    click.option(
        "--trusted-proxies",
        type=click.IntRange(0, 10),
        default=0,
        show_default=True,
        envvar="SCENESEEK_TRUSTED_PROXIES",
        show_envvar=True,
        help="How many proxies stand before the service; so many X-Forwarded-For, -Proto and -Prefix are believed.",
    ),
    click.option(
        "--cors-origin",
        "cors_origins",
        multiple=True,
        callback=_origins,
        metavar="ORIGIN",
        envvar="SCENESEEK_CORS_ORIGINS",
        show_envvar=True,
        help="An origin such as https://example.org whose pages may read answers; may be repeated.",
    ),
    click.option(
        "--allowed-host",
        "allowed_hosts",
        multiple=True,
        metavar="NAME",
        envvar="SCENESEEK_ALLOWED_HOSTS",
        show_envvar=True,
        help="A name that the service is asked by, beside localhost; may be repeated; * is any. Unless given: "
        "localhost alone where --host is this machine's own, else any.",
    ),
    click.option(
        "--show-paths/--hide-paths",
        default=False,
        show_default=True,
        envvar="SCENESEEK_SHOW_PATHS",
        show_envvar=True,
        help="Whether answers may hold paths and names of files.",
    ),
    click.option(
        "--max-upload",
        type=click.IntRange(1, 1_000),
        default=16,
        show_default=True,
        envvar="SCENESEEK_MAX_UPLOAD",
        show_envvar=True,
        metavar="MB",
        help="The most megabytes of an uploaded image.",
    ),
)


def guard_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that has `--host` the options of its door; it is called with `guard`."""

    @functools.wraps(command)
    def with_guard(
        api_keys: Path | None,
        rate_limit: str | None,
        trusted_proxies: int,
        cors_origins: tuple[str, ...],
        allowed_hosts: tuple[str, ...],
        show_paths: bool,
        max_upload: int,
        **others: Any,
    ) -> Any:
        guard = Guard(
            api_keys=api_keys,
            rate_limit=rate_limit,
            trusted_proxies=trusted_proxies,
            cors_origins=cors_origins,
            allowed_hosts=allowed_hosts,
            bound_to=others["host"],
            show_paths=show_paths,
            max_upload=max_upload * MEGABYTE,
        )
        return command(guard=guard, **others)

    for option in reversed(_OPTIONS):
        with_guard = option(with_guard)
    return with_guard
