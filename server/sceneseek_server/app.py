"""The Flask application over one search pipeline: the page at `/`, the API under `/v1`, health and metrics."""

from __future__ import annotations

from flask import Flask

from sceneseek.pending_changes import PendingChanges
from sceneseek.search import Search
from sceneseek_server.access.control import control_access
from sceneseek_server.api.changes import changes_blueprint
from sceneseek_server.api.embeddings import embeddings_blueprint
from sceneseek_server.api.feedback import feedback_blueprint
from sceneseek_server.api.images import images_blueprint
from sceneseek_server.api.index import index_blueprint
from sceneseek_server.api.openapi import openapi_blueprint
from sceneseek_server.api.search import search_blueprint
from sceneseek_server.api.uploads import Uploads
from sceneseek_server.feedback import FeedbackStore
from sceneseek_server.health import health_blueprint
from sceneseek_server.image_files import Decoders
from sceneseek_server.instrumentation import instrument
from sceneseek_server.metrics import GenerationCollector, Metrics
from sceneseek_server.responses import shape_responses
from sceneseek_server.service import AccessSettings

DEFAULT_ACCESS = AccessSettings()


def create_app(
    search: Search,
    access: AccessSettings = DEFAULT_ACCESS,
    metrics: Metrics | None = None,
    feedback: FeedbackStore | None = None,
    pending: PendingChanges | None = None,
) -> Flask:
    """Create the application; it neither opens nor closes its arguments.

    Args:
        search: the search pipeline; the caller lets it follow the alias.
        access: the settings of access control.
        metrics: the metrics that the pipeline reports to; new ones if None.
        feedback: the store of ratings; None if ratings are not stored.
        pending: the prepared folder for uploads; None if uploads are disabled.

    Raises:
        SceneseekError: see `control_access`.
    """
    metrics = metrics or Metrics()
    metrics.registry.register(GenerationCollector(search))
    app = Flask(__name__)
    # A redirect needs the address that clients use, which is unknown behind a proxy.
    app.url_map.merge_slashes = False
    instrument(app, metrics)
    control_access(app, access)
    shape_responses(app)
    decoders = Decoders()
    uploads = Uploads(search, access.max_pixels, decoders)
    app.register_blueprint(search_blueprint(search, uploads))
    app.register_blueprint(embeddings_blueprint(search, uploads))
    app.register_blueprint(feedback_blueprint(search, feedback, metrics))
    app.register_blueprint(index_blueprint(search, pending is not None))
    app.register_blueprint(openapi_blueprint())
    app.register_blueprint(images_blueprint(search, metrics, access.max_pixels, decoders))
    app.register_blueprint(changes_blueprint(search, uploads, pending, access.max_upload))
    app.register_blueprint(health_blueprint(search, metrics))
    app.add_url_rule("/", "page", lambda: app.send_static_file("index.html"))
    return app
