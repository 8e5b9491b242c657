"""A REST client for a Qdrant server, with a strict timeout per request.

Queries use REST and not gRPC: a gRPC channel that has lost its server backs off, and queries would wait for it. This
client opens a new connection immediately, after a new DNS lookup. Unlike the REST client of `qdrant_client`, it has a
timeout per request, in fractions of a second, and takes 0.3 instead of 0.8 ms per query.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
import weakref
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import httpx
import urllib3
from pydantic_core import from_json, to_json
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from sceneseek import __version__

_HTTP_PORT, _HTTPS_PORT = 6333, 443
_CHUNK_BYTES = 1 << 16


class RestClient:
    """A pool of connections to one server. Thread-safe.

    Args:
        url: ``http(s)://host:port``, optionally with a path prefix.
        api_key: sent with every request.
        tls: for an ``https:`` URL.
    """

    def __init__(self, url: str, api_key: str | None, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        self._host, self._prefix, self._tls = str(parts.hostname), parts.path.rstrip("/"), tls
        self._port = parts.port or (_HTTPS_PORT if tls else _HTTP_PORT)
        self._headers = {"Content-Type": "application/json", "User-Agent": f"sceneseek/{__version__}"}
        if api_key:
            self._headers["api-key"] = api_key
        self._idle: list[HTTPConnection] = []
        weakref.finalize(self, _close, self._idle)

    def request(self, method: str, path: str, document: Any, seconds: float) -> Any:
        """Send a request and return the `result` of its response.

        Args:
            method: such as ``POST``.
            path: such as ``/collections/NAME/points/query``.
            document: sent as JSON; None for no body.
            seconds: timeout of the whole request, from the DNS lookup to the last byte of the response.

        Raises:
            UnexpectedResponse: the response is an error.
            ResponseHandlingException: there is no response in time, or it is not that of a Qdrant server.
        """
        until = time.monotonic() + seconds
        try:
            connection = self._connected(until)
            try:
                response, content = self._exchange(connection, method, path, document, until)
            except BaseException:
                connection.close()
                raise
            if connection.sock is not None:  # else the server has closed it
                self._idle.append(connection)
            if response.status != 200:
                headers = httpx.Headers(list(response.headers.items()))
                raise UnexpectedResponse(response.status, response.reason or "", content, headers)
            body = from_json(content)
            if not {"result", "status", "time"} <= body.keys():
                raise ValueError("the response is not Qdrant's")
            return body["result"]
        except (HTTPError, HTTPException, OSError, ValueError, AttributeError) as error:
            raise ResponseHandlingException(error) from error

    def forget(self) -> None:
        """Close the idle connections."""
        _close(self._idle)

    def _exchange(
        self, connection: HTTPConnection, method: str, path: str, document: Any, until: float
    ) -> tuple[urllib3.HTTPResponse, bytes]:
        body = None if document is None else to_json(document)
        self._limit(connection, until)
        connection.request(method, self._prefix + path, body, self._headers, preload_content=False)
        self._limit(connection, until)
        response = connection.getresponse()
        chunks = []
        while chunk := response.read1(_CHUNK_BYTES):
            chunks.append(chunk)
            self._limit(connection, until)
        return response, b"".join(chunks)

    def _connected(self, until: float) -> HTTPConnection:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if connection.is_connected:
                return connection
            connection.close()
        return self._opened(until)

    def _opened(self, until: float) -> HTTPConnection:
        """Open a connection in a new thread.

        The system's DNS lookup has no timeout, and takes ten seconds or more if a name server does not answer, as in a
        container network without internet for a stopped container. If it is too late, the thread closes the connection.
        """
        connection = self._new(until)
        opened: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        too_late = threading.Event()

        def open_it() -> None:
            try:
                connection.connect()
            except Exception as error:  # noqa: BLE001 - raised in the waiting thread
                opened.put(error)
            else:
                opened.put(None)
            if too_late.is_set():
                connection.close()

        threading.Thread(target=open_it, name="connect-qdrant", daemon=True).start()
        try:
            error = opened.get(timeout=max(until - time.monotonic(), 0.0))
        except queue.Empty:
            too_late.set()
            if not opened.empty():
                connection.close()
            raise ConnectionError(f"no connection to {self._host}:{self._port} in time") from None
        if error is not None:
            connection.close()
            raise error
        return connection

    def _new(self, until: float) -> HTTPConnection:
        timeout = max(until - time.monotonic(), 0.001)
        if self._tls is not None:
            return HTTPSConnection(self._host, self._port, timeout=timeout, ssl_context=self._tls)
        return HTTPConnection(self._host, self._port, timeout=timeout)

    @staticmethod
    def _limit(connection: HTTPConnection, until: float) -> None:
        """Limit the next socket operation to the remaining time.

        Raises:
            TimeoutError: no time is left.
        """
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.timeout = left
        if connection.sock is not None:
            connection.sock.settimeout(left)


def _close(connections: list[HTTPConnection]) -> None:
    while connections:
        try:
            connections.pop().close()
        except IndexError:  # another thread took the last one
            return
