"""What views share: the request's deadline, JSON answers, and the handlers that turn errors into problem documents."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from sceneseek.api import to_json
from sceneseek.errors import SceneseekError
from sceneseek_server.access.control import shows_paths
from sceneseek_server.admission import DEADLINE
from sceneseek_server.instrumentation import record_problem, request_id
from sceneseek_server.problem import MEDIA_TYPE, Problem

log = logging.getLogger(__name__)

# What Werkzeug raises by itself, in our words: detail and hint.
_HTTP_ERRORS = {
    404: ("nothing is at this address", "search at /v1/search?q=..., or open / in a browser"),
    413: ("the body is too large", "send at most 1 MB of JSON, an image of the size that the service takes"),
    415: ("the body is not declared to be JSON", "send it with Content-Type: application/json"),
}


def deadline() -> float | None:
    """When the request's answer is of no use any more, on the clock of `time.monotonic`; None if it never is."""
    found: float | None = request.environ.get(DEADLINE)
    return found


def json_answer(document: object, status: int = 200) -> Response:
    """The response that carries a document, compact and not to be cached."""
    response = Response(to_json(document), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def answer_errors_as_problems(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(SceneseekError, _ours)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def problem_response(problem: Problem) -> Response:
    """The answer that carries a problem."""
    record_problem(problem.kind, problem.status)
    response = Response(problem.encode(request_id()), problem.status, content_type=MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    return response


def error_response(error: SceneseekError, **more: Any) -> Response:
    """The answer that carries an error, in words that clients of this service may see.

    Args:
        error: what went wrong. One that passes by itself says when to ask again.
        more: further members of the document.
    """
    problem = Problem.of(error)
    if not (error.for_clients or shows_paths()):
        detail = error.title[0].lower() + error.title[1:]
        problem = replace(problem, detail=detail, hint=error.hint_for_clients)
    response = problem_response(replace(problem, more=more))
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after))
    return response


def _ours(error: SceneseekError) -> Response:
    # What passes by itself comes in numbers, and each is counted; a line each would be one trouble more.
    if error.retry_after is None and error.status >= 500:
        log.error("%s %s: %s", request.method, request.path, error)
    elif error.retry_after is None and not (error.for_clients or shows_paths()):
        log.warning("%s %s: %s", request.method, request.path, error)
    return error_response(error)


def _http(error: HTTPException) -> Response:
    own = error.get_response()
    if own.status_code < 400:  # a redirect is raised like an error, but is none
        return Response(own.get_data(), own.status_code, own.headers)
    if isinstance(error, MethodNotAllowed):
        methods = ", ".join(sorted(error.valid_methods or ()))
        problem = Problem(405, f"{request.method} is not possible here", f"use one of {methods}")
    else:
        detail, hint = _HTTP_ERRORS.get(own.status_code, (error.description or error.name, ""))
        problem = Problem(own.status_code, detail, hint)
    response = problem_response(problem)
    for name in ("Allow", "Content-Range", "Retry-After"):
        if name in own.headers:
            response.headers[name] = own.headers[name]
    return response


def _unexpected(error: Exception) -> Response:
    # Without the query string: what people search for is theirs.
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem_response(Problem(500, "the service met a fault of its own", "its log says more"))
