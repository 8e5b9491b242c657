"""The way to one Qdrant server: connected at the first request, each request tried again while that may help.

Every request here is idempotent (points have ids of their own, a collection is created under a name that
nobody else uses), so trying again does no harm. Waits grow from a quarter of a second to ten, each by
chance between half and the whole of it, so that several clients do not come back at once.
"""

from __future__ import annotations

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
from packaging.version import InvalidVersion, Version
from qdrant_client import QdrantClient

from sceneseek.errors import IndexUnavailable, InvalidRequest
from sceneseek.store.qdrant.failure import FAILURES, Failure, Kind, failure_of
from sceneseek.store.qdrant.outage import Outage
from sceneseek.store.qdrant.settings import QdrantSettings

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# The first whose collections have metadata, where a generation records what it is.
OLDEST = Version("1.16")
_HTTP_PORT, _GRPC_PORT = 6333, 6334
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 10.0
_GRPC_PROBE_SECONDS = 2.0


class Connection:
    """One server. Thread-safe.

    Args:
        url: ``http(s)://host:port``, without credentials.
        settings: see `QdrantSettings`.
        client: an open client to use in place of one that is made here (its in-process mode, in tests).
    """

    def __init__(self, url: str, settings: QdrantSettings, client: QdrantClient | None = None) -> None:
        self.url, self.settings = url, settings
        self.in_process = client is not None
        self._client = client
        self._guard = threading.Lock()
        self._outage = Outage(url)

    def call(self, request: Callable[[QdrantClient], Result], patience: float | None = None) -> Result:
        """The answer to a request.

        Args:
            request: what to ask of the client; may run more than once.
            patience: seconds over which to try again; `QdrantSettings.patience` if None.

        Raises:
            IndexUnavailable: it failed for good, or for longer than that.
            Refusal: the collection is missing or exists.
        """
        patience = self.settings.patience if patience is None else patience
        if self.in_process:  # which is not made for several threads
            with self._guard:
                return self._call_in_process(request)
        start, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                answer = request(self._connected())
            except FAILURES as error:
                failure = failure_of(error)
                pause = max(wait * random.uniform(0.5, 1.0), failure.wait)  # noqa: S311 - no secret hangs on it
                if not failure.transient or time.monotonic() - start + pause > patience:
                    raise self._told(failure) from error
                self._outage.failed(self._told(failure).what, patience)
                time.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                self._outage.answered()
                return answer

    def _call_in_process(self, request: Callable[[QdrantClient], Result]) -> Result:
        assert self._client is not None  # noqa: S101 - it was given
        try:
            return request(self._client)
        except ValueError as error:
            # Its way to say what a server says with 404 and 409.
            if "not found" not in str(error) and "already exists" not in str(error):
                raise
            kind: Kind = "missing" if "not found" in str(error) else "exists"
            raise self._told(Failure(kind, str(error))) from error

    def close(self) -> None:
        """Let go of the server."""
        with self._guard:
            if self._client is not None and not self.in_process:
                self._client.close()
                self._client = None

    def _told(self, failure: Failure) -> Refusal:
        return Refusal(failure, failure.error(self.url, self.settings.api_key is not None, self.settings.timeout))

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
        more: dict[str, Any] = {}
        if parts.scheme == "https" and settings.ca_cert is not None:
            try:
                more["verify"] = ssl.create_default_context(cafile=settings.ca_cert)
            except (OSError, ssl.SSLError) as error:
                raise InvalidRequest(
                    f"SCENESEEK_QDRANT_CA_CERT names {settings.ca_cert}, which holds no certificate ({error})",
                    "name a PEM file",
                ) from error
            more["grpc_options"] = {"root_certificates": settings.ca_cert.read_bytes()}
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
        if self.settings.api_key and self.url.startswith("http:"):
            log.warning("the API key goes to %s without TLS", self.url)

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

    def __init__(self, failure: Failure, told: IndexUnavailable) -> None:
        super().__init__(told.what, told.hint)
        self.failure = failure
        self.transient = failure.transient
