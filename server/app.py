"""The Flask application over one search pipeline."""

from __future__ import annotations

from flask import Flask

from sceneseek.search import Search
from server.errors import answer_errors_as_problems
from server.headers import add_security_headers
from server.health import health_blueprint
from server.images import images_blueprint
from server.observe import Metrics, observe
from server.page import page_blueprint
from server.search import search_blueprint

MAX_BODY_BYTES = 2**20


def create_app(search: Search, metrics: Metrics | None = None) -> Flask:
    """The application; it neither opens nor closes what it stands on.

    Args:
        search: the pipeline that answers. Whoever made it also has it follow the alias.
        metrics: what the pipeline counts with; the application's own if None.
    """
    metrics = metrics or Metrics()
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    observe(app, search, metrics)
    answer_errors_as_problems(app)
    add_security_headers(app)
    app.register_blueprint(search_blueprint(search))
    app.register_blueprint(images_blueprint(search, metrics))
    app.register_blueprint(health_blueprint(search))
    app.register_blueprint(page_blueprint())
    return app
