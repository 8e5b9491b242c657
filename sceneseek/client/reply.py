"""The response of a service, and the error that an unsuccessful one reports."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sceneseek.errors import (
    BundleError,
    Conflict,
    DeadlinePassed,
    FeedbackUnavailable,
    Forbidden,
    ImageError,
    IndexUnavailable,
    InvalidRequest,
    KeyRefused,
    NoSpace,
    NotFound,
    Overloaded,
    PreconditionFailed,
    PreconditionRequired,
    RuntimeUnavailable,
    SceneseekError,
    ServiceError,
    TryAgain,
    Unprocessable,
    UploadsUnavailable,
    WorkerLost,
)

_TYPE_PREFIX = "urn:sceneseek:problem:"
_CLIENT_ERRORS = (
    *(InvalidRequest, Unprocessable, NotFound, Forbidden, Conflict, PreconditionFailed, PreconditionRequired),
    *(KeyRefused, ImageError),
)
_SERVER_ERRORS = (BundleError, IndexUnavailable, RuntimeUnavailable, FeedbackUnavailable, UploadsUnavailable, NoSpace)
_TRANSIENT_ERRORS = (TryAgain, Overloaded, DeadlinePassed, WorkerLost)
_BY_SLUG: dict[str, type[SceneseekError]] = {
    error_type.slug: error_type for error_type in (*_CLIENT_ERRORS, *_SERVER_ERRORS, *_TRANSIENT_ERRORS)
}
# For unknown problem types, such as those of a newer service or of a proxy in front of it.
_BY_STATUS: dict[int, type[SceneseekError]] = {
    400: InvalidRequest,
    401: KeyRefused,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    414: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Overloaded,
    431: InvalidRequest,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response.

    Attributes:
        status: the HTTP status.
        content: the whole body.
        media_type: the media type without parameters; empty without a Content-Type.
        location: the target of a redirect; empty without one.
        retry_after: the seconds of Retry-After; None without this header.
    """

    status: int
    content: bytes = field(repr=False)
    media_type: str = ""
    location: str = ""
    retry_after: float | None = None


def error_of(reply: Reply, address: str) -> SceneseekError:
    """The error that a response reports, with the message of the service.

    Args:
        reply: an unsuccessful response.
        address: of the service.
    """
    problem = _problem_document(reply)
    slug = str(problem.get("type", "")).removeprefix(_TYPE_PREFIX)
    error_type = _BY_SLUG.get(slug) or _BY_STATUS.get(reply.status)
    if error_type is None and reply.status == HTTPStatus.SERVICE_UNAVAILABLE and reply.retry_after is not None:
        error_type = TryAgain
    detail = problem.get("detail")
    if not isinstance(detail, str) or not detail:
        return _error_without_detail(error_type, reply, address)
    hint = problem.get("hint")
    error = _build(error_type, detail, hint if isinstance(hint, str) else "", reply)
    if isinstance(request_id := problem.get("request_id"), str):
        error.add_note(f"request id: {request_id}")
    return error


def _error_without_detail(error_type: type[SceneseekError] | None, reply: Reply, address: str) -> SceneseekError:
    """The error for a response that is not a problem document: something else answers at that address."""
    if 300 <= reply.status < 400 and reply.location:
        # Not followed: the key is meant for this address only.
        return ServiceError(f"{address} redirects to {reply.location}", "use that address", reply.status)
    what = f"{address} answered {reply.status} {_phrase(reply.status)}".rstrip()
    return _build(error_type, what, "check that a sceneseek service has this address, or see the proxy's log", reply)


def _build(error_type: type[SceneseekError] | None, what: str, hint: str, reply: Reply) -> SceneseekError:
    if error_type is None:
        return ServiceError(what, hint, reply.status)
    if issubclass(error_type, ServiceError):
        return error_type(what, hint, reply.status)
    if issubclass(error_type, TryAgain):
        return error_type(what, hint, reply.retry_after or 0)
    if issubclass(error_type, ImageError):
        return error_type("refused", what, hint)
    return error_type(what, hint)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _problem_document(reply: Reply) -> dict[str, Any]:
    try:
        document = json.loads(reply.content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
