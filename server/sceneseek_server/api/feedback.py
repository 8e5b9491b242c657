"""`/v1/feedback`: what people say of a result, kept for `sceneseek train heads --feedback`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID, uuid4

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from sceneseek.errors import NotFound
from sceneseek.payload import relative_path
from sceneseek.rating import HIGHEST, LOWEST
from sceneseek.request import checked_query
from sceneseek.search import Search
from sceneseek_server.answer import json_answer
from sceneseek_server.api.deadline import deadline
from sceneseek_server.api.documents import FeedbackDocument
from sceneseek_server.api.operation import operation
from sceneseek_server.api.refusal import refusal
from sceneseek_server.api.search_request import WHOLE, Text
from sceneseek_server.feedback import MAX_NAME_CHARACTERS, Feedback, FeedbackStore
from sceneseek_server.metrics import Metrics

_EXAMPLE = 'send a JSON object such as {"query": "a lighthouse", "image": "ID", "rating": 4}'
_HINTS = {
    "query": "say what was searched for",
    "image": "name the image by the id that its result has",
    "rating": "rate from 1 (does not match) to 4 (matches fully)",
    "rater": f"name who rates, in at most {MAX_NAME_CHARACTERS} characters",
    "key": f"give each rating a key of its own, in at most {MAX_NAME_CHARACTERS} characters",
}
_KINDS = {"query": "text", "image": "an id", "rating": "a whole number", "rater": "a short text", "key": "a short text"}

ShortText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME_CHARACTERS,
        json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
    ),
]


class FeedbackBody(BaseModel):
    """A rating of how well an image matches a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: Text
    image: UUID
    rating: Annotated[
        int,
        Field(
            ge=LOWEST,
            le=HIGHEST,
            description="1 does not match, 2 shares elements, 3 matches but for details, 4 matches fully.",
        ),
        WHOLE,
    ]
    rater: Annotated[
        ShortText | None, Field(description="Who rates: of one rater's ratings of a pair the last counts.")
    ] = None
    key: Annotated[ShortText | None, Field(description="Sent again with the same key, a rating is stored once.")] = None


def feedback_blueprint(search: Search, feedback: FeedbackStore | None, metrics: Metrics) -> Blueprint:
    """The view over one pipeline and what keeps ratings; without that, there is nowhere to keep them."""
    blueprint = Blueprint("feedback", __name__, url_prefix="/v1/feedback")

    @blueprint.post("")
    @operation(
        summary="Rate a result",
        tag="feedback",
        body=(FeedbackBody,),
        answer=FeedbackDocument,
        status=201,
        again=True,
        problems={
            404: "No image has this id, or this service keeps no ratings.",
            409: "Another rating was sent with this key.",
        },
    )
    def rate() -> Response:
        """A rating is on disk when it is answered. With a `key` it may be sent again, and is stored once (then 200)."""
        if not request.is_json:
            raise UnsupportedMediaType
        try:
            asked = FeedbackBody.model_validate_json(request.get_data(cache=False), strict=True)
        except ValidationError as error:
            raise refusal(error, _HINTS, _KINDS, _EXAMPLE) from None
        if feedback is None:
            raise NotFound("this service keeps no ratings", "start it with --feedback FILE")
        query = checked_query(asked.query)
        with search.follower.borrow() as snapshot:
            records, info = snapshot.collection.retrieve([str(asked.image)], deadline()), snapshot.collection.info
        if not records:
            raise NotFound(f"no image has the id {asked.image}", "search again: it may have left the index")
        payload, key = records[0].payload, asked.key or str(uuid4())
        outcome = feedback.append(
            Feedback(
                query=query,
                image=relative_path(payload),
                rating=asked.rating,
                rater=asked.rater or "",
                key=key,
                source=info.sources[payload["source"]].label,
            )
        )
        metrics.feedback_received(outcome)
        response = json_answer({"stored": outcome == "stored", "key": key})
        response.status_code = 201 if outcome == "stored" else 200
        return response

    return blueprint
