"""Where a service is: the address that a person typed, checked, and what goes with a request as its key."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from sceneseek.errors import InvalidRequest

_EXAMPLE = "write it as http://HOST:PORT or https://HOST"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a service.

    Attributes:
        origin: such as ``https://photos.example:8443``.
        prefix: the path under which a proxy shows the service; empty, or with a slash at its beginning only.
        encrypted: whether what is sent there is.
        local: whether it stays on this machine.
    """

    origin: str
    prefix: str
    encrypted: bool
    local: bool

    def __str__(self) -> str:
        return self.origin + self.prefix

    @classmethod
    def read(cls, text: str) -> Address:
        """Read one.

        Raises:
            InvalidRequest: it is no address of a service; or it holds a password, which would end up in messages.
        """
        try:
            url = parse_url(text.strip())
        except LocationParseError:
            raise InvalidRequest("the address of the service cannot be understood", _EXAMPLE) from None
        if url.auth is not None:
            raise InvalidRequest("the address of the service holds a user's name or password", "give a key instead")
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidRequest(f"{text!r} is no address of a service", _EXAMPLE)
        if url.query is not None or url.fragment is not None:
            raise InvalidRequest(f"the address {text!r} goes on after its path", _EXAMPLE)
        origin = Url(scheme=url.scheme, host=url.host, port=url.port).url
        return cls(origin, (url.path or "").rstrip("/"), url.scheme == "https", _is_local(url.host))


def authorization(key: str | None, address: Address) -> dict[str, str]:
    """The headers that carry a key, if there is one.

    Raises:
        InvalidRequest: it is no key; what it is, is not told.
    """
    if key is None:
        return {}
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidRequest("the key is empty, or holds a character that keys do not have", "give it as it was issued")
    if not address.encrypted and not address.local:
        log.warning("the key is sent to %s without encryption, for anyone on the way to read: use https", address)
    return {"Authorization": f"Bearer {key}"}


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
