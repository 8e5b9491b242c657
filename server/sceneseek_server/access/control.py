"""Access control of a Flask application: `control_access`, called once, checks every request before its view.

A request passes these checks in this order:

    host      the Host header contains an allowed name          421
    origin    it is not from a page of another web site         403
    key       it has a valid API key, if keys are required      401
    rate      its client is within the rate limit               429

`/healthz` and `/readyz` are exempt, so that load balancers and orchestrators need no key; they reveal no secrets.
Requests with `EXEMPT` in the WSGI environment, set by a listener (see `metrics_port`), are exempt too. The module also
limits request bodies, answers malformed ones with 400, and stores whether responses may contain paths.
"""

from __future__ import annotations

import functools
import io
import ipaddress
import logging
import math
import re
from dataclasses import dataclass
from typing import cast
from wsgiref.types import InputStream, WSGIEnvironment

from flask import Flask, Response, after_this_request, current_app, g, request
from werkzeug.exceptions import BadRequest
from werkzeug.middleware.proxy_fix import ProxyFix

from sceneseek.errors import Forbidden, InvalidRequest, SceneseekError
from sceneseek.filters.conditions import All, AnyPart, Filter, InFolder, Not, field_path
from sceneseek.queries import Query
from sceneseek_server.access.keys import KeyRing, key_in
from sceneseek_server.access.origins import Hosts, Origins
from sceneseek_server.access.rates import Rate, RateLimiter, Usage, parsed_rate, times
from sceneseek_server.service import AccessSettings

log = logging.getLogger(__name__)

# Set in the WSGI environment by a listener whose requests are not checked; headers cannot set it.
EXEMPT = "sceneseek.access_exempt"
# The limit of a JSON body, and of the parts of a form that are not files.
MAX_BODY_BYTES = 2**20
MAX_FORM_PARTS = 32
FORM = "multipart/form-data"
# A page of results loads many images, so they are counted separately, at this multiple of the rate.
IMAGES_PER_REQUEST = 50

_EXEMPT_PATHS = frozenset({"/healthz", "/readyz"})
# The page costs no more than an error response.
_STATIC = "/static/"
_IMAGES = "/v1/images/"
_WRITING = frozenset({"PUT", "DELETE"})
# Keys of 256 bits cannot be guessed at any rate; this limits the noise in the log.
_WRONG_KEYS = "20/minute"
_CHALLENGES = ('Bearer realm="sceneseek"', 'Basic realm="sceneseek", charset="UTF-8"')
_EXTENSION = "sceneseek-access"
_SHOW_PATHS = "SHOW_PATHS"
# An address as proxies write it: 192.0.2.1:49152, [2001:db8::1]:49152, [2001:db8::1].
_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d+)?|(?P<v4>[^:]*):\d+", re.ASCII)
# Payload fields that reveal a file's location; `dhash` and `sha256` describe its content, which clients may fetch.
_LOCATION_FIELDS = frozenset({"path", "path_bytes", "folders", "source"})


class Unauthorized(SceneseekError):
    """No key, or no valid one; the response does not tell which."""

    status = 401
    slug = "unauthorized"
    title = "API key required"
    for_clients = True


class RateLimited(SceneseekError):
    """A client exceeded its rate limit.

    Args:
        retry_after: seconds until the next request is allowed.
    """

    status = 429
    slug = "rate-limited"
    title = "Rate limit exceeded"
    for_clients = True

    def __init__(self, retry_after: float) -> None:
        super().__init__("the rate limit is exceeded", "wait for the seconds given in Retry-After")
        self.retry_after = retry_after


class EncodedBody(SceneseekError):
    """A compressed request body."""

    status = 415
    slug = "encoded-body"
    title = "The body is compressed"
    for_clients = True


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        address: its network address, behind trusted proxies.
        key: the name of its key; None if keys are not required.
        may_write: whether it may add and delete pictures; always False without a key.
    """

    address: str
    key: str | None = None
    may_write: bool = False

    @property
    def identity(self) -> str:
        """The identity for counting its requests."""
        return f"key {self.key}" if self.key is not None else f"address {network(self.address)}"


def control_access(app: Flask, settings: AccessSettings) -> None:
    """Check every request of an application before its view; error handlers must turn errors into responses.

    Raises:
        SourceError: the key file cannot be read, or has no keys.
        InvalidRequest: the rate limit or an origin is malformed.
    """
    app.config[_SHOW_PATHS] = settings.show_paths
    app.config["APPLICATION_ROOT"] = settings.url_prefix
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY_BYTES
    app.config["MAX_FORM_PARTS"] = MAX_FORM_PARTS
    control = app.extensions[_EXTENSION] = _AccessControl(settings)
    app.before_request(control.check)
    if settings.cors_origins:
        app.after_request(lambda response: control.origins.add_headers(response, g.get("origin")))
    if settings.trusted_proxies:
        # Only the address: a proxy that does not set the other headers passes them on from the client.
        app.wsgi_app = ProxyFix(app.wsgi_app, settings.trusted_proxies, x_proto=0, x_host=0, x_port=0, x_prefix=0)  # type: ignore[method-assign]  # Flask's documented place for a middleware


def caller() -> Caller | None:
    """The sender of the current request; None if the request is exempt from the checks."""
    return cast("Caller | None", g.get("caller"))


def may_write() -> bool:
    """Whether the sender of the current request may add and delete pictures, if uploads are enabled."""
    sender = caller()
    return sender is not None and sender.may_write


def check_may_write() -> None:
    """Raise Forbidden unless the sender of the current request may add and delete pictures."""
    if not may_write():
        raise Forbidden("this key may not write", "use a key created with: sceneseek keys add NAME --write")


def charge(cost: int, images: bool = False) -> None:
    """Count the current request as several, since it contains several searches or pictures.

    Args:
        cost: the number of requests to count.
        images: whether it requests images of the collection, which are counted separately.

    Raises:
        RateLimited: the caller exceeds its rate limit.
    """
    rate: Rate | None = g.rate
    if rate is not None and cost > 1:
        limit = times(rate, IMAGES_PER_REQUEST) if images else rate
        _current().count(limit, "images" if images else "requests", cost, paid=1)


def key_file_problem() -> str | None:
    """Why the key file of the current application cannot be reloaded, without its path; None if it can."""
    keys = _current().keys
    return keys.current_problem() if keys is not None else None


def shows_paths() -> bool:
    """Whether responses may contain paths and names of files."""
    return bool(current_app.config.get(_SHOW_PATHS, False))


def check_query(query: Query) -> None:
    """Reject a query that filters or sorts by path or folder if paths are hidden.

    An id is a hash of the image's path within its folder, so a client can confirm a guess of a whole path; a filter
    would let it guess one folder at a time.

    Raises:
        InvalidRequest: the query uses paths or folders, and these are hidden.
    """
    if shows_paths():
        return
    if query.where is not None and _reads_location(query.where):
        raise InvalidRequest(
            "the filter asks for a path or folder, which this service does not show",
            "filter by another field, or start the service with --show-paths",
        )
    if query.sort is not None and field_path(query.sort.removeprefix("-"))[0] in _LOCATION_FIELDS:
        raise InvalidRequest(
            "results are sorted by path, which this service does not show",
            "sort by another field, or start the service with --show-paths",
        )


@functools.lru_cache(4_096)
def network(address: str) -> str:
    """The part of an address that identifies a subscriber: the first 64 bits of IPv6, since the rest is freely chosen.

    The port, which some proxies append, is removed. Text that is not an address becomes ``unknown``.
    """
    text = address.strip().strip('"')
    if (match := _WITH_PORT.fullmatch(text)) is not None:
        text = match["v6"] or match["v4"]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


class _AccessControl:
    def __init__(self, settings: AccessSettings) -> None:
        self.keys = KeyRing(settings.api_keys) if settings.api_keys is not None else None
        self.origins = Origins(settings.cors_origins)
        self._hosts = Hosts(settings.allowed_hosts, settings.bound_to)
        self._rate = parsed_rate(settings.rate_limit) if settings.rate_limit is not None else None
        self._limiter = RateLimiter()
        self._wrong_keys = RateLimiter()
        self._max_form_bytes = settings.max_upload + MAX_BODY_BYTES

    def check(self) -> Response | None:
        """Raise an error unless the request is allowed; return the response to a CORS preflight."""
        environ, path = request.environ, request.path
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        if path in _EXEMPT_PATHS or EXEMPT in environ:
            return None
        self._hosts.check(environ)
        origin = self.origins.check(environ)
        if origin is not None:
            g.origin = origin
            # A preflight never has a key, even if the actual request does.
            if (response := self.origins.preflight(environ)) is not None:
                return response
        g.rate = rate = self._identify(environ)
        if rate is not None and path != "/" and not path.startswith(_STATIC):
            if path.startswith(_IMAGES) and request.method not in _WRITING:
                self.count(times(rate, IMAGES_PER_REQUEST), "images")
            else:
                self.count(rate, "requests")
        if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
            raise EncodedBody("the body is compressed", "send it uncompressed, without Content-Encoding")
        request.max_content_length = self._max_form_bytes if request.mimetype == FORM else MAX_BODY_BYTES
        return None

    def count(self, rate: Rate, kind: str, cost: int = 1, paid: int = 0) -> None:
        """Count the current request for its sender; each kind of request is counted separately."""
        usage = self._limiter.hit(rate, f"{kind} {cast(Caller, caller()).identity}", cost, paid)
        _report_usage(usage, rate, kind)
        if not usage.allowed:
            raise RateLimited(usage.retry_after)

    def _identify(self, environ: WSGIEnvironment) -> Rate | None:
        """Set `g.caller`, and return its rate limit; None if unlimited."""
        address = str(environ.get("REMOTE_ADDR") or "unknown")
        if self.keys is None:
            g.caller = Caller(address)
            return self._rate
        secret = key_in(environ)
        entry = self.keys.find(secret) if secret is not None else None
        if entry is None:
            if secret is not None:
                self._count_wrong_key(address)
            after_this_request(_challenge)
            hint = "send it as Authorization: Bearer KEY or as X-API-Key: KEY; in a browser, enter it as the password"
            raise Unauthorized("an API key is required", hint)
        g.caller = Caller(address, entry.name, entry.write)
        return parsed_rate(entry.rate) if entry.rate is not None else self._rate

    def _count_wrong_key(self, address: str) -> None:
        """Limit wrong keys per address; valid keys still pass, so nobody can lock others out."""
        rate = parsed_rate(_WRONG_KEYS)
        usage = self._wrong_keys.hit(rate, network(address))
        if not usage.allowed:
            _report_usage(usage, rate, "wrong-keys")
            raise RateLimited(usage.retry_after)
        log.warning("an invalid key was sent from %s to %s", address, request.path)


class _Body(io.RawIOBase):
    """The stream of a request body, which reports errors as BadRequest."""

    def __init__(self, stream: InputStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # typeshed's Buffer has no length
        try:
            data = self._stream.read(len(buffer))
        except Exception as error:  # each WSGI server has its own errors
            raise BadRequest("the body of the request is malformed or ends early") from error
        buffer[: len(data)] = data
        return len(data)


def _current() -> _AccessControl:
    return cast(_AccessControl, current_app.extensions[_EXTENSION])


def _reads_location(where: Filter) -> bool:
    if isinstance(where, All | AnyPart):
        return any(_reads_location(part) for part in where.parts)
    if isinstance(where, Not):
        return _reads_location(where.part)
    return isinstance(where, InFolder) or where.field[0] in _LOCATION_FIELDS


def _challenge(response: Response) -> Response:
    for challenge in _CHALLENGES:
        response.headers.add("WWW-Authenticate", challenge)
    return response


def _report_usage(usage: Usage, rate: Rate, kind: str) -> None:
    """Add the state of the rate limit to the response (draft-ietf-httpapi-ratelimit-headers)."""

    def add_headers(response: Response) -> Response:
        wait = str(max(1, math.ceil(usage.retry_after)))
        response.headers["RateLimit-Policy"] = f'"{kind}";q={rate.amount};w={rate.seconds}'
        response.headers["RateLimit"] = f'"{kind}";r={usage.remaining};t={wait}'
        if not usage.allowed:
            response.headers["Retry-After"] = wait
        return response

    after_this_request(add_headers)
