"""What every answer is made of: its headers, its JSON, and the problem document that an error becomes (RFC 9457)."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from http import HTTPStatus
from typing import Any, TypeVar
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from sceneseek.api import PROBLEM_TYPE, ImageDetails, OpenAIError, Problem, to_json
from sceneseek.errors import SceneseekError
from sceneseek_server.access.control import shows_paths
from sceneseek_server.instrumentation import record_problem, request_id

log = logging.getLogger(__name__)

Details = TypeVar("Details", bound=ImageDetails)

PROBLEM_MEDIA_TYPE = "application/problem+json"
# The address in the form of OpenAI's API, whose clients read problems in another form.
EMBEDDINGS = "/v1/embeddings"
# In the environment of a request: by `time.monotonic`, when its answer is of no more use.
DEADLINE = "sceneseek.deadline"

# The page's own script, style and images, and nothing from anywhere else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = [
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    # Other sites' pages neither hold what is ours, nor share a process or a window with it.
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    # As frame-ancestors, for browsers that do not know it.
    ("X-Frame-Options", "DENY"),
    ("X-Permitted-Cross-Domain-Policies", "none"),
    # The page asks for none of what a browser has.
    ("Permissions-Policy", "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
]

# What Werkzeug raises by itself, in our words: detail and hint.
_HTTP_ERRORS = {
    404: ("nothing is at this address", "search at /v1/search?q=..., or open / in a browser"),
    413: ("the body is too large", "send at most 1 MB of JSON, an image of the size that the service takes"),
    415: ("the body is not declared to be what is read here", "send JSON as application/json, a picture as image/jpeg"),
}


def shape_answers(app: Flask) -> None:
    """Turn the errors of an application into problem documents, and add the security headers to every answer.

    The headers are added around the application rather than in its `after_request`: one list is added to another
    instead of every header being checked and set for each answer.
    """
    app.register_error_handler(SceneseekError, _ours)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)
    inner = app.wsgi_app

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, headers + SECURITY_HEADERS, *error)

        return inner(environ, start)

    app.wsgi_app = outer  # type: ignore[method-assign]  # Flask's documented place for a middleware


def deadline() -> float | None:
    """When the request's answer is of no use any more, on the clock of `time.monotonic`; None if it never is."""
    found: float | None = request.environ.get(DEADLINE)
    return found


def json_answer(document: object, status: int = 200) -> Response:
    """The response that carries a document, compact and not to be cached."""
    response = Response(to_json(document), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def public(image: Details) -> Details:
    """What a client may see of an image: with its addresses, and without its path where paths are hidden."""
    # Written rather than built by url_for, which would take longer than reranking does.
    address = f"{current_app.config['APPLICATION_ROOT']}/v1/images/{image.id}"
    path = image.path if shows_paths() else None
    return replace(image, path=path, image=address, thumbnail=f"{address}/thumbnail")


def problem(status: int, detail: str, hint: str = "") -> Problem:
    """A problem without a type of its own: its status says what kind it is."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, hint=hint or None)


def problem_of(error: SceneseekError) -> Problem:
    """The problem that an error of ours is."""
    made = problem(error.status, error.what, error.hint)
    return replace(made, type=PROBLEM_TYPE + error.slug, title=error.title) if error.slug else made


def encoded(found: Problem, path: str = "", **more: Any) -> bytes:
    """A problem's document, in ASCII, with further members; the path of the request decides its form."""
    if path == EMBEDDINGS:
        message = f"{found.detail}: {found.hint}" if found.hint else found.detail
        found = replace(found, error=OpenAIError(message=message, type=found.type))
    members = {name: value for name, value in asdict(found).items() if value is not None}
    return json.dumps({**members, **more}, separators=(",", ":")).encode("ascii")


def problem_response(found: Problem, **more: Any) -> Response:
    """The answer that carries a problem; `more` are further members of its document."""
    kind = found.type.removeprefix(PROBLEM_TYPE)
    record_problem(kind if kind != found.type else "", found.status)
    body = encoded(replace(found, request_id=request_id()), request.path, **more)
    response = Response(body, found.status, content_type=PROBLEM_MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    return response


def error_response(error: SceneseekError, **more: Any) -> Response:
    """The answer that carries an error, in words that clients of this service may see.

    If the error passes by itself, it says when to ask again. `more` are further members of its document.
    """
    found = problem_of(error)
    if not (error.for_clients or shows_paths()):
        detail = error.title[0].lower() + error.title[1:]
        found = replace(found, detail=detail, hint=error.hint_for_clients or None)
    response = problem_response(found, **more)
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
    if isinstance(error, MethodNotAllowed):
        methods = ", ".join(sorted(error.valid_methods or ()))
        found = problem(405, f"{request.method} is not possible here", f"use one of {methods}")
    else:
        detail, hint = _HTTP_ERRORS.get(own.status_code, (error.description or error.name, ""))
        found = problem(own.status_code, detail, hint)
    response = problem_response(found)
    for name in ("Allow", "Content-Range", "Retry-After"):
        if name in own.headers:
            response.headers[name] = own.headers[name]
    return response


def _unexpected(error: Exception) -> Response:
    # Without the query string: what people search for is theirs.
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem_response(problem(500, "the service met a fault of its own", "its log says more"))
