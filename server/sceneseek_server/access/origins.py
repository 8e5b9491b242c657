"""Host and origin checks: the allowed host names, and the web pages that may use the service from a browser.

Hosts: another site can point its own name to this machine (DNS rebinding), so that a browser treats its page as a page
of this service, which may read every response. The Host header reveals the other name.

Origins: by default, pages of other sites may not read responses (no CORS). A configured origin may read them, and send
the same requests as this service's own page; it must send the key itself, since credentialed requests are not allowed.
There is no wildcard: it would open a service in a private network to every site visited from that network. Fetch
metadata and Origin also stop other sites from sending requests whose responses they cannot read, for example to load
the service, submit ratings, or measure response times. Links to the service may be followed from anywhere. Programs
that are not browsers do not send these headers, and are not affected.

flask-cors is not used: it supports patterns, credentials and wildcards, but neither hosts nor Fetch metadata.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit
from wsgiref.types import WSGIEnvironment

from flask import Response

from sceneseek.errors import InvalidRequest, SceneseekError

# Other sites cannot use these names.
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# A Host header: an IPv6 address in brackets, a name or an IPv4 address; then an optional trailing dot, and an optional
# port.
_HOST = re.compile(
    r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_-][a-z0-9._-]{0,252}?))\.?(?::\d{0,5})?", re.ASCII | re.IGNORECASE
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_EXPOSED_HEADERS = "ETag, Location, RateLimit, RateLimit-Policy, Retry-After"
_PREFLIGHT_HEADERS = (
    ("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, If-None-Match, X-API-Key"),
    ("Access-Control-Max-Age", "600"),
)


class WrongHost(SceneseekError):
    """A request with a host name that is not allowed."""

    status = 421
    slug = "wrong-host"
    title = "Unknown host name"
    for_clients = True


class CrossSite(SceneseekError):
    """A request sent by a page of another web site."""

    status = 403
    slug = "cross-site"
    title = "Cross-site request"
    for_clients = True


class Hosts:
    """The allowed host names.

    Args:
        allowed: the configured names; ``*`` allows any. Loopback names are always allowed.
        bound_to: the address that the service listens on. On a loopback address, only loopback names are allowed by
            default; otherwise any name, since a service does not know its names in the network.
    """

    def __init__(self, allowed: tuple[str, ...], bound_to: str) -> None:
        restricted = bool(allowed) or _is_loopback(bound_to)
        names = {_bare(name) for name in (*allowed, bound_to)} | _LOOPBACK
        self._names = names if restricted and "*" not in allowed else None

    def check(self, environ: WSGIEnvironment) -> None:
        """Check the Host header.

        Raises:
            WrongHost: the name is not allowed, or the header is malformed.
        """
        header: str = environ.get("HTTP_HOST", "")
        name = _host_name(header)
        if (header and not name) or (self._names is not None and name not in self._names):
            raise WrongHost(
                "the name in the Host header is not allowed",
                "use the address that the service printed, or start it with --allowed-host and that name",
            )


class Origins:
    """The access of pages of other origins; those of `allowed`, from `checked_origin`, may read responses."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = frozenset(allowed)

    def check(self, environ: WSGIEnvironment) -> str | None:
        """Return the allowed origin that sent the request; None if it was not sent by another origin.

        Raises:
            CrossSite: the request was sent by an origin that is not allowed.
        """
        origin: str | None = environ.get("HTTP_ORIGIN")
        if origin is not None and origin in self._allowed:
            return origin
        site = environ.get("HTTP_SEC_FETCH_SITE")
        if site in ("cross-site", "same-site"):
            forbidden = not _follows_a_link(environ)
        else:
            forbidden = site is None and _is_unsafe_cross_origin(environ, origin)
        if forbidden:
            hint = "to allow the page, start the service with --cors-origin and its origin"
            if self._allowed and environ.get("HTTP_SEC_FETCH_MODE") == "no-cors":
                hint = "for a page of a --cors-origin, add the attribute crossorigin to the element"
            raise CrossSite("a page of another site sent this request", hint)
        return None

    @staticmethod
    def preflight(environ: WSGIEnvironment) -> Response | None:
        """The response to a preflight request of an allowed origin; None if it is not a preflight request."""
        if environ["REQUEST_METHOD"] != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return None
        response = Response(status=204)
        response.headers.extend(_PREFLIGHT_HEADERS)
        return response

    @staticmethod
    def add_headers(response: Response, origin: str | None) -> Response:
        """Allow an allowed origin to read the response, and let caches distinguish origins."""
        response.vary.add("Origin")
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
        return response


def checked_origin(text: str) -> str:
    """Normalize an origin to the form that browsers send.

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
        raise InvalidRequest(f"{text!r} is not an origin", hint)
    return whole


def _host_name(host: str) -> str:
    """The name of a Host header in lower case, without port, brackets and trailing dot; empty if malformed."""
    match = _HOST.fullmatch(host)
    return (match[1] or match[2]).lower() if match else ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(_bare(host)).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bare(host: str) -> str:
    """A configured host in the form of `_host_name`; an internationalized name in ASCII (IDNA), as browsers send it."""
    bare = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return bare.encode("idna").decode("ascii")
    except UnicodeError:  # not a name, such as the path of a Unix socket
        return bare


def _is_unsafe_cross_origin(environ: WSGIEnvironment, origin: str | None) -> bool:
    """For browsers without Fetch metadata: old ones, and all browsers without TLS or a loopback name."""
    if origin is None or environ["REQUEST_METHOD"] in _SAFE_METHODS:
        return False
    host: str = environ.get("HTTP_HOST", "")
    # An origin has no path. urlsplit would raise errors for malformed origins.
    return origin.partition("://")[2].lower() != host.lower()


def _follows_a_link(environ: WSGIEnvironment) -> bool:
    return (
        environ["REQUEST_METHOD"] in ("GET", "HEAD")
        and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    )
