"""Is a request addressed to this service by a name that is its own?

A page of another site can have its own name lead to this machine (DNS rebinding), and then counts, for a browser, as
a page of this service: it may read every answer. What gives it away is its name in the Host header.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from sceneseek_server.guard.refusal import WrongHost

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# No other site can have these.
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Hosts:
    """The names that the service is asked by.

    Args:
        allowed: those that were named; ``*`` is any. The loopback names are always among them.
        bound_to: where the service listens. If that is a loopback address, nobody but programs of this machine can
            mean it, and they have its name; so then, too, no other name is taken. Else, unless names are named,
            any is: a service cannot know what it is called in its network.
    """

    def __init__(self, allowed: tuple[str, ...], bound_to: str) -> None:
        closed = bool(allowed) or _is_loopback(bound_to)
        own = {name.lower() for name in allowed} | _LOOPBACK | {bound_to.lower()}
        self._names = own if closed and "*" not in allowed else None

    def check(self, environ: WSGIEnvironment) -> None:
        """Let a request pass that is addressed to us.

        Raises:
            WrongHost: it is not.
        """
        if self._names is not None and _name(environ.get("HTTP_HOST", "")) not in self._names:
            raise WrongHost


def _name(host: str) -> str:
    """A Host header without port and brackets, in lower case, and without the dot that names may end with."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].removesuffix(".").lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
