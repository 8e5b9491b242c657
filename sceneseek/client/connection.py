"""Requests to one service: sent over kept connections, in time, and again where that may help.

What comes out is a reply that is a success, or an error of ours. Redirects are not followed. It knows nothing of what
is asked or answered.
"""

from __future__ import annotations

import time
from http import HTTPStatus

import urllib3
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import (
    ClosedPoolError,
    HTTPError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as TooLate

from sceneseek import __version__
from sceneseek.client.address import Address, authorization
from sceneseek.client.patience import Patience
from sceneseek.client.problems import problem_of
from sceneseek.client.query import Body
from sceneseek.client.reply import Reply
from sceneseek.errors import InvalidRequest, ServiceUnreachable

# Further threads connect anew for each request.
_CONNECTIONS_KEPT = 32
_PART_BYTES = 1 << 16


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
        self._pool = urllib3.connection_from_url(address.origin, maxsize=_CONNECTIONS_KEPT)

    def ask(self, method: str, path: str, body: Body | None = None) -> Reply:
        """The answer to a request that does no harm if it comes twice.

        Raises:
            ServiceUnreachable: there is none, or not in time.
            SceneseekError: it is that error.
        """
        patience = Patience(retries=self._retries, until=time.monotonic() + self._timeout)
        while True:
            try:
                response = self._send(method, path, body, patience)
                reply = _read(response, patience)
            except ClosedPoolError:
                raise InvalidRequest("the client is closed", "make another one") from None
            except HTTPError as error:
                try:
                    patience = patience.increment(method, path, error=error)
                except MaxRetryError:
                    raise self._unreachable(error) from error
                patience.sleep()
                continue
            if not patience.is_retry(method, reply.status, reply.retry_after is not None):
                return self._success(reply)
            try:
                patience = patience.increment(method, path, response)
            except MaxRetryError:
                return self._success(reply)
            patience.sleep(response)

    def close(self) -> None:
        """End the connections."""
        self._pool.close()

    def _send(self, method: str, path: str, body: Body | None, patience: Patience) -> BaseHTTPResponse:
        headers = self._headers if body is None else {**self._headers, "Content-Type": body.media_type}
        return self._pool.urlopen(
            method,
            self.address.prefix + path,
            None if body is None else body.content,
            headers,
            retries=False,
            redirect=False,
            timeout=patience.left,
            preload_content=False,
        )

    def _success(self, reply: Reply) -> Reply:
        if reply.status in (HTTPStatus.OK, HTTPStatus.CREATED):
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


def _read(response: BaseHTTPResponse, patience: Patience) -> Reply:
    """The whole answer; the connection is free for others then."""
    parts = []
    try:
        while part := response.read1(_PART_BYTES):
            parts.append(part)
            if patience.over:
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
        retry_after=patience.get_retry_after(response),
    )
