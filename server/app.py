"""The Flask application over one search pipeline."""

from __future__ import annotations

from flask import Flask

from sceneseek.search import Search
from server.errors import answer_errors_as_problems
from server.guard import Guard, guard
from server.headers import add_security_headers
from server.health import health_blueprint
from server.images import images_blueprint
from server.page import page_blueprint
from server.search import search_blueprint

DEFAULT_GUARD = Guard()


def create_app(search: Search, settings: Guard = DEFAULT_GUARD) -> Flask:
    """The application; it neither opens nor closes what it stands on.

    Args:
        search: the pipeline that answers. Whoever made it also has it follow the alias.
        settings: who may ask, and what answers may tell.

    Raises:
        SceneseekError: see `guard`.
    """
    app = Flask(__name__)
    answer_errors_as_problems(app)
    guard(app, settings)
    add_security_headers(app)
    app.register_blueprint(search_blueprint(search))
    app.register_blueprint(images_blueprint(search))
    app.register_blueprint(health_blueprint(search))
    app.register_blueprint(page_blueprint())
    return app
