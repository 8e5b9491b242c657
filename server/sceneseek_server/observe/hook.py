"""The one call that has an application observed.

A middleware, around everything else that is done with a request, so that what fails anywhere inside is seen too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, g, request
from prometheus_client.exposition import choose_encoder

from sceneseek.errors import TryAgain
from sceneseek.logs import log_fields
from sceneseek.search import Search
from sceneseek_server.api.operation import operation
from sceneseek_server.observe.exchange import Exchange, accepted_id, current
from sceneseek_server.observe.generation import GenerationCollector
from sceneseek_server.observe.metrics import Metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# One line for each request.
access = logging.getLogger("sceneseek.access")

_EXTENSION = "sceneseek.metrics"
# What asks by the clock: told of only where it goes wrong, or else the log would hold little more.
_ASKED_BY_MACHINES = {"/healthz", "/readyz", "/metrics"}


def observe(app: Flask, search: Search, metrics: Metrics) -> None:
    """Time, count and log what the application answers, give requests their ids, and answer `/metrics`.

    Args:
        app: the application; what is added to it later is observed as well.
        search: the pipeline that answers; its generation is looked at whenever metrics are asked for.
        metrics: what others have been given to count with.
    """
    metrics.registry.register(GenerationCollector(search))
    app.extensions[_EXTENSION] = metrics
    app.register_blueprint(_blueprint(metrics))
    app.after_request(_note_what_flask_knows)
    app.wsgi_app = _Observed(app.wsgi_app, metrics)  # type: ignore[method-assign]  # Flask's place for a middleware


def note_refused(app: Flask, method: str, error: TryAgain) -> None:
    """Count a request that was refused before it reached the application; there are too many of them to log each."""
    exchange = Exchange("", method, route="refused", status=error.status, problem=error.slug)
    exchange.stop()
    app.extensions[_EXTENSION].answered(exchange)


class _Observed:
    """The middleware."""

    def __init__(self, inner: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]], metrics: Metrics) -> None:
        self._inner, self._metrics = inner, metrics

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange(accepted_id(environ.get("HTTP_X_REQUEST_ID")), environ["REQUEST_METHOD"])

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            exchange.stop()
            exchange.status = int(status[:3])
            exchange.size = next((int(value) for name, value in headers if name == "Content-Length"), None)
            ours = [("X-Request-ID", exchange.id), ("Server-Timing", exchange.server_timing())]
            return start_response(status, headers + ours, *error)

        of_request, of_logs = current.set(exchange), log_fields.set({"request_id": exchange.id})
        self._metrics.in_flight.inc()
        try:
            return self._inner(environ, start)
        finally:
            if not exchange.seconds:  # it ended without an answer
                exchange.stop()
            self._metrics.in_flight.dec()
            self._metrics.answered(exchange)
            _log(exchange)
            current.reset(of_request)
            log_fields.reset(of_logs)


def _note_what_flask_knows(response: Response) -> Response:
    exchange = current.get()
    if exchange is not None:
        if request.url_rule is not None:
            exchange.route = request.url_rule.rule
        # The name of the caller's key alone: an address would tell who it was.
        exchange.caller = getattr(g.get("caller"), "key", None) or ""
    return response


def _log(exchange: Exchange) -> None:
    level = logging.DEBUG if exchange.route in _ASKED_BY_MACHINES and exchange.status < 400 else logging.INFO
    if not access.isEnabledFor(level):
        return
    milliseconds = round(exchange.seconds * 1e3, 2)
    facts: dict[str, Any] = {
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "ms": milliseconds,
        "bytes": exchange.size,
        "stages": {stage: round(ms, 2) for stage, ms in exchange.stages.items()},
        "problem": exchange.problem,
        "caller": exchange.caller,
    }
    more = [f"{stage} {ms:.1f}" for stage, ms in exchange.stages.items()]
    more += [f"{name} {facts[name]}" for name in ("problem", "caller") if facts[name]]
    access.log(
        level,
        "%s %s %d in %.1f ms%s",
        exchange.method or "-",
        exchange.route,
        exchange.status,
        milliseconds,
        f" ({', '.join(more)})" if more else "",
        extra={name: value for name, value in facts.items() if value not in ("", None, {})},
    )


def _blueprint(metrics: Metrics) -> Blueprint:
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    @operation(summary="Figures for Prometheus", tag="service", answer=("text/plain", "application/openmetrics-text"))
    def exposed() -> Response:
        """In the text format, or in OpenMetrics on request; docs/reference/observability.md lists all metrics."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        response = Response(encode(metrics), content_type=content_type)
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint
