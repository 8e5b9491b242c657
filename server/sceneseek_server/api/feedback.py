"""`/v1/feedback`: ratings of results, stored for `sceneseek train heads --feedback`."""

from __future__ import annotations

from uuid import uuid4

from flask import Blueprint, Response, request
from werkzeug.exceptions import UnsupportedMediaType

from sceneseek import api, queries
from sceneseek.errors import NotFound
from sceneseek.payload import relative_path
from sceneseek.search import Search
from sceneseek_server.api.openapi import operation
from sceneseek_server.feedback import Feedback, FeedbackStore
from sceneseek_server.image_files import find_record
from sceneseek_server.metrics import Metrics
from sceneseek_server.responses import deadline, json_response


def feedback_blueprint(search: Search, feedback: FeedbackStore | None, metrics: Metrics) -> Blueprint:
    """The view of one pipeline and its store of ratings; None if ratings are not stored."""
    blueprint = Blueprint("feedback", __name__, url_prefix="/v1/feedback")

    @blueprint.post("")
    @operation(
        summary="Rate a result",
        tag="feedback",
        body=(queries.Rating,),
        answer=api.Feedback,
        status=201,
        repeatable=True,
        problems={
            404: "No image has this id, or this service does not store ratings.",
            409: "Another rating was sent with this key.",
        },
    )
    def rate() -> Response:
        """A rating is on disk before the response. Sent again with the same `key`, it is stored once (status 200)."""
        if not request.is_json:
            raise UnsupportedMediaType
        rating = api.read_json(queries.Rating, request.get_data(cache=False))
        if feedback is None:
            raise NotFound("this service does not store ratings", "start it with --feedback FILE")
        record, info = find_record(search, rating.image, deadline())
        payload, key = record.payload, rating.key or str(uuid4())
        outcome = feedback.append(
            Feedback(
                query=rating.query,
                image=relative_path(payload),
                rating=rating.rating,
                rater=rating.rater or "",
                key=key,
                source=info.sources[payload["source"]].label,
            )
        )
        metrics.feedback.labels(outcome).inc()
        answer = api.Feedback(stored=outcome == "stored", key=key)
        return json_response(answer, 201 if answer.stored else 200)

    return blueprint
