"""Who asks: a key's name, or an address."""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass
from typing import cast

from flask import g


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        address: the network address it came from, as far as proxies are trusted.
        key: the name of its key; None where no keys are asked for.
    """

    address: str
    key: str | None = None

    @property
    def identity(self) -> str:
        """What its requests are counted under."""
        return f"key {self.key}" if self.key is not None else f"address {network(self.address)}"


def caller() -> Caller | None:
    """The sender of the request that is being answered; None where it was not asked who it is (`/healthz`)."""
    return cast("Caller | None", g.get("caller"))


@functools.lru_cache(4_096)
def network(address: str) -> str:
    """The part of an address that one subscriber has: of IPv6 the first 64 bits, since the rest is free to choose."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return address
