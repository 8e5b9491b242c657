"""HTTP requests to one service, with its address, API key, retries and connection pool.

A request returns a successful `Reply` or raises an error of `sceneseek.errors`. Redirects are not followed. Bodies are
passed through uninterpreted.
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
from urllib3.exceptions import TimeoutError as RequestTimeout
from urllib3.util import Url, parse_url

from sceneseek import __version__
from sceneseek.client.reply import Reply, error_of
from sceneseek.errors import InvalidRequest, ServiceUnreachable

# Connections that are kept alive; further threads open one per request.
_MAX_CONNECTIONS = 32
_CHUNK_BYTES = 1 << 16
_ADDRESS_EXAMPLE = "write it as http://HOST:PORT or https://HOST"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a service.

    Attributes:
        origin: such as ``https://photos.example:8443``.
        prefix: the path prefix of a proxy; empty, or with a leading and no trailing slash.
        encrypted: whether the scheme is https.
        local: whether the host is this machine.
    """

    origin: str
    prefix: str
    encrypted: bool
    local: bool

    def __str__(self) -> str:
        return self.origin + self.prefix

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse a URL.

        Raises:
            InvalidRequest: it is not the address of a service, or contains a password, which messages would expose.
        """
        try:
            url = parse_url(text.strip())
        except LocationParseError:
            raise InvalidRequest("the address of the service cannot be parsed", _ADDRESS_EXAMPLE) from None
        if url.auth is not None:
            raise InvalidRequest("the address of the service contains a user name or password", "use a key instead")
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidRequest(f"{text!r} is not the address of a service", _ADDRESS_EXAMPLE)
        if url.query is not None or url.fragment is not None:
            raise InvalidRequest(f"the address {text!r} has a query or a fragment", _ADDRESS_EXAMPLE)
        origin = Url(scheme=url.scheme, host=url.host, port=url.port).url
        return cls(origin, (url.path or "").rstrip("/"), url.scheme == "https", _is_local(url.host))


def authorization(key: str | None, address: Address) -> dict[str, str]:
    """The headers for an API key; empty without a key.

    Raises:
        InvalidRequest: the key is not valid; the message does not show it.
    """
    if key is None:
        return {}
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidRequest("the key is empty or contains an invalid character", "give it exactly as it was issued")
    if not address.encrypted and not address.local:
        log.warning("the key is sent to %s without encryption, so others may read it: use https", address)
    return {"Authorization": f"Bearer {key}"}


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Retries(Retry):
    """The remaining retries of a request: urllib3's `Retry` with a deadline.

    Retried are requests without a complete response, 429 responses, and 503 responses with Retry-After. The first
    retry is immediate unless the service sends Retry-After; further ones back off exponentially.

    Args:
        retries: the maximum number of retries.
        deadline: when the call must end, on the clock of `time.monotonic`. A retry that would have to wait longer is
            not made.
    """

    RETRY_AFTER_STATUS_CODES = frozenset({429, 503})

    def __init__(self, *, deadline: float, retries: int = 0, **options: Any) -> None:
        defaults = {
            "total": retries,
            "allowed_methods": None,  # any: all requests are idempotent
            "status_forcelist": {429},
            "backoff_factor": 0.2,
            "backoff_jitter": 0.2,
        }
        super().__init__(**{**defaults, **options})
        self.deadline = deadline

    def new(self, **changes: Any) -> Self:
        """Return a copy with changes; called by `Retry`."""
        return super().new(deadline=self.deadline, **changes)

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline; at least a millisecond."""
        return max(self.deadline - time.monotonic(), 1e-3)

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """Return a copy with one retry less.

        Raises:
            MaxRetryError: no retry is left, the deadline leaves no time for one, or TLS failed, which a retry would
                not change.
        """
        remaining = super().increment(method, url, response, error, _pool, _stacktrace)
        wait = (response and remaining.get_retry_after(response)) or remaining.get_backoff_time()
        if isinstance(error, SSLError) or wait >= self.seconds_left:
            raise MaxRetryError(_pool, url or "", error)  # type: ignore[arg-type]  # `Retry` passes no pool either
        return remaining

    def parse_retry_after(self, retry_after: str) -> float:
        """Return the seconds of a Retry-After header; 0, as without the header, if it is not valid."""
        try:
            return super().parse_retry_after(retry_after)
        except InvalidHeader:
            return 0.0


class Connection:
    """The connections to one service. Thread-safe.

    Args:
        address: the address of the service.
        key: the API key; None sends none.
        timeout: seconds for a request, including retries.
        retries: the maximum number of retries.

    Raises:
        InvalidRequest: the key is not valid, or a number is out of range.
    """

    def __init__(self, address: Address, key: str | None, timeout: float, retries: int) -> None:
        if not 0 < timeout < float("inf"):
            raise InvalidRequest(f"the timeout is {timeout}", "give a positive number of seconds")
        if retries < 0:
            raise InvalidRequest(f"retries is {retries}", "give the number of retries, 0 for none")
        self.address = address
        self._timeout, self._retries = timeout, retries
        self._headers = {"User-Agent": f"sceneseek-client/{__version__}", **authorization(key, address)}
        self._pool = urllib3.connection_from_url(address.origin, maxsize=_MAX_CONNECTIONS)

    def request(
        self, method: str, path: str, body: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send an idempotent request and return its successful response.

        Args:
            method: the HTTP method.
            path: relative to the address of the service.
            body: the body; None sends none.
            headers: additional headers.

        Raises:
            ServiceUnreachable: there is no response in time.
            SceneseekError: the error that the response reports.
        """
        retries_left = Retries(retries=self._retries, deadline=time.monotonic() + self._timeout)
        while True:
            try:
                response = self._send(method, path, body, headers or {}, retries_left)
                reply = _read(response, retries_left)
            except ClosedPoolError:
                raise InvalidRequest("the client is closed", "create a new one") from None
            except HTTPError as error:
                try:
                    retries_left = retries_left.increment(method, path, error=error)
                except MaxRetryError:
                    raise self._unreachable(error) from error
                retries_left.sleep()
                continue
            if not retries_left.is_retry(method, reply.status, reply.retry_after is not None):
                return self._raise_for_status(reply)
            try:
                retries_left = retries_left.increment(method, path, response)
            except MaxRetryError:
                return self._raise_for_status(reply)
            retries_left.sleep(response)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _send(
        self, method: str, path: str, body: Body | None, headers: Mapping[str, str], retries_left: Retries
    ) -> BaseHTTPResponse:
        content_type = {} if body is None else {"Content-Type": body.media_type}
        return self._pool.urlopen(
            method,
            self.address.prefix + path,
            None if body is None else body.content,
            {**self._headers, **content_type, **headers},
            retries=False,
            redirect=False,
            timeout=retries_left.seconds_left,
            preload_content=False,
        )

    def _raise_for_status(self, reply: Reply) -> Reply:
        if reply.status in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
            return reply
        raise error_of(reply, str(self.address))

    def _unreachable(self, error: HTTPError) -> ServiceUnreachable:
        """The error for a request without a complete response."""
        where = str(self.address)
        if isinstance(error, NameResolutionError):
            return ServiceUnreachable(f"the host of {where} is unknown", "check the address and the network")
        if isinstance(error, NewConnectionError):
            return ServiceUnreachable(f"nothing answers at {where}", "check the address, and that the service runs")
        if isinstance(error, RequestTimeout):
            hint = "try again later, or increase the timeout"
            return ServiceUnreachable(f"{where} has not answered within {self._timeout:g} s", hint)
        if isinstance(error, SSLError):
            hint = "check the address; SSL_CERT_FILE names the certificates to trust"
            return ServiceUnreachable(f"no trusted connection to {where} can be made ({error})", hint)
        hint = "check the address, and the log of the service"
        return ServiceUnreachable(f"the connection to {where} was lost before the response was complete", hint)


def _read(response: BaseHTTPResponse, retries_left: Retries) -> Reply:
    """Read the whole response and return the connection to the pool."""
    chunks = []
    try:
        while chunk := response.read1(_CHUNK_BYTES):
            chunks.append(chunk)
            if retries_left.expired:
                raise RequestTimeout("the response took too long")
    except HTTPError:
        response.close()
        raise
    finally:
        response.release_conn()
    return Reply(
        status=response.status,
        content=b"".join(chunks),
        media_type=response.headers.get("Content-Type", "").partition(";")[0].strip(),
        location=response.headers.get("Location", ""),
        retry_after=retries_left.get_retry_after(response),
    )
