"""`/v1/search`: a text in, the best images out."""

from __future__ import annotations

from typing import Any, TypedDict

from flask import Blueprint, Response, request
from werkzeug.exceptions import UnsupportedMediaType

from sceneseek.search import Answer, Result, Search
from server.admission import DEADLINE
from server.answer import json_answer
from server.search_request import SearchRequest


class ResultDocument(TypedDict):
    """One image of an answer; `image` and `thumbnail` are addresses on this host."""

    rank: int
    id: str
    score: float
    similarity: float
    path: str
    width: int
    height: int
    format: str
    metadata: dict[str, Any]
    duplicates: int
    image: str
    thumbnail: str


class AnswerDocument(TypedDict):
    """An answer, best result first; see `sceneseek.search.Answer`."""

    query: str
    truncated: bool
    results: list[ResultDocument]
    shortlist: int
    generation: str
    bundle: str
    calibrated: bool
    timings_ms: dict[str, float]


def search_blueprint(search: Search) -> Blueprint:
    """The views over one pipeline."""
    blueprint = Blueprint("search", __name__, url_prefix="/v1/search")

    @blueprint.get("")
    def search_by_arguments() -> Response:
        return answered(SearchRequest.from_arguments(request.args))

    @blueprint.post("")
    def search_by_body() -> Response:
        if not request.is_json:
            raise UnsupportedMediaType
        return answered(SearchRequest.from_json(request.get_data(cache=False)))

    def answered(asked: SearchRequest) -> Response:
        deadline = request.environ.get(DEADLINE)
        answer = search.query(asked.q, asked.k, asked.shortlist, asked.where(), asked.keep_duplicates, deadline)
        return json_answer(_document(answer, request.root_path))

    return blueprint


def _document(answer: Answer, root: str) -> AnswerDocument:
    return {
        "query": answer.query,
        "truncated": answer.truncated,
        "results": [_result(result, root) for result in answer.results],
        "shortlist": answer.shortlist,
        "generation": answer.generation,
        "bundle": answer.bundle,
        "calibrated": answer.calibrated,
        "timings_ms": answer.timings_ms,
    }


def _result(result: Result, root: str) -> ResultDocument:
    # Written rather than built by url_for, which would take longer than scoring the shortlist does.
    image = f"{root}/v1/images/{result.id}"
    return {
        "rank": result.rank,
        "id": result.id,
        "score": round(result.score, 6),
        "similarity": round(result.similarity, 6),
        "path": result.path,
        "width": result.width,
        "height": result.height,
        "format": result.format,
        "metadata": result.metadata,
        "duplicates": result.duplicates,
        "image": image,
        "thumbnail": f"{image}/thumbnail",
    }
