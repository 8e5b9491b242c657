"""Requests to one service: its address, the key, the retries, and the connections.

What comes out is a reply that is a success, or an error of ours. Redirects are not followed. It knows nothing of what
is requested or answered.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import urllib3
from urllib3 import BaseHTTPResponse, Retry
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import (
    ClosedPoolError,
    HTTPError,
    InvalidHeader,
    LocationParseError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as TooLate
from urllib3.util import Url, parse_url

from sceneseek import __version__
from sceneseek.client.reply import Reply, problem_of
from sceneseek.errors import InvalidRequest, ServiceUnreachable

# Further threads connect anew for each request.
_MAX_CONNECTIONS = 32
_PART_BYTES = 1 << 16
_ADDRESS_EXAMPLE = "write it as http://HOST:PORT or https://HOST"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body."""

    content: bytes
    media_type: str


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
            raise InvalidRequest("the address of the service cannot be understood", _ADDRESS_EXAMPLE) from None
        if url.auth is not None:
            raise InvalidRequest("the address of the service holds a user's name or password", "give a key instead")
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidRequest(f"{text!r} is no address of a service", _ADDRESS_EXAMPLE)
        if url.query is not None or url.fragment is not None:
            raise InvalidRequest(f"the address {text!r} goes on after its path", _ADDRESS_EXAMPLE)
        origin = Url(scheme=url.scheme, host=url.host, port=url.port).url
        return cls(origin, (url.path or "").rstrip("/"), url.scheme == "https", _is_local(url.host))


def authorization(key: str | None, address: Address) -> dict[str, str]:
    """The headers that carry a key, if there is one.

    Raises:
        InvalidRequest: it is no key; the message does not show it.
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


class Retries(Retry):
    """The tries that a request has left: urllib3's `Retry` with a deadline.

    Asked again is what was lost on the way, what came too early (429), and what the service says will be answered
    later (503 with Retry-After). Before the second try there is no wait but one that the service asks for; further
    ones are ever longer.

    Args:
        retries: how many tries there may be after the first.
        until: when the call shall have ended, on the clock of `time.monotonic`. What would have to wait for longer is
            given up at once.
    """

    RETRY_AFTER_STATUS_CODES = frozenset({429, 503})

    def __init__(self, *, until: float, retries: int = 0, **given: Any) -> None:
        ours = {
            "total": retries,
            "allowed_methods": None,  # any: every request may be sent twice
            "status_forcelist": {429},
            "backoff_factor": 0.2,
            "backoff_jitter": 0.2,
        }
        super().__init__(**{**ours, **given})
        self.until = until

    def new(self, **changes: Any) -> Self:
        """The same with changes, as `Retry` makes it."""
        return super().new(until=self.until, **changes)

    @property
    def left(self) -> float:
        """Seconds until the call shall have ended; hardly any where it should have ended already."""
        return max(self.until - time.monotonic(), 1e-3)

    @property
    def over(self) -> bool:
        """Whether the call should have ended."""
        return time.monotonic() >= self.until

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """One try less.

        Raises:
            MaxRetryError: it was the last one; or there is no time for another; or another would end like it.
        """
        following = super().increment(method, url, response, error, _pool, _stacktrace)
        wait = (response and following.get_retry_after(response)) or following.get_backoff_time()
        if isinstance(error, SSLError) or wait >= self.left:
            raise MaxRetryError(_pool, url or "", error)  # type: ignore[arg-type]  # the pool may be unknown to `Retry` too
        return following

    def parse_retry_after(self, retry_after: str) -> float:
        """Seconds; 0, as if it had not been said, of what is neither a number nor a date."""
        try:
            return super().parse_retry_after(retry_after)
        except InvalidHeader:
            return 0.0


class Connection:
    """The way to one service. Thread-safe.

    Args:
        address: where it is.
        key: what it lets in, if it has keys.
        timeout: seconds that a request may take, with all its tries.
        retries: how many tries there may be after the first.

    Raises:
        InvalidRequest: the key is none, or a number is out of its range.
    """

    def __init__(self, address: Address, key: str | None, timeout: float, retries: int) -> None:
        if not 0 < timeout < float("inf"):
            raise InvalidRequest(f"the timeout is {timeout}", "give the seconds that an answer may take")
        if retries < 0:
            raise InvalidRequest(f"retries is {retries}", "give the number of further tries, 0 for none")
        self.address = address
        self._timeout, self._retries = timeout, retries
        self._headers = {"User-Agent": f"sceneseek-client/{__version__}", **authorization(key, address)}
        self._pool = urllib3.connection_from_url(address.origin, maxsize=_MAX_CONNECTIONS)

    def ask(self, method: str, path: str, body: Body | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """The answer to a request that does no harm if it comes twice.

        Args:
            method: of HTTP.
            path: below the service's address.
            body: what is sent.
            headers: further ones.

        Raises:
            ServiceUnreachable: there is none, or not in time.
            SceneseekError: it is that error.
        """
        retries_left = Retries(retries=self._retries, until=time.monotonic() + self._timeout)
        while True:
            try:
                response = self._send(method, path, body, headers or {}, retries_left)
                reply = _read(response, retries_left)
            except ClosedPoolError:
                raise InvalidRequest("the client is closed", "make another one") from None
            except HTTPError as error:
                try:
                    retries_left = retries_left.increment(method, path, error=error)
                except MaxRetryError:
                    raise self._unreachable(error) from error
                retries_left.sleep()
                continue
            if not retries_left.is_retry(method, reply.status, reply.retry_after is not None):
                return self._success(reply)
            try:
                retries_left = retries_left.increment(method, path, response)
            except MaxRetryError:
                return self._success(reply)
            retries_left.sleep(response)

    def close(self) -> None:
        """End the connections."""
        self._pool.close()

    def _send(
        self, method: str, path: str, body: Body | None, headers: Mapping[str, str], retries_left: Retries
    ) -> BaseHTTPResponse:
        about = {} if body is None else {"Content-Type": body.media_type}
        return self._pool.urlopen(
            method,
            self.address.prefix + path,
            None if body is None else body.content,
            {**self._headers, **about, **headers},
            retries=False,
            redirect=False,
            timeout=retries_left.left,
            preload_content=False,
        )

    def _success(self, reply: Reply) -> Reply:
        if reply.status in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
            return reply
        raise problem_of(reply, str(self.address))

    def _unreachable(self, error: HTTPError) -> ServiceUnreachable:
        """What kept a request from being answered, for a person."""
        where = str(self.address)
        if isinstance(error, NameResolutionError):
            return ServiceUnreachable(f"the host of {where} is unknown", "check the address, and the network")
        if isinstance(error, NewConnectionError):
            return ServiceUnreachable(f"nothing answers at {where}", "check the address, and that the service runs")
        if isinstance(error, TooLate):
            hint = "try again later, or give it more time"
            return ServiceUnreachable(f"{where} has not answered within {self._timeout:g} s", hint)
        if isinstance(error, SSLError):
            hint = "check the address; SSL_CERT_FILE names the certificates to trust"
            return ServiceUnreachable(f"no trusted connection to {where} can be made ({error})", hint)
        hint = "check the address, and the log of the service"
        return ServiceUnreachable(f"the connection to {where} broke before its answer was whole", hint)


def _read(response: BaseHTTPResponse, retries_left: Retries) -> Reply:
    """The whole answer; the connection is free for others then."""
    parts = []
    try:
        while part := response.read1(_PART_BYTES):
            parts.append(part)
            if retries_left.over:
                raise TooLate("the answer came too slowly")
    except HTTPError:
        response.close()
        raise
    finally:
        response.release_conn()
    return Reply(
        status=response.status,
        content=b"".join(parts),
        media_type=response.headers.get("Content-Type", "").partition(";")[0].strip(),
        location=response.headers.get("Location", ""),
        retry_after=retries_left.get_retry_after(response),
    )
