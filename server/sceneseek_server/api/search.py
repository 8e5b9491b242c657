"""`/v1/search`: the best images for texts and images. `/v1/score`: scores of images for a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, request
from pydantic_core import from_json
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import UnsupportedMediaType

from sceneseek.api import Answer, Answers, Scores, read_fields, read_json
from sceneseek.errors import InvalidRequest
from sceneseek.picture import Picture
from sceneseek.queries import Query, QueryArguments, QueryBatch, ScoreForm, ScoreRequest
from sceneseek.request import shown
from sceneseek.search import Search
from sceneseek_server.access.control import FORM, charge, check_query
from sceneseek_server.api.openapi import operation
from sceneseek_server.api.uploads import PICTURE, Uploads
from sceneseek_server.instrumentation import record_stages
from sceneseek_server.responses import deadline, json_response, public

_PROBLEMS = {
    404: "The image to search by is not in the index.",
    422: "A vector does not fit the model, the parts of a query are inconsistent, or a picture cannot be used.",
}
_REPEATED = ("filter", "terms")
_BEST = "$response.body#/results/0/id"
_LINKS = {"image": {"image": _BEST}, "thumbnail": {"image": _BEST}, "search_by_arguments": {"image": _BEST}}


def search_blueprint(search: Search, uploads: Uploads) -> Blueprint:
    """The views of one pipeline."""
    blueprint = Blueprint("search", __name__, url_prefix="/v1")

    @blueprint.get("/search")
    @operation(
        summary="Search by a text, or by an indexed image",
        tag="search",
        arguments=QueryArguments,
        answer=Answer,
        problems=_PROBLEMS,
        links=_LINKS,
    )
    def search_by_arguments() -> Response:
        """The images that match best: by score for a text, by similarity for an image, or for an image and a text."""
        return json_response(run([_read_arguments(request.args)])[0])

    @blueprint.post("/search")
    @operation(
        summary="Search by one or several queries, or by an uploaded picture",
        tag="search",
        body=(Query, QueryBatch),
        upload=QueryArguments,
        answer=Answer | Answers,
        problems=_PROBLEMS,
        links=_LINKS,
    )
    def search_by_body() -> Response:
        """As by GET. All `queries` are answered from the same generation; an error in one of them fails them all."""
        if request.mimetype == FORM:
            # Before the pictures, which take longer to decode.
            query = _read_arguments(request.form, max(1, len(request.files.getlist(PICTURE))))
            return json_response(run([query], uploads.pictures())[0])
        if not request.is_json:
            raise UnsupportedMediaType
        queries, several = _read_body(request.get_data(cache=False))
        answers = run(queries)
        return json_response(Answers(answers=tuple(answers)) if several else answers[0])

    @blueprint.post("/score")
    @operation(
        summary="Score images for a text",
        tag="search",
        body=(ScoreRequest,),
        upload=ScoreForm,
        answer=Scores,
        problems={404: "One of the images is not in the index.", 422: "An uploaded picture cannot be used."},
    )
    def score() -> Response:
        """How well a text matches each image: indexed images by id, or uploaded pictures."""
        text, images = _read_score(uploads)
        scores = search.score(text, images, deadline())
        record_stages(scores.timings_ms)
        return json_response(scores)

    def run(queries: list[Query], pictures: Sequence[Picture] = ()) -> list[Answer]:
        # Every text costs the same; pictures were charged when they were read.
        texts = [sum(part.text is not None for part in query.parts(len(pictures))) for query in queries]
        charge(sum(max(1, count) for count in texts))
        for query in queries:
            check_query(query)
        answers = search.queries(queries, deadline(), pictures)
        for answer in answers:
            record_stages(answer.timings_ms)
        return [replace(answer, results=tuple(map(public, answer.results))) for answer in answers]

    return blueprint


def _read_arguments(arguments: MultiDict[str, str], pictures: int = 0) -> Query:
    """Read a query from a query string, or from a form with pictures; empty fields, as sent by forms, are ignored.

    Raises:
        InvalidRequest: a field is unknown, repeated or invalid; or there is nothing to search by.
    """
    fields: dict[str, Any] = single_values(arguments, ignored=_REPEATED)
    fields = {name: value for name, value in fields.items() if value or name == "q" or name not in Query.HINTS}
    for name in _REPEATED:
        if values := [value for value in arguments.getlist(name) if value]:
            fields[name] = values
    query = read_fields(QueryArguments, fields)
    query.parts(pictures)
    return query


def _read_score(uploads: Uploads) -> tuple[str, list[str | Picture]]:
    """Read the text and the images to score."""
    if request.mimetype == FORM:
        pictures = uploads.pictures()
        return read_fields(ScoreForm, single_values(request.form)).text, [*pictures]
    if not request.is_json:
        raise UnsupportedMediaType
    requested = read_json(ScoreRequest, request.get_data(cache=False))
    return requested.text, [*requested.images]


def single_values(arguments: MultiDict[str, str], ignored: Sequence[str] = ()) -> dict[str, str]:
    """The fields of a query string or a form that must not be repeated, without those of `ignored`.

    Raises:
        InvalidRequest: a field is repeated, or a part of the form has no name.
    """
    fields = {}
    for name, values in arguments.lists():
        if not isinstance(name, str):
            raise InvalidRequest("a part of the form has no name", "name each part")
        if name in ignored:
            continue
        if len(values) > 1:
            raise InvalidRequest(f"{shown(name, '')} is given {len(values)} times", "give it once")
        fields[name] = values[0]
    return fields


def _read_body(body: bytes) -> tuple[list[Query], bool]:
    """Read the queries of a JSON body; also returns whether the body is a batch.

    Raises:
        InvalidRequest: the body is not a valid query or batch; names the first error and its place.
    """
    several = _is_batch(body)
    queries = read_json(QueryBatch, body).queries if several else [read_json(Query, body)]
    for number, query in enumerate(queries):
        try:
            query.parts()
        except InvalidRequest as error:
            what = f"queries[{number}]: {error.what}" if several else error.what
            raise type(error)(what, error.hint) from None
    return queries, several


def _is_batch(body: bytes) -> bool:
    try:
        document = from_json(body)
    except ValueError:
        return False
    return isinstance(document, dict) and "queries" in document
