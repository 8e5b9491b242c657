"""`/v1/score`: a text and images in, scores out: the regressor as a service."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import UnsupportedMediaType

from sceneseek.api import ScoreForm, ScoreRequest, Scores, read_fields, read_json
from sceneseek.errors import InvalidRequest
from sceneseek.picture import Picture
from sceneseek.search import Search
from sceneseek_server.api.operation import operation
from sceneseek_server.api.uploads import FORM, Uploads
from sceneseek_server.instrumentation import record_stages
from sceneseek_server.responses import deadline, json_answer

MAX_PICTURES = 8
PICTURE = "file"


def scores_blueprint(search: Search, uploads: Uploads) -> Blueprint:
    """The view over one pipeline."""
    blueprint = Blueprint("scores", __name__, url_prefix="/v1/score")

    @blueprint.post("")
    @operation(
        summary="Score a text for images",
        tag="search",
        body=(ScoreRequest,),
        upload=ScoreForm,
        files=PICTURE,
        most=MAX_PICTURES,
        answer=Scores,
        problems={404: "One of the images is not in the index.", 422: "An uploaded picture cannot be used."},
    )
    def score() -> Response:
        """How well a text matches each of some images: indexed ones by id, or pictures that come along."""
        images: list[str | Picture]
        if request.mimetype == FORM:
            images = [*uploads.pictures(PICTURE, MAX_PICTURES)]
            text = _read_form()
        else:
            if not request.is_json:
                raise UnsupportedMediaType
            requested = read_json(ScoreRequest, request.get_data(cache=False))
            images, text = [*requested.images], requested.text
        scores = search.score(text, images, deadline())
        record_stages(scores.timings_ms)
        return json_answer(scores)

    return blueprint


def _read_form() -> str:
    for name, values in request.form.lists():
        if len(values) > 1:
            raise InvalidRequest(f"{name[:40]} is given {len(values)} times", "give it once")
    return read_fields(ScoreForm, request.form.to_dict()).text
