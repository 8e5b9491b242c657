"""The Flask application over one search pipeline."""

from __future__ import annotations

from flask import Flask

from sceneseek.search import Search
from sceneseek_server.access.control import control_access
from sceneseek_server.api.collections import collections_blueprint
from sceneseek_server.api.details import details_blueprint
from sceneseek_server.api.docs import docs_blueprint
from sceneseek_server.api.feedback import feedback_blueprint
from sceneseek_server.api.fields import fields_blueprint
from sceneseek_server.api.images import images_blueprint
from sceneseek_server.api.openapi import openapi_blueprint
from sceneseek_server.api.scores import scores_blueprint
from sceneseek_server.api.search import search_blueprint
from sceneseek_server.api.uploads import Uploads
from sceneseek_server.errors import answer_errors_as_problems
from sceneseek_server.feedback_log import FeedbackLog
from sceneseek_server.headers import add_security_headers
from sceneseek_server.health import health_blueprint
from sceneseek_server.observe import Metrics, observe
from sceneseek_server.page import page_blueprint
from sceneseek_server.request_body import answer_broken_bodies
from sceneseek_server.service import AccessSettings

DEFAULT_ACCESS = AccessSettings()


def create_app(
    search: Search,
    settings: AccessSettings = DEFAULT_ACCESS,
    metrics: Metrics | None = None,
    feedback: FeedbackLog | None = None,
) -> Flask:
    """The application; it neither opens nor closes what it stands on.

    Args:
        search: the pipeline that answers. Whoever made it also has it follow the alias.
        settings: who may send requests, and what answers may reveal.
        metrics: what the pipeline counts with; the application's own if None.
        feedback: where ratings are kept; None keeps none.

    Raises:
        SceneseekError: see `control_access`.
    """
    metrics = metrics or Metrics()
    app = Flask(__name__)
    observe(app, search, metrics)
    answer_errors_as_problems(app)
    control_access(app, settings)
    add_security_headers(app)
    answer_broken_bodies(app)
    uploads = Uploads(search)
    app.register_blueprint(search_blueprint(search, uploads))
    app.register_blueprint(scores_blueprint(search, uploads))
    app.register_blueprint(feedback_blueprint(search, feedback, metrics))
    app.register_blueprint(collections_blueprint(search))
    app.register_blueprint(details_blueprint(search))
    app.register_blueprint(fields_blueprint(search))
    app.register_blueprint(openapi_blueprint())
    app.register_blueprint(docs_blueprint())
    app.register_blueprint(images_blueprint(search, metrics))
    app.register_blueprint(health_blueprint(search))
    app.register_blueprint(page_blueprint())
    return app
