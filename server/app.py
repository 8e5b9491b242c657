"""The Flask application over one search pipeline."""

from __future__ import annotations

from flask import Flask

from sceneseek.search import Search
from server.api.collections import collections_blueprint
from server.api.fields import fields_blueprint
from server.api.openapi import openapi_blueprint
from server.api.scores import scores_blueprint
from server.api.search import search_blueprint
from server.api.uploads import Uploads
from server.errors import answer_errors_as_problems
from server.headers import add_security_headers
from server.health import health_blueprint
from server.images import images_blueprint
from server.page import page_blueprint

MAX_BODY_BYTES = 2**20


def create_app(search: Search) -> Flask:
    """The application; it neither opens nor closes what it stands on.

    Args:
        search: the pipeline that answers. Whoever made it also has it follow the alias.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    answer_errors_as_problems(app)
    add_security_headers(app)
    uploads = Uploads(search)
    app.register_blueprint(search_blueprint(search, uploads))
    app.register_blueprint(scores_blueprint(search, uploads))
    app.register_blueprint(collections_blueprint(search))
    app.register_blueprint(fields_blueprint(search))
    app.register_blueprint(openapi_blueprint())
    app.register_blueprint(images_blueprint(search))
    app.register_blueprint(health_blueprint(search))
    app.register_blueprint(page_blueprint())
    return app
