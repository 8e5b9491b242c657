"""Requests that pages of other web sites send: which may be answered, and which answers those pages may read.

By default none (no CORS). An origin that was named may read answers and send what the page of the service may; it has
to bring the key itself, as browsers are never told to send what they keep for us (no credentials). There is no
wildcard: it would open a service that only this network reaches to every site that somebody in it visits.

What browsers say of a request (Fetch metadata, and Origin) keeps other sites from sending requests whose answers they
could not read: to make the service work, to leave ratings, to learn from the time it takes. A link to the service
may be followed from anywhere. Programs that are no browsers say none of this, and are not held up.

Written here rather than taken from flask-cors, which answers more than one may want from an origin (patterns,
credentials, wildcards) and nothing of the second half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Response

from sceneseek.errors import InvalidRequest
from sceneseek_server.guard.refusal import CrossSite

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_READABLE = "RateLimit, RateLimit-Policy, Retry-After"
_ALLOWED = (
    ("Access-Control-Allow-Methods", "GET, POST"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, X-API-Key"),
    ("Access-Control-Max-Age", "600"),
)


def checked_origin(text: str) -> str:
    """An origin as browsers send it.

    Raises:
        InvalidRequest: it is none.
    """
    parts = urlsplit(text.lower())
    try:
        whole = f"{parts.scheme}://{parts.netloc}" if parts.port != 0 else ""
    except ValueError:
        whole = ""
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or whole != text.lower():
        hint = "write it as https://example.org or http://localhost:3000, without a path; there is no wildcard"
        raise InvalidRequest(f"{text!r} is no origin", hint)
    return whole


class Origins:
    """What other origins may do.

    Args:
        allowed: those that may read answers, each as `checked_origin` has it.
    """

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = frozenset(allowed)

    def admitted(self, environ: WSGIEnvironment) -> str | None:
        """The origin that may read the answer; None where the request comes from none but our own, or no browser.

        Raises:
            CrossSite: the request comes from an origin that may not.
        """
        origin: str | None = environ.get("HTTP_ORIGIN")
        if origin is not None and origin in self._allowed:
            return origin
        site = environ.get("HTTP_SEC_FETCH_SITE")
        if site in ("cross-site", "same-site"):
            refused = not _follows_a_link(environ)
        else:
            refused = site is None and _changes_from_elsewhere(environ, origin)
        if refused:
            raise CrossSite
        return None

    @staticmethod
    def preflight(environ: WSGIEnvironment) -> Response | None:
        """The answer to an admitted origin that asks what it may send; None if it asks something else."""
        if environ["REQUEST_METHOD"] != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return None
        response = Response(status=204)
        response.headers.extend(_ALLOWED)
        return response

    @staticmethod
    def mark(response: Response, origin: str | None) -> Response:
        """Tell the browser that an origin may read this answer, and caches that answers differ by origin."""
        response.vary.add("Origin")
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _READABLE
        return response


def _changes_from_elsewhere(environ: WSGIEnvironment, origin: str | None) -> bool:
    """For browsers without Fetch metadata: old ones, and all where neither TLS nor a loopback name is used."""
    if origin is None or environ["REQUEST_METHOD"] in _READING:
        return False
    ours: str = environ.get("HTTP_HOST", "")
    return urlsplit(origin).netloc.lower() != ours.lower()


def _follows_a_link(environ: WSGIEnvironment) -> bool:
    return (
        environ["REQUEST_METHOD"] in ("GET", "HEAD")
        and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    )
