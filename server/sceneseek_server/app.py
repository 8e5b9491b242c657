"""The Flask application over one search pipeline: the page at `/`, the API under `/v1`, health and metrics."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, Response
from werkzeug.exceptions import BadRequest

from sceneseek.search import Search
from sceneseek_server.access.control import control_access
from sceneseek_server.api.feedback import feedback_blueprint
from sceneseek_server.api.images import images_blueprint
from sceneseek_server.api.index import index_blueprint
from sceneseek_server.api.openapi import openapi_blueprint
from sceneseek_server.api.scores import scores_blueprint
from sceneseek_server.api.search import search_blueprint
from sceneseek_server.api.uploads import Uploads
from sceneseek_server.feedback import FeedbackStore
from sceneseek_server.headers import add_security_headers
from sceneseek_server.health import health_blueprint
from sceneseek_server.instrumentation import instrument
from sceneseek_server.metrics import GenerationCollector, Metrics
from sceneseek_server.responses import answer_errors_as_problems
from sceneseek_server.service import AccessSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIEnvironment

DEFAULT_ACCESS = AccessSettings()


def create_app(
    search: Search,
    access: AccessSettings = DEFAULT_ACCESS,
    metrics: Metrics | None = None,
    feedback: FeedbackStore | None = None,
) -> Flask:
    """The application; it neither opens nor closes what it is given.

    Args:
        search: the pipeline that answers. Whoever made it also has it follow the alias.
        access: who may send requests, and what answers may reveal.
        metrics: what the pipeline counts with; the application's own if None.
        feedback: where ratings are stored; None stores none.

    Raises:
        SceneseekError: see `control_access`.
    """
    metrics = metrics or Metrics()
    metrics.registry.register(GenerationCollector(search))
    app = Flask(__name__)
    instrument(app, metrics)
    answer_errors_as_problems(app)
    control_access(app, access)
    add_security_headers(app)
    _answer_malformed_bodies(app)
    uploads = Uploads(search)
    app.register_blueprint(search_blueprint(search, uploads))
    app.register_blueprint(scores_blueprint(search, uploads))
    app.register_blueprint(feedback_blueprint(search, feedback, metrics))
    app.register_blueprint(index_blueprint(search))
    app.register_blueprint(openapi_blueprint())
    app.register_blueprint(images_blueprint(search, metrics))
    app.register_blueprint(health_blueprint(search, metrics))
    app.add_url_rule("/", "page", lambda: _page(app))
    return app


def _page(app: Flask) -> Response:
    return app.send_static_file("index.html")


def _answer_malformed_bodies(app: Flask) -> None:
    """Answer a body that ends early or is malformed, such as its chunks, with 400 rather than 500."""
    inner = app.wsgi_app

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        return inner(environ, start_response)

    app.wsgi_app = outer  # type: ignore[method-assign]  # Flask's documented place for a middleware


class _Body(io.RawIOBase):
    """The stream of a request's body, whose errors are the client's."""

    def __init__(self, stream: InputStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # typeshed's Buffer has no length
        try:
            data = self._stream.read(len(buffer))
        except Exception as error:  # each server has its own errors for this
            raise BadRequest("the body of the request is malformed or ends early") from error
        buffer[: len(data)] = data
        return len(data)
