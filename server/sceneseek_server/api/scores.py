"""`/v1/score`: a text and images in, scores out: the regressor as a service."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from sceneseek.errors import InvalidRequest
from sceneseek.picture import Picture
from sceneseek.search import Search
from sceneseek_server.answer import json_answer
from sceneseek_server.api.deadline import deadline
from sceneseek_server.api.documents import ScoresDocument, scores_document
from sceneseek_server.api.operation import operation
from sceneseek_server.api.refusal import refusal
from sceneseek_server.api.search_request import Text
from sceneseek_server.api.uploads import FORM, Uploads
from sceneseek_server.instrumentation import record_stages

MAX_IMAGES = 100
MAX_PICTURES = 8
PICTURE = "file"

_EXAMPLE = 'send a JSON object such as {"q": "a dog jumping over a log", "images": ["ID"]}'
_HINTS = {
    "q": "describe a scene in a few words, such as: a dog jumping over a log",
    "images": f"name 1 to {MAX_IMAGES} images by the ids that results have",
}
_KINDS = {"q": "text", "images": "a list of ids"}


class ScoreBody(BaseModel):
    """A text, and indexed images to score it for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    q: Text
    images: Annotated[list[UUID], Field(min_length=1, max_length=MAX_IMAGES)]


class ScoreForm(BaseModel):
    """A text, beside pictures to score it for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    q: Text


def scores_blueprint(search: Search, uploads: Uploads) -> Blueprint:
    """The view over one pipeline."""
    blueprint = Blueprint("scores", __name__, url_prefix="/v1/score")

    @blueprint.post("")
    @operation(
        summary="Score a text for images",
        tag="search",
        body=(ScoreBody,),
        upload=ScoreForm,
        files=PICTURE,
        most=MAX_PICTURES,
        answer=ScoresDocument,
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
            asked = _read_body(request.get_data(cache=False))
            images, text = [str(image) for image in asked.images], asked.q
        scores = search.score(text, images, deadline())
        record_stages(scores.timings_ms)
        return json_answer(scores_document(scores))

    return blueprint


def _read_body(body: bytes) -> ScoreBody:
    try:
        return ScoreBody.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise refusal(error, _HINTS, _KINDS, _EXAMPLE) from None


def _read_form() -> str:
    for name, values in request.form.lists():
        if len(values) > 1:
            raise InvalidRequest(f"{name[:40]} is given {len(values)} times", "give it once")
    try:
        return ScoreForm.model_validate(request.form.to_dict()).q
    except ValidationError as error:
        raise refusal(error, {"q": _HINTS["q"]}, _KINDS, _EXAMPLE) from None
