"""The way to one Qdrant server: each request bounded in time, and tried again while that may help.

There are two ways. `ask` is REST through `RestClient`, for what a search asks. `call` is qdrant-client, by gRPC where
that is preferred, for everything else. On both a request that was lost is tried again at once, then with waits that
grow from a quarter of a second to ten, each by chance between half and the whole of it, so that several clients do not
come back at once. Every request is idempotent (points have ids of their own, a collection is created under a name that
nobody else uses), so trying again does no harm.
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

# The first whose collections have metadata, where a generation records what it is.
OLDEST = Version("1.16")
_HTTP_PORT, _GRPC_PORT = 6333, 6334
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 10.0
# Before a deadline, so that who waits gets the answer that there is none, and in time.
_MARGIN_SECONDS = 0.1
_GRPC_PROBE_SECONDS = 2.0
_RECOVERY_CHECK_SECONDS = 5.0
# A channel that has lost its server tries again within a second, and gives up an attempt that hangs after two.
_CHANNEL_OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.min_reconnect_backoff_ms": 2_000,
    "grpc.max_reconnect_backoff_ms": 1_000,
}
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")

_warned = threading.Event()


class Connection:
    """One server. Thread-safe.

    Args:
        url: ``http(s)://host:port``, without credentials.
        settings: see `QdrantSettings`.
        outage: of the same server, where there is another connection to it.

    Raises:
        InvalidRequest: the file of certificates holds none.
    """

    def __init__(self, url: str, settings: QdrantSettings, outage: Outage | None = None) -> None:
        self.url, self.settings = url, settings
        self._tls = _tls_context(url, settings)
        self._rest = RestClient(url, settings.api_key, self._tls)
        self.outage = outage or Outage(url)
        if settings.api_key and crosses_open_network(url) and not _warned.is_set():
            _warned.set()
            log.warning("the API key goes to %s without TLS: use https:, or a private network", url)
        self._client: QdrantClient | None = None
        self._guard = threading.Lock()
        self._recovery_checked, self._recovers = -_RECOVERY_CHECK_SECONDS, False

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        deadline: float | None = None,
        patience: float | None = None,
    ) -> Any:
        """The `result` of a REST request.

        Args:
            method: such as ``POST``.
            path: such as ``/collections/NAME/points/query``.
            document: sent as JSON; None for no body.
            deadline: when the caller has no use for the answer any more, on the clock of `time.monotonic`.
            patience: seconds over which to try again; `QdrantSettings.patience` if None.

        Raises:
            Refusal: it failed for good, or for longer than the patience, or until the deadline.
            DeadlinePassed: there was no time to ask.
        """

        def attempt(seconds: float) -> Any:
            # The server gives up then too, whole seconds being all it takes.
            timed = f"{path}?timeout={max(1, int(seconds))}"
            return self._rest.request(method, timed, document, seconds)

        return self._tried(attempt, patience, deadline)

    def call(self, request: Callable[[QdrantClient], Result], patience: float | None = None) -> Result:
        """The answer to a request by qdrant-client.

        Args:
            request: what to ask of the client; may run more than once.
            patience: seconds over which to try again; `QdrantSettings.patience` if None.

        Raises:
            IndexUnavailable: it failed for good, or for longer than that.
            Refusal: the collection is missing or exists.
        """
        return self._tried(lambda _: request(self._connected()), patience)

    def close(self) -> None:
        """Close all connections."""
        self._rest.forget()
        with self._guard:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _tried(
        self, attempt: Callable[[float], Result], patience: float | None, deadline: float | None = None
    ) -> Result:
        """The outcome of the first attempt that succeeds; each is given the seconds that it may take."""
        patience = self.settings.patience if patience is None else patience
        start, wait, tries = time.monotonic(), _FIRST_WAIT, 0
        while True:
            seconds: float = self.settings.timeout
            if deadline is not None:
                left = deadline - _MARGIN_SECONDS - time.monotonic()
                if left <= 0:
                    raise DeadlinePassed("the index could not be asked in time", "ask again a little later")
                # Half of it, so that a hanging node leaves time to try another one behind the same name.
                seconds = min(seconds, left if tries else left / 2)
            try:
                result = attempt(seconds)
            except FAILURES as error:
                tries += 1
                failure = self._understood(failure_of(error), seconds)
                lost = failure.kind in ("unreachable", "timeout")
                if lost:
                    self._rest.forget()  # what was opened to a server that is gone, or to its old address
                pause = max(wait * random.uniform(0.5, 1.0), failure.wait)  # noqa: S311 - no secret hangs on it
                if lost and tries == 1 and patience > 0:
                    pause = 0.0
                now = time.monotonic()
                ends = not failure.transient or (pause > 0 and now - start + pause > patience)
                if ends or (deadline is not None and now + pause >= deadline - _MARGIN_SECONDS):
                    raise self._refusal(failure, seconds) from error
                self.outage.failed(self._error(failure, seconds).what, patience)
                time.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT) if pause else wait
            else:
                self._answered()
                return result

    def _understood(self, failure: Failure, seconds: float) -> Failure:
        """A failure, with recovery mode recognised whatever words the operator gave the server for it.

        The server reports it as an internal error of each operation, which would be tried again in vain.
        """
        if failure.kind == "recovery":
            self._recovers = True
        if failure.kind != "broken":
            return failure
        now = time.monotonic()
        if now - self._recovery_checked >= _RECOVERY_CHECK_SECONDS:
            self._recovery_checked = now  # first, so that one thread asks and the others do not wait for it
            self._recovers = self._is_in_recovery(seconds)
        return Failure("recovery", failure.text) if self._recovers else failure

    def _is_in_recovery(self, seconds: float = 1.0) -> bool:
        try:
            telemetry = self._rest.request("GET", "/telemetry?details_level=1", None, min(seconds, 1.0))
            return telemetry["app"]["features"]["recovery_mode"] is True
        except (*FAILURES, KeyError, TypeError):  # the key may not allow it, or it is another version's
            return False

    def _answered(self) -> None:
        """The server answered, which ends an outage.

        Not in recovery mode: there it still lists aliases and collections, as the alias follower asks every second.
        """
        if self._recovers:
            self._recovers = self._is_in_recovery()
        if not self._recovers:
            self.outage.answered()

    def _refusal(self, failure: Failure, seconds: float) -> Refusal:
        error = self._error(failure, seconds)
        if error.retry_after is not None:
            self.outage.refused(str(error))
        elif failure.kind != "foreign":
            self._answered()  # it refuses this request; it is there
        return Refusal(failure, error)

    def _error(self, failure: Failure, seconds: float) -> IndexUnavailable:
        return failure.error(self.url, self.settings.api_key is not None, seconds)

    def _connected(self) -> QdrantClient:
        with self._guard:
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
                # As a header, which goes with both transports; the client's own argument warns where we log.
                headers={"api-key": settings.api_key} if settings.api_key else None,
                timeout=settings.timeout,
                check_compatibility=False,
                grpc_options=options,
                **more,
            )

    def _check_version(self, client: QdrantClient) -> None:
        answer = client.http.service_api.root()
        try:
            version = Version(answer.version)
        except InvalidVersion:
            raise IndexUnavailable(
                f"what answers at {self.url} does not say which Qdrant it is", "correct --index"
            ) from None
        if version < OLDEST:
            raise IndexUnavailable(
                f"the Qdrant server at {self.url} is version {version}, too old for this index",
                f"update it to {OLDEST} or newer",
            )
        log.info("the Qdrant server at %s is version %s", self.url, version)

    def _grpc_port(self) -> int | None:
        """The port to speak gRPC with; None to stay with HTTP."""
        settings, parts = self.settings, urlsplit(self.url)
        if settings.prefer_grpc == "no":
            return None
        port = settings.grpc_port
        if not port and (parts.port in (None, _HTTP_PORT) or settings.prefer_grpc == "yes"):
            # At another port than the usual one, the usual gRPC port may be another server's.
            port = _GRPC_PORT
        answers = bool(port) and not parts.path.strip("/") and self._answers_grpc(str(parts.hostname), port)
        if settings.prefer_grpc == "yes" and not answers:
            raise IndexUnavailable(
                f"the Qdrant server at {self.url} does not answer gRPC at port {port}",
                "open the port, name it in SCENESEEK_QDRANT_GRPC_PORT, or set SCENESEEK_QDRANT_PREFER_GRPC=auto",
            )
        log.info("%s is asked by %s", self.url, f"gRPC at port {port}" if answers else "HTTP")
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


class Refusal(IndexUnavailable):
    """A request that failed; `failure` says how, for those who can go on without its answer."""

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
            f"SCENESEEK_QDRANT_CA_CERT names {settings.ca_cert}, which holds no certificate ({error})",
            "name a PEM file",
        ) from error


def crosses_open_network(url: str) -> bool:
    """Whether what is sent to a URL goes without TLS and maybe through a network that is not private.

    Private are addresses of private ranges and of this machine, names without a dot (those of a container network or of
    a machine nearby), and names under the suffixes that are reserved for private use.
    """
    parts = urlsplit(url)
    host = str(parts.hostname)
    if parts.scheme == "https":
        return False
    try:
        return not ipaddress.ip_address(host).is_private
    except ValueError:
        return "." in host and not host.endswith(_PRIVATE_SUFFIXES)
