"""Classifies failed requests to a Qdrant server (whether to retry, which error to raise) and logs outages.

It handles HTTP responses (status and body), gRPC errors (code and details), and network errors (refused connections,
names that do not resolve, TLS, timeouts).
"""

from __future__ import annotations

import json
import logging
import math
import ssl
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Literal, TypeAlias

import grpc
import httpx
import urllib3.exceptions
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from sceneseek.errors import IndexUnavailable

log = logging.getLogger(__name__)

# Shorter outages are not logged.
QUIET_SECONDS, REPORT_EVERY = 2.0, 30.0

Kind: TypeAlias = Literal[
    "unreachable",
    "tls",
    "timeout",
    "overloaded",
    "key",
    "full",
    "locked",
    "recovery",
    "missing",
    "exists",
    "refused",
    "broken",
    "foreign",
]
TRANSIENT: frozenset[Kind] = frozenset({"unreachable", "timeout", "overloaded", "broken"})
# Failures of the request or the collection, not of the server: other requests may succeed.
_OF_ONE_REQUEST: frozenset[Kind] = frozenset({"missing", "exists", "refused"})
# `retry_after` of a failure that an operator must repair.
_UNTIL_REPAIRED_SECONDS = 30.0
# The exceptions of qdrant-client; any other is a bug.
FAILURES = (
    *(ApiException, ResourceExhaustedResponse, grpc.RpcError, httpx.HTTPError),
    *(json.JSONDecodeError, UnicodeDecodeError),  # if the response is not JSON
)

_STATUSES: dict[int, Kind] = {
    401: "key",
    403: "key",
    404: "missing",
    408: "timeout",
    409: "exists",
    423: "locked",
    429: "overloaded",
    507: "full",
}
_CODES: dict[grpc.StatusCode, Kind] = {
    grpc.StatusCode.UNAVAILABLE: "unreachable",
    grpc.StatusCode.DEADLINE_EXCEEDED: "timeout",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "overloaded",
    grpc.StatusCode.ABORTED: "broken",
    grpc.StatusCode.INTERNAL: "broken",
    grpc.StatusCode.UNKNOWN: "broken",
    grpc.StatusCode.CANCELLED: "broken",
    grpc.StatusCode.DATA_LOSS: "broken",
    grpc.StatusCode.UNAUTHENTICATED: "key",
    grpc.StatusCode.PERMISSION_DENIED: "key",
    grpc.StatusCode.NOT_FOUND: "missing",
    grpc.StatusCode.ALREADY_EXISTS: "exists",
}
_AGAIN = "run the same command again once it is back"
_FULL = ("no space left", "not enough space", "out of disk", "disk is full")
_LOCKED = ("read-only", "read only", "write operations are forbidden", "locked")
# The second is the text of the Docker image's entry point; operators may set another, see `Connection`.
_RECOVERY = ("recovery mode", "killed during initialization")


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed request.

    Attributes:
        kind: the class of the failure.
        text: the message of the server or the system.
        wait: the seconds before a retry that the server asks for; 0 if it does not.
    """

    kind: Kind
    text: str
    wait: float = 0.0

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed soon."""
        return self.kind in TRANSIENT

    @property
    def retry_after(self) -> float | None:
        """Seconds after which a client may retry; None if the server works, or is not Qdrant."""
        if self.kind in _OF_ONE_REQUEST or self.kind == "foreign":
            return None
        return max(1.0, self.wait) if self.transient else _UNTIL_REPAIRED_SECONDS

    def error(self, url: str, with_key: bool, timeout: float) -> IndexUnavailable:
        """The error to raise.

        Args:
            url: of the server.
            with_key: whether the request had a key.
            timeout: of the request, in seconds.
        """
        refuses = "refuses the API key" if with_key else "requires an API key"
        what, hint = {
            "unreachable": (
                f"no Qdrant server answers at {url} ({self.text})",
                f"start it or correct --index; {_AGAIN}",
            ),
            "tls": (
                f"the TLS connection to {url} fails ({self.text})",
                "set SCENESEEK_QDRANT_CA_CERT to the certificate of its authority, or use http: if it has no TLS",
            ),
            "timeout": (
                f"the Qdrant server at {url} does not answer within {timeout:.2g} s",
                "check its load, or increase SCENESEEK_QDRANT_TIMEOUT (searches: SCENESEEK_QDRANT_QUERY_TIMEOUT); "
                + _AGAIN,
            ),
            "overloaded": (f"the Qdrant server at {url} is overloaded ({self.text})", _AGAIN),
            "key": (
                f"the Qdrant server at {url} {refuses} ({self.text})",
                "set SCENESEEK_QDRANT_API_KEY to a key that may do this (indexing requires write access)",
            ),
            "full": (
                f"the disk of the Qdrant server at {url} is full ({self.text})",
                f"free space there; {_AGAIN}",
            ),
            "locked": (
                f"the Qdrant server at {url} does not accept writes ({self.text})",
                f"end its read-only mode; {_AGAIN}",
            ),
            "recovery": (
                f"the Qdrant server at {url} is in recovery mode and accepts no searches or writes ({self.text})",
                f"it was killed at startup, most likely for lack of memory: give it more and restart it; {_AGAIN}",
            ),
            "missing": (f"the Qdrant server at {url} has lost a collection ({self.text})", "index the folder again"),
            "exists": (f"the Qdrant server at {url} already has this collection ({self.text})", "try again"),
            "refused": (f"the Qdrant server at {url} refuses the request ({self.text})", "see its log"),
            "foreign": (f"the server at {url} is not a Qdrant server ({self.text})", "correct --index"),
            "broken": (f"the Qdrant server at {url} fails ({self.text})", f"see its log; {_AGAIN}"),
        }[self.kind]
        return IndexUnavailable(what, hint, self.retry_after)


def failure_of(error: Exception) -> Failure:
    """Classify one of `FAILURES`."""
    if isinstance(error, UnexpectedResponse):
        text = _body(error)
        status = error.status_code or 0
        kind = _STATUSES.get(status) or ("broken" if status >= 500 else "refused")
        if kind in ("missing", "exists", "refused") and not _is_qdrants(error):
            return Failure("foreign", f"{status}: {text}")
        retry_after = error.headers.get("retry-after", "") if error.headers else ""
        return Failure(_by_text(kind, text), f"{status}: {text}", _seconds(retry_after))
    if isinstance(error, ResourceExhaustedResponse):
        return Failure("overloaded", _short(str(error)), float(error.retry_after_s or 0))
    if isinstance(error, grpc.RpcError):
        code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
        details = (error.details() if isinstance(error, grpc.Call) else None) or str(code.name)
        kind = _CODES.get(code, "refused")
        if kind == "unreachable" and _about_tls(details):
            kind = "tls"
        return Failure(_by_text(kind, details), _short(f"{code.name}: {details}"))
    source = error.source if isinstance(error, ResponseHandlingException) else error
    return _below(source)


def _below(error: Exception) -> Failure:
    """Classify an error of httpx, urllib3 or the system, or a response that is not Qdrant's."""
    cause = error.__cause__ or error  # urllib3 wraps the system's error, and begins its text with an object's repr
    text = _short(str(cause) or type(cause).__name__)
    if isinstance(error, httpx.ConnectTimeout | urllib3.exceptions.ConnectTimeoutError):
        return Failure("unreachable", text)
    if isinstance(error, httpx.TimeoutException | urllib3.exceptions.TimeoutError | TimeoutError):
        return Failure("timeout", text)
    if isinstance(error, ssl.SSLError):
        return Failure("unreachable" if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) else "tls", text)
    if isinstance(error, httpx.TransportError | urllib3.exceptions.HTTPError | HTTPException | OSError):
        return Failure("tls" if _about_tls(text) else "unreachable", text)
    return Failure("foreign", "its response is not that of Qdrant")


def _about_tls(text: str) -> bool:
    """Whether a connection failed because of TLS.

    The word "handshake" is no sign of it: gRPC reports "tcp handshaker shutdown" for connections without TLS.
    """
    return any(word in text for word in ("SSL", "TLS", "CERTIFICATE", "certificate")) and "EOF" not in text


def _by_text(kind: Kind, text: str) -> Kind:
    """Refine the class of a failure: the server reports a full disk and recovery mode as internal errors."""
    lowered = text.lower()
    if any(words in lowered for words in _FULL):
        return "full"
    if kind in ("broken", "refused", "key") and any(words in lowered for words in _RECOVERY):
        return "recovery"
    if kind in ("broken", "refused", "key") and any(words in lowered for words in _LOCKED):
        return "locked"
    if kind in ("broken", "refused"):
        if "already exists" in lowered:
            return "exists"
        if "not found" in lowered and "collection" in lowered:
            return "missing"
    return kind


def _body(error: UnexpectedResponse) -> str:
    """The error message in the body of an HTTP response."""
    try:
        status = error.structured()["status"]
        text = status["error"] if isinstance(status, dict) else str(status)
    except (ValueError, KeyError, TypeError):
        text = (error.content or b"").decode("utf-8", "replace") or error.reason_phrase or "no reason given"
    return _short(str(text))


def _is_qdrants(error: UnexpectedResponse) -> bool:
    """Whether a response is Qdrant's: its errors are JSON objects with these members."""
    try:
        document: object = error.structured()
    except (ValueError, TypeError):
        return False
    return isinstance(document, dict) and "status" in document and "time" in document


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0


class Outage:
    """Logs the outages of a server: when they begin, at intervals while they last, and when they end. Thread-safe.

    In an outage every request fails, hundreds per second in a busy service; a line for each would flood the log.

    Args:
        url: of the server, for messages.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._lasts = False
        self._since = 0.0
        self._reported = -math.inf
        self._refused = 0

    def failed(self, what: str, patience: float) -> None:
        """Record a failed request that is retried.

        Args:
            what: the reason, a clause that names the server.
            patience: seconds for retries.
        """
        with self._lock:
            seconds = self._seconds()
            if seconds >= QUIET_SECONDS and self._is_due():
                log.warning("%s: trying again for up to %.0f s, down for %.0f s", what, patience, seconds)

    def refused(self, what: str) -> None:
        """Record a failed request that is not retried.

        Its caller reports the first such failure. A second one without a success in between is an outage.
        """
        with self._lock:
            seconds = self._seconds()
            self._refused += 1
            if self._refused > 1 and self._is_due():
                log.error("%s; failing for %.0f s, %d requests so far", what, seconds, self._refused)

    def answered(self) -> None:
        """Record a successful request; cheap if there is no outage."""
        if not self._lasts:
            return
        with self._lock:
            reported = self._reported > -math.inf
            self._lasts, self._reported = False, -math.inf
            seconds, refused = time.monotonic() - self._since, self._refused
        if reported:
            message = "the Qdrant server at %s answers again, after %.1f s; %d requests failed"
            log.warning(message, self._url, seconds, refused)

    def _seconds(self) -> float:
        """Seconds since the outage began, which is now if there was none."""
        now = time.monotonic()
        if not self._lasts:
            self._lasts, self._since, self._reported, self._refused = True, now, -math.inf, 0
        return now - self._since

    def _is_due(self) -> bool:
        """Whether a log line is due, which the caller then writes."""
        now = time.monotonic()
        due = now - self._reported >= REPORT_EVERY
        if due:
            self._reported = now
        return due
