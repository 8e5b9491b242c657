"""Instrumentation of the application: request ids, timings, metrics and the access log.

`instrument` installs it. Views call `record_stages`, error handlers `record_problem`; the rest is measured by a WSGI
middleware around the whole application, so that every failure is recorded. Searches are private: records contain no
query, and no request header except the request id.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response, g, request

from sceneseek.errors import TryAgain
from sceneseek.logs import log_fields
from sceneseek_server.metrics import Metrics

# One line per request.
access = logging.getLogger("sceneseek.access")

# Safe in a header, in a log and on a command line.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
# Polled often, so only failures are logged.
_POLLED = {"/healthz", "/readyz", "/metrics"}
UNMATCHED = "unmatched"


@dataclass(slots=True)
class RequestRecord:
    """A request and its response.

    Attributes:
        id: the client's `X-Request-ID`, or a generated id.
        method: the HTTP method.
        started: `time.perf_counter` at its arrival.
        route: the URL rule, such as ``/v1/images/<uuid:image>``.
        status: the status of the response; 500 until it starts.
        seconds: time until the response started.
        size: Content-Length of the response; None if not given.
        stages: milliseconds by stage.
        problem: the kind of the problem in the response; empty if there is none.
        caller: the name of the API key; empty without a key.
    """

    id: str
    method: str
    started: float = field(default_factory=time.perf_counter)
    route: str = UNMATCHED
    status: int = 500
    seconds: float = 0.0
    size: int | None = None
    stages: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    caller: str = ""

    def stop(self) -> None:
        """Stop the clock: the response starts."""
        self.seconds = time.perf_counter() - self.started

    def server_timing(self) -> str:
        """The value of the `Server-Timing` header."""
        stages = "".join(f"{stage};dur={ms:.2f}, " for stage, ms in self.stages.items())
        return f"{stages}total;dur={self.seconds * 1e3:.2f}"


current: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)
"""The record of the current request."""


def instrument(app: Flask, metrics: Metrics) -> None:
    """Assign ids to the requests of an application, and time, count and log them, with all middlewares added later."""
    app.after_request(_record_route)
    app.wsgi_app = _Middleware(app.wsgi_app, metrics)  # type: ignore[method-assign]  # Flask's place for a middleware


def valid_id(client_id: str | None) -> str:
    """The client's request id if it has at most 64 safe characters, else a new one."""
    return client_id if client_id and _REQUEST_ID.fullmatch(client_id) else secrets.token_hex(8)


def request_id() -> str | None:
    """The id of the current request; None outside of a request."""
    record = current.get()
    return None if record is None else record.id


def record_stages(timings: Mapping[str, float]) -> None:
    """Record the durations of stages of the current request, for `Server-Timing`, the metrics and the log.

    Durations of repeated calls, as for several queries, are added.

    Args:
        timings: milliseconds by stage, with names from a small fixed set; ``total`` is ignored, since the whole request
            is timed anyway.
    """
    record = current.get()
    if record is not None:
        for stage, milliseconds in timings.items():
            if stage != "total":
                record.stages[stage] = record.stages.get(stage, 0.0) + milliseconds


def record_problem(kind: str, status: int) -> None:
    """Record that the response is a problem: its kind, or its status if it has no kind."""
    record = current.get()
    if record is not None:
        record.problem = kind or f"http-{status}"


def count_rejected(metrics: Metrics, method: str, error: TryAgain) -> None:
    """Count a request that was rejected by admission control; these are too many to log."""
    record = RequestRecord("", method, route="refused", status=error.status, problem=error.slug)
    record.stop()
    metrics.answered(record)


class _Middleware:
    def __init__(self, inner: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]], metrics: Metrics) -> None:
        self._inner, self._metrics = inner, metrics

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        record = RequestRecord(valid_id(environ.get("HTTP_X_REQUEST_ID")), environ["REQUEST_METHOD"])

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            record.stop()
            record.status = int(status[:3])
            record.size = next((int(value) for name, value in headers if name == "Content-Length"), None)
            own = [("X-Request-ID", record.id), ("Server-Timing", record.server_timing())]
            return start_response(status, headers + own, *error)

        record_token, log_token = current.set(record), log_fields.set({"request_id": record.id})
        self._metrics.in_flight.inc()
        try:
            return self._inner(environ, start)
        finally:
            if not record.seconds:  # it ended without a response
                record.stop()
            self._metrics.in_flight.dec()
            self._metrics.answered(record)
            _log(record)
            current.reset(record_token)
            log_fields.reset(log_token)


def _record_route(response: Response) -> Response:
    record = current.get()
    if record is not None:
        if request.url_rule is not None:
            record.route = request.url_rule.rule
        # Only the name of the key: an address would identify a person.
        record.caller = getattr(g.get("caller"), "key", None) or ""
    return response


def _log(record: RequestRecord) -> None:
    level = logging.DEBUG if record.route in _POLLED and record.status < 400 else logging.INFO
    if not access.isEnabledFor(level):
        return
    milliseconds = round(record.seconds * 1e3, 2)
    facts: dict[str, Any] = {
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "ms": milliseconds,
        "bytes": record.size,
        "stages": {stage: round(ms, 2) for stage, ms in record.stages.items()},
        "problem": record.problem,
        "caller": record.caller,
    }
    more = [f"{stage} {ms:.1f}" for stage, ms in record.stages.items()]
    more += [f"{name} {facts[name]}" for name in ("problem", "caller") if facts[name]]
    access.log(
        level,
        "%s %s %d in %.1f ms%s",
        record.method or "-",
        record.route,
        record.status,
        milliseconds,
        f" ({', '.join(more)})" if more else "",
        extra={name: value for name, value in facts.items() if value not in ("", None, {})},
    )
