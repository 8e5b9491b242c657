"""Requests to one Qdrant server, with timeouts and retries.

`request` uses REST through `RestClient` and is for searches. `call` uses qdrant-client, by gRPC if preferred, for
everything else. Both retry a lost request immediately, then with exponential backoff from 0.25 to 10 s. Each wait is
between half and all of the backoff, at random, so that clients do not retry simultaneously. All requests are idempotent
(points have unique ids, and new collections unique names), so retries are safe.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import ssl
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
import httpx
from packaging.version import InvalidVersion, Version
from qdrant_client import QdrantClient

from sceneseek.errors import DeadlinePassed, IndexUnavailable, InvalidRequest
from sceneseek.store.qdrant.failure import FAILURES, Failure, Outage, failure_of
from sceneseek.store.qdrant.rest import RestClient
from sceneseek.store.qdrant.settings import QdrantSettings

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# The first version whose collections have metadata, where the record of a generation is.
OLDEST = Version("1.16")
_HTTP_PORT, _GRPC_PORT = 6333, 6334
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 10.0
# Before a deadline, so that the error reaches the caller in time.
_MARGIN_SECONDS = 0.1
_GRPC_PROBE_SECONDS = 2.0
_RECOVERY_CHECK_SECONDS = 5.0
# A channel that has lost its server reconnects within a second, and each attempt times out after two.
_CHANNEL_OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.min_reconnect_backoff_ms": 2_000,
    "grpc.max_reconnect_backoff_ms": 1_000,
}
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")

_warned = threading.Event()


class Connection:
    """The connections to one server. Thread-safe.

    Args:
        url: ``http(s)://host:port``, without credentials.
        settings: see `QdrantSettings`.
        outage: shared with another connection to the same server; None creates one.

    Raises:
        InvalidRequest: the certificate file contains no certificate.
    """

    def __init__(self, url: str, settings: QdrantSettings, outage: Outage | None = None) -> None:
        self.url, self.settings = url, settings
        self._tls = _tls_context(url, settings)
        self._rest = RestClient(url, settings.api_key, self._tls)
        self.outage = outage or Outage(url)
        if settings.api_key and crosses_open_network(url) and not _warned.is_set():
            _warned.set()
            log.warning("the API key is sent to %s without TLS: use https:, or a private network", url)
        self._client: QdrantClient | None = None
        self._client_lock = threading.Lock()
        self._recovery_checked, self._in_recovery = -_RECOVERY_CHECK_SECONDS, False

    def request(
        self,
        method: str,
        path: str,
        document: Any = None,
        deadline: float | None = None,
        patience: float | None = None,
    ) -> Any:
        """Send a REST request and return the `result` of its response.

        Args:
            method: such as ``POST``.
            path: such as ``/collections/NAME/points/query``.
            document: sent as JSON; None for no body.
            deadline: when the caller stops waiting, on the clock of `time.monotonic`.
            patience: seconds for retries; None for `QdrantSettings.patience`.

        Raises:
            RequestFailed: it cannot succeed, or all retries failed.
            DeadlinePassed: there was no time to send it.
        """

        def attempt(seconds: float) -> Any:
            # The timeout of the server, in whole seconds.
            timed = f"{path}?timeout={max(1, int(seconds))}"
            return self._rest.request(method, timed, document, seconds)

        return self._retried(attempt, patience, deadline)

    def call(self, request: Callable[[QdrantClient], Result], patience: float | None = None) -> Result:
        """Send a request through qdrant-client and return its result.

        Args:
            request: called with the client; may run more than once.
            patience: seconds for retries; None for `QdrantSettings.patience`.

        Raises:
            RequestFailed: it cannot succeed, or all retries failed.
        """
        return self._retried(lambda _: request(self._connected()), patience)

    def close(self) -> None:
        """Close all connections."""
        self._rest.forget()
        with self._client_lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _retried(
        self, attempt: Callable[[float], Result], patience: float | None, deadline: float | None = None
    ) -> Result:
        """The result of the first successful attempt; each is called with its timeout in seconds."""
        patience = self.settings.patience if patience is None else patience
        start, wait, tries = time.monotonic(), _FIRST_WAIT, 0
        while True:
            seconds: float = self.settings.timeout
            if deadline is not None:
                left = deadline - _MARGIN_SECONDS - time.monotonic()
                if left <= 0:
                    raise DeadlinePassed("no time was left to search the index", "try again later")
                # Half of it first, so that if a node hangs, there is time to try another one with the same host name.
                seconds = min(seconds, left if tries else left / 2)
            try:
                result = attempt(seconds)
            except FAILURES as error:
                tries += 1
                failure = self._with_recovery_mode(failure_of(error), seconds)
                lost = failure.kind in ("unreachable", "timeout")
                if lost:
                    self._rest.forget()  # the server, or its old address, is gone
                pause = max(wait * random.uniform(0.5, 1.0), failure.wait)  # noqa: S311 - not a secret
                if lost and tries == 1 and patience > 0:
                    pause = 0.0
                now = time.monotonic()
                ends = not failure.transient or (pause > 0 and now - start + pause > patience)
                if ends or (deadline is not None and now + pause >= deadline - _MARGIN_SECONDS):
                    raise self._request_failed(failure, seconds) from error
                self.outage.failed(self._error(failure, seconds).what, patience)
                time.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT) if pause else wait
            else:
                self._record_response()
                return result

    def _with_recovery_mode(self, failure: Failure, seconds: float) -> Failure:
        """Recognise recovery mode, which the server reports as an internal error, with a text chosen by its operator.

        Retries would be useless.
        """
        if failure.kind == "recovery":
            self._in_recovery = True
        if failure.kind != "broken":
            return failure
        now = time.monotonic()
        if now - self._recovery_checked >= _RECOVERY_CHECK_SECONDS:
            self._recovery_checked = now  # first, so that other threads do not send the request too
            self._in_recovery = self._reports_recovery_mode(seconds)
        return Failure("recovery", failure.text) if self._in_recovery else failure

    def _reports_recovery_mode(self, seconds: float = 1.0) -> bool:
        try:
            telemetry = self._rest.request("GET", "/telemetry?details_level=1", None, min(seconds, 1.0))
            return telemetry["app"]["features"]["recovery_mode"] is True
        except (*FAILURES, KeyError, TypeError):  # the key may not allow it, or another version has other telemetry
            return False

    def _record_response(self) -> None:
        """End an outage, as the server has responded.

        Not in recovery mode, where requests for aliases and collections, which the alias follower sends every second,
        still succeed.
        """
        if self._in_recovery:
            self._in_recovery = self._reports_recovery_mode()
        if not self._in_recovery:
            self.outage.answered()

    def _request_failed(self, failure: Failure, seconds: float) -> RequestFailed:
        error = self._error(failure, seconds)
        if error.retry_after is not None:
            self.outage.refused(str(error))
        elif failure.kind != "foreign":
            self._record_response()  # the server works, and rejected this request
        return RequestFailed(failure, error)

    def _error(self, failure: Failure, seconds: float) -> IndexUnavailable:
        return failure.error(self.url, self.settings.api_key is not None, seconds)

    def _connected(self) -> QdrantClient:
        with self._client_lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> QdrantClient:
        client = self._open(grpc_port=None)
        try:
            self._check_version(client)
            grpc_port = self._grpc_port()
        except BaseException:
            client.close()
            raise
        if grpc_port is None:
            return client
        client.close()
        return self._open(grpc_port)

    def _open(self, grpc_port: int | None) -> QdrantClient:
        settings, parts = self.settings, urlsplit(self.url)
        options: dict[str, Any] = dict(_CHANNEL_OPTIONS)
        more: dict[str, Any] = {}
        if self._tls is not None:
            more["verify"] = self._tls
            if settings.ca_cert is not None:
                options["root_certificates"] = settings.ca_cert.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return QdrantClient(
                url=self.url,
                port=443 if parts.scheme == "https" and parts.port is None else parts.port or _HTTP_PORT,
                grpc_port=grpc_port or _GRPC_PORT,
                prefer_grpc=grpc_port is not None,
                # A header works with both transports; with the client's own argument it warns, where we log.
                headers={"api-key": settings.api_key} if settings.api_key else None,
                timeout=settings.timeout,
                check_compatibility=False,
                grpc_options=options,
                **more,
            )

    def _check_version(self, client: QdrantClient) -> None:
        response = client.http.service_api.root()
        try:
            version = Version(response.version)
        except InvalidVersion:
            raise IndexUnavailable(f"the server at {self.url} reports no Qdrant version", "correct --index") from None
        if version < OLDEST:
            raise IndexUnavailable(
                f"the Qdrant server at {self.url} is version {version}, too old for this index",
                f"update it to {OLDEST} or newer",
            )
        log.info("the Qdrant server at %s is version %s", self.url, version)

    def _grpc_port(self) -> int | None:
        """The gRPC port; None to use HTTP."""
        settings, parts = self.settings, urlsplit(self.url)
        if settings.prefer_grpc == "no":
            return None
        port = settings.grpc_port
        if not port and (parts.port in (None, _HTTP_PORT) or settings.prefer_grpc == "yes"):
            # If the HTTP port is not the default, the default gRPC port may belong to another server.
            port = _GRPC_PORT
        answers = bool(port) and not parts.path.strip("/") and self._answers_grpc(str(parts.hostname), port)
        if settings.prefer_grpc == "yes" and not answers:
            raise IndexUnavailable(
                f"the Qdrant server at {self.url} does not answer gRPC at port {port}",
                "open the port, set another SCENESEEK_QDRANT_GRPC_PORT, or set SCENESEEK_QDRANT_PREFER_GRPC=auto",
            )
        log.info("requests to %s use %s", self.url, f"gRPC at port {port}" if answers else "HTTP")
        return port if answers else None

    def _answers_grpc(self, host: str, port: int) -> bool:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self.url.startswith("https:"):
            ca_cert = self.settings.ca_cert
            credentials = grpc.ssl_channel_credentials(ca_cert.read_bytes() if ca_cert else None)
            channel = grpc.secure_channel(address, credentials)
        else:
            channel = grpc.insecure_channel(address)
        try:
            grpc.channel_ready_future(channel).result(timeout=_GRPC_PROBE_SECONDS)
        except grpc.FutureTimeoutError:
            return False
        finally:
            channel.close()
        return True


class RequestFailed(IndexUnavailable):
    """A request that failed; `failure` is its class, for callers that handle some kinds."""

    def __init__(self, failure: Failure, error: IndexUnavailable) -> None:
        super().__init__(error.what, error.hint, error.retry_after)
        self.transient = failure.transient or failure.kind == "recovery"
        self.failure = failure


def _tls_context(url: str, settings: QdrantSettings) -> ssl.SSLContext | None:
    if not url.startswith("https:"):
        return None
    if settings.ca_cert is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=settings.ca_cert)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(
            f"the file {settings.ca_cert} of SCENESEEK_QDRANT_CA_CERT contains no certificate ({error})",
            "set it to a PEM file",
        ) from error


def crosses_open_network(url: str) -> bool:
    """Whether requests to a URL have no TLS and may cross a network that is not private.

    Private are addresses of private ranges and of this machine, names without a dot (of a container network or a local
    machine), and names under suffixes that are reserved for private use.
    """
    parts = urlsplit(url)
    host = str(parts.hostname)
    if parts.scheme == "https":
        return False
    try:
        return not ipaddress.ip_address(host).is_private
    except ValueError:
        return "." in host and not host.endswith(_PRIVATE_SUFFIXES)
