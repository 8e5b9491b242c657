"""HTTP responses: security headers, JSON, and problem documents for errors (RFC 9457)."""

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
# The endpoint compatible with OpenAI's API, whose clients expect errors in another format.
EMBEDDINGS = "/v1/embeddings"
# The key of the request's deadline (`time.monotonic`) in the WSGI environment.
DEADLINE = "sceneseek.deadline"

# The page loads only its own scripts, styles and images.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = [
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    # Other sites cannot embed resources of this service, nor share a process or a window with it.
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    # For browsers without support for frame-ancestors.
    ("X-Frame-Options", "DENY"),
    ("X-Permitted-Cross-Domain-Policies", "none"),
    # The page uses none of these features.
    ("Permissions-Policy", "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
]

# The details and hints of Werkzeug's own errors.
_HTTP_ERRORS = {
    404: ("this address does not exist", "search at /v1/search?q=..., or open / in a browser"),
    413: ("the body is too large", "send at most 1 MB of JSON, or a smaller image"),
    415: ("the media type of the body is not supported", "send JSON as application/json, a picture as image/jpeg"),
}


def shape_responses(app: Flask) -> None:
    """Turn the errors of an application into problem documents, and add the security headers to every response.

    The headers are added by a middleware, which is faster than checking and setting each of them in `after_request`.
    """
    app.register_error_handler(SceneseekError, _sceneseek_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)
    inner = app.wsgi_app

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, headers + SECURITY_HEADERS, *error)

        return inner(environ, start)

    app.wsgi_app = outer  # type: ignore[method-assign]  # Flask's documented place for a middleware


def deadline() -> float | None:
    """The deadline of the current request (`time.monotonic`); None if it has none."""
    value: float | None = request.environ.get(DEADLINE)
    return value


def json_response(document: object, status: int = 200) -> Response:
    """A response with a document as compact JSON, not to be cached."""
    response = Response(to_json(document), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def public(image: Details) -> Details:
    """Add the addresses of an image, and remove its path if paths are hidden."""
    # Not built by url_for, which takes longer than reranking.
    address = f"{current_app.config['APPLICATION_ROOT']}/v1/images/{image.id}"
    path = image.path if shows_paths() else None
    return replace(image, path=path, image=address, thumbnail=f"{address}/thumbnail")


def problem(status: int, detail: str, hint: str = "") -> Problem:
    """A problem without its own type, described by its HTTP status."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, hint=hint or None)


def problem_of(error: SceneseekError) -> Problem:
    """The problem of an error."""
    base = problem(error.status, error.what, error.hint)
    return replace(base, type=PROBLEM_TYPE + error.slug, title=error.title) if error.slug else base


def encode_problem(found: Problem, path: str = "", **more: Any) -> bytes:
    """Encode a problem document in ASCII, with `more` as additional members, in the format of the requested path."""
    if path == EMBEDDINGS:
        message = f"{found.detail}: {found.hint}" if found.hint else found.detail
        found = replace(found, error=OpenAIError(message=message, type=found.type))
    members = {name: value for name, value in asdict(found).items() if value is not None}
    return json.dumps({**members, **more}, separators=(",", ":")).encode("ascii")


def problem_response(found: Problem, **more: Any) -> Response:
    """The response with a problem; `more` are additional members of its document."""
    kind = found.type.removeprefix(PROBLEM_TYPE)
    record_problem(kind if kind != found.type else "", found.status)
    body = encode_problem(replace(found, request_id=request_id()), request.path, **more)
    response = Response(body, found.status, content_type=PROBLEM_MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    return response


def error_response(error: SceneseekError, **more: Any) -> Response:
    """The response with an error, without details that clients may not see.

    For a temporary error it has a Retry-After header. `more` are additional members of the document.
    """
    found = problem_of(error)
    if not (error.for_clients or shows_paths()):
        detail = error.title[0].lower() + error.title[1:]
        found = replace(found, detail=detail, hint=error.hint_for_clients or None)
    response = problem_response(found, **more)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after))
    return response


def _sceneseek_error(error: SceneseekError) -> Response:
    # Temporary errors are frequent under load; they are counted, not logged.
    if error.retry_after is None and error.status >= 500:
        log.error("%s %s: %s", request.method, request.path, error)
    elif error.retry_after is None and not (error.for_clients or shows_paths()):
        log.warning("%s %s: %s", request.method, request.path, error)
    return error_response(error)


def _http_error(error: HTTPException) -> Response:
    original = error.get_response()
    if isinstance(error, MethodNotAllowed):
        methods = ", ".join(sorted(error.valid_methods or ()))
        found = problem(405, f"{request.method} is not allowed here", f"use one of {methods}")
    else:
        detail, hint = _HTTP_ERRORS.get(original.status_code, (error.description or error.name, ""))
        found = problem(original.status_code, detail, hint)
    response = problem_response(found)
    for name in ("Allow", "Content-Range", "Retry-After"):
        if name in original.headers:
            response.headers[name] = original.headers[name]
    return response


def _unexpected_error(error: Exception) -> Response:
    # Without the query string: searches are private.
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem_response(problem(500, "an internal error occurred", "see the log of the service"))
