"""Host and origin checks: which names the service answers to, and which web pages may use it from a browser.

Hosts: a page of another site can have its own name lead to this machine (DNS rebinding), and then counts, for a
browser, as a page of this service: it may read every answer. Its name in the Host header gives it away.

Origins: by default no other site's page may read answers (no CORS). A configured origin may read them and send what
this service's own page may; it must bring the key itself, since browsers are never told to send stored credentials.
There is no wildcard: it would open a service that only this network reaches to every site that somebody in it visits.
What browsers say of a request (Fetch metadata, and Origin) also stops other sites from sending requests whose answers
they cannot read: to load the service, to submit ratings, to learn from response times. A link to the service may be
followed from anywhere. Programs that are not browsers send none of these headers, and are not affected.

Not flask-cors, which allows more than one may want of an origin (patterns, credentials, wildcards) and covers nothing
of hosts and Fetch metadata.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit
from wsgiref.types import WSGIEnvironment

from flask import Response

from sceneseek.errors import InvalidRequest, SceneseekError

# No other site can have these names.
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# A Host header: an IPv6 address in brackets, or a name or an IPv4 address; then perhaps the dot that names may end
# with, and a port.
_HOST = re.compile(
    r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_-][a-z0-9._-]{0,252}?))\.?(?::\d{0,5})?", re.ASCII | re.IGNORECASE
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_EXPOSED_HEADERS = "RateLimit, RateLimit-Policy, Retry-After"
_PREFLIGHT_HEADERS = (
    ("Access-Control-Allow-Methods", "GET, POST"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, X-API-Key"),
    ("Access-Control-Max-Age", "600"),
)


class WrongHost(SceneseekError):
    """A request addressed to a name that is not this service's."""

    status = 421
    slug = "wrong-host"
    title = "Not the name of this service"
    for_clients = True


class CrossSite(SceneseekError):
    """A request that a page of another web site made a browser send."""

    status = 403
    slug = "cross-site"
    title = "Another web site sent this"
    for_clients = True


class Hosts:
    """The host names that the service answers to.

    Args:
        allowed: the configured names; ``*`` is any. The loopback names are always allowed.
        bound_to: where the service listens. On a loopback address only programs of this machine can mean it, and they
            use a loopback name, so no other name is allowed. Otherwise, unless names are configured, any name is:
            a service cannot know what it is called in its network.
    """

    def __init__(self, allowed: tuple[str, ...], bound_to: str) -> None:
        closed = bool(allowed) or _is_loopback(bound_to)
        own = {_bare(name) for name in (*allowed, bound_to)} | _LOOPBACK
        self._names = own if closed and "*" not in allowed else None

    def check(self, environ: WSGIEnvironment) -> None:
        """Check the Host header.

        Raises:
            WrongHost: it does not name this service, or is malformed.
        """
        header: str = environ.get("HTTP_HOST", "")
        name = _host_name(header)
        if (header and not name) or (self._names is not None and name not in self._names):
            raise WrongHost(
                "the service is not asked by the name in the Host header",
                "use the address that it printed, or have it started with --allowed-host and that name",
            )


class Origins:
    """What pages of other origins may do; those of `allowed`, as `checked_origin` returns them, may read answers."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = frozenset(allowed)

    def check(self, environ: WSGIEnvironment) -> str | None:
        """The other origin that sent the request and may read the answer; None where none did.

        Raises:
            CrossSite: an origin sent it that may not.
        """
        origin: str | None = environ.get("HTTP_ORIGIN")
        if origin is not None and origin in self._allowed:
            return origin
        site = environ.get("HTTP_SEC_FETCH_SITE")
        if site in ("cross-site", "same-site"):
            forbidden = not _follows_a_link(environ)
        else:
            forbidden = site is None and _is_unsafe_from_elsewhere(environ, origin)
        if forbidden:
            hint = "have the service started with --cors-origin and that page's origin, if it is meant to"
            if self._allowed and environ.get("HTTP_SEC_FETCH_MODE") == "no-cors":
                hint = "a page of a --cors-origin says which it is if its element has the attribute crossorigin"
            raise CrossSite("a page of another site sent this request", hint)
        return None

    @staticmethod
    def preflight(environ: WSGIEnvironment) -> Response | None:
        """The answer to a preflight request of an allowed origin; None if the request is none."""
        if environ["REQUEST_METHOD"] != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return None
        response = Response(status=204)
        response.headers.extend(_PREFLIGHT_HEADERS)
        return response

    @staticmethod
    def add_headers(response: Response, origin: str | None) -> Response:
        """Let the browser hand the answer to an allowed origin, and tell caches that answers differ by origin."""
        response.vary.add("Origin")
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
        return response


def checked_origin(text: str) -> str:
    """An origin as browsers send it.

    Raises:
        InvalidRequest: it is malformed.
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


def _host_name(host: str) -> str:
    """A Host header without port and brackets, in lower case, and without a dot at its end; empty if malformed."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower() if found else ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(_bare(host)).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bare(host: str) -> str:
    """A configured host as `_host_name` writes it; of a name in other letters what browsers send (IDNA)."""
    bare = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return bare.encode("idna").decode("ascii")
    except UnicodeError:  # no name, such as the path of a Unix socket
        return bare


def _is_unsafe_from_elsewhere(environ: WSGIEnvironment, origin: str | None) -> bool:
    """For browsers without Fetch metadata: old ones, and all where neither TLS nor a loopback name is used."""
    if origin is None or environ["REQUEST_METHOD"] in _SAFE_METHODS:
        return False
    ours: str = environ.get("HTTP_HOST", "")
    # An origin has no path. Not urlsplit, which raises errors of what is none.
    return origin.partition("://")[2].lower() != ours.lower()


def _follows_a_link(environ: WSGIEnvironment) -> bool:
    return (
        environ["REQUEST_METHOD"] in ("GET", "HEAD")
        and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    )
