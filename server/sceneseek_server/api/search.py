"""`/v1/search`: texts and images in, the best images out."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import UnsupportedMediaType

from sceneseek.request import Query
from sceneseek.search import Answer, Search
from sceneseek_server.access.control import charge, check_filter
from sceneseek_server.answer import json_answer
from sceneseek_server.api.deadline import deadline
from sceneseek_server.api.documents import AnswerDocument, AnswersDocument, answer_document
from sceneseek_server.api.operation import operation
from sceneseek_server.api.search_request import SearchArguments, SearchBody, SearchesBody, read_body
from sceneseek_server.api.uploads import FORM, Uploads
from sceneseek_server.instrumentation import record_stages

NOT_THERE = {404: "The image to search by is not in the index."}
PICTURE = "file"
_BEST = "$response.body#/results/0/id"
_LINKS = {"image": {"image_id": _BEST}, "thumbnail": {"image_id": _BEST}, "search_by_arguments": {"image": _BEST}}


def search_blueprint(search: Search, uploads: Uploads) -> Blueprint:
    """The views over one pipeline."""
    blueprint = Blueprint("search", __name__, url_prefix="/v1/search")

    @blueprint.get("")
    @operation(
        summary="Search by a text, or by an indexed image",
        tag="search",
        arguments=SearchArguments,
        answer=AnswerDocument,
        problems=NOT_THERE,
        links=_LINKS,
    )
    def search_by_arguments() -> Response:
        """The images that match best. With a text they come by score; with an image by similarity to it, or to both."""
        return json_answer(answer_document(answered([SearchArguments.read(request.args).asked()])[0]))

    @blueprint.post("")
    @operation(
        summary="Search, once or several times, or by an uploaded picture",
        tag="search",
        body=(SearchBody, SearchesBody),
        upload=SearchArguments,
        files=PICTURE,
        answer=AnswerDocument | AnswersDocument,
        problems={**NOT_THERE, 422: "The uploaded picture cannot be used."},
        links=_LINKS,
    )
    def search_by_body() -> Response:
        """As by GET. `queries` are answered from one generation; one that cannot be answered fails them all."""
        if request.mimetype == FORM:
            pictures = uploads.pictures(PICTURE)
            asked = SearchArguments.read(request.form).asked(pictures[0])
            return json_answer(answer_document(answered([asked])[0]))
        if not request.is_json:
            raise UnsupportedMediaType
        queries, several = read_body(request.get_data(cache=False))
        documents = [answer_document(answer) for answer in answered(queries)]
        return json_answer({"answers": documents} if several else documents[0])

    def answered(queries: list[Query]) -> list[Answer]:
        charge(len(queries) - 1)
        for query in queries:
            check_filter(query.where)
        answers = search.queries(queries, deadline())
        for answer in answers:
            record_stages(answer.timings_ms)
        return answers

    return blueprint
