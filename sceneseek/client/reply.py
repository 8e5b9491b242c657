"""What came back from a service: a reply, and the error that one stands for."""

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

_KIND = "urn:sceneseek:problem:"
_NOT_SO = (
    *(InvalidRequest, Unprocessable, NotFound, Forbidden, Conflict, PreconditionFailed, PreconditionRequired),
    KeyRefused,
)
_NOT_NOW = (BundleError, IndexUnavailable, RuntimeUnavailable, FeedbackUnavailable, UploadsUnavailable, NoSpace)
_LATER = (TryAgain, Overloaded, DeadlinePassed, WorkerLost)
_BY_KIND: dict[str, type[SceneseekError]] = {kind.slug: kind for kind in (*_NOT_SO, *_NOT_NOW, *_LATER, ImageError)}
# Of problems whose kind is not known here, such as those of a newer service or of a proxy before it.
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
    """An answer.

    Attributes:
        status: the HTTP status.
        content: the whole body.
        media_type: of the body, without its parameters; empty if the answer has none.
        location: where a redirect leads to.
        retry_after: in how many seconds it is worth asking again; None if the answer does not say.
    """

    status: int
    content: bytes = field(repr=False)
    media_type: str = ""
    location: str = ""
    retry_after: float | None = None


def problem_of(reply: Reply, address: str) -> SceneseekError:
    """The error that an answer tells of; its words are the service's.

    Args:
        reply: what came, with a status that is no success.
        address: of the service.
    """
    document = _document(reply)
    kind = str(document.get("type", "")).removeprefix(_KIND)
    found = _BY_KIND.get(kind) or _BY_STATUS.get(reply.status)
    if found is None and reply.status == HTTPStatus.SERVICE_UNAVAILABLE and reply.retry_after is not None:
        found = TryAgain
    detail = document.get("detail")
    if not isinstance(detail, str) or not detail:
        return _without_words(found, reply, address)
    hint = document.get("hint")
    error = _made(found, detail, hint if isinstance(hint, str) else "", reply)
    if isinstance(request := document.get("request_id"), str):
        error.add_note(f"the service knows the request as {request}")
    return error


def _without_words(found: type[SceneseekError] | None, reply: Reply, address: str) -> SceneseekError:
    """The error of an answer that is no problem document: something else answers at that address."""
    if 300 <= reply.status < 400 and reply.location:
        # Not followed: the key is meant for this address, and a search should not wander on unseen.
        return ServiceError(f"{address} refers to {reply.location}", "use the address that it means", reply.status)
    what = f"{address} answered {reply.status} {_phrase(reply.status)}".rstrip()
    return _made(found, what, "check that this is the address of a sceneseek service, or see the proxy's log", reply)


def _made(found: type[SceneseekError] | None, what: str, hint: str, reply: Reply) -> SceneseekError:
    if found is None:
        return ServiceError(what, hint, reply.status)
    if issubclass(found, ServiceError):
        return found(what, hint, reply.status)
    if issubclass(found, TryAgain):
        return found(what, hint, reply.retry_after or 0)
    if issubclass(found, ImageError):
        return found("refused", what, hint)
    return found(what, hint)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _document(reply: Reply) -> dict[str, Any]:
    try:
        document = json.loads(reply.content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
