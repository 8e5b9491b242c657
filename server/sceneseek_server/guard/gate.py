"""The door as hooks of a Flask application: `guard`, called once, before the application answers anything."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from flask import Flask, Response, after_this_request, current_app, g, request
from limits import RateLimitItem
from werkzeug.middleware.proxy_fix import ProxyFix

from sceneseek_server.guard.caller import Caller, network
from sceneseek_server.guard.credentials import key_in
from sceneseek_server.guard.hosts import Hosts
from sceneseek_server.guard.keys import KeyRing
from sceneseek_server.guard.origins import Origins
from sceneseek_server.guard.paths import set_paths
from sceneseek_server.guard.rates import Rates, Standing, in_seconds, parsed_rate, times
from sceneseek_server.guard.refusal import RateLimited, Unauthorized
from sceneseek_server.guard.settings import MAX_BODY_BYTES, Guard

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger(__name__)

MAX_FORM_PARTS = 32

# Whatever starts and balances services asks these, without a key, by whatever name it has for us.
_OPEN = frozenset({"/healthz", "/readyz"})
# Set in the WSGI environment, where no header can, by a listener whose callers are let in without a check.
LET_IN = "sceneseek.let_in"
# The page costs no more than a refusal does.
_STATIC = "/static/"
_IMAGES = "/v1/images/"
# A page of results has as many images, so they are counted apart, at so many times the rate.
IMAGES_PER_REQUEST = 50
# Guessing 256 bits is in vain at any rate: this is for the log, and against noise.
_WRONG_KEYS = "20/minute"
_CHALLENGES = ('Bearer realm="sceneseek"', 'Basic realm="sceneseek", charset="UTF-8"')
_EXTENSION = "sceneseek-guard"
# What is not images.
_REQUESTS = "requests"


def guard(app: Flask, settings: Guard) -> None:
    """Put the door before every view of an application.

    Args:
        app: errors that its views raise must be answered as problems.
        settings: what is asked of requests, and what answers may tell.

    Raises:
        SourceError: keys are wanted and cannot be had.
        InvalidRequest: the rate or an origin is none.
    """
    set_paths(app, settings.show_paths)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY_BYTES
    app.config["MAX_FORM_PARTS"] = MAX_FORM_PARTS
    gate = _Gate(settings)
    app.extensions[_EXTENSION] = gate
    app.before_request(gate.admit)
    if settings.cors_origins:
        app.after_request(gate.mark)
    if settings.trusted_proxies:
        # Not the host: a proxy that does not set it would pass on what a client wrote, and `Hosts` believe it.
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=0, x_prefix=count)  # type: ignore[method-assign]  # Flask's documented place for a middleware


def charge(more: int) -> None:
    """Count a request that has been let in for as many more: it holds several searches.

    Raises:
        RateLimited: that is more than its sender may ask now.
    """
    cast("_Gate", current_app.extensions[_EXTENSION]).charge(more)


def guard_problem() -> str | None:
    """What is wrong with the door of the application that answers, for its operator; it holds no path."""
    gate = cast("_Gate", current_app.extensions[_EXTENSION])
    return gate.keys.problem if gate.keys is not None else None


class _Gate:
    def __init__(self, settings: Guard) -> None:
        self.keys = KeyRing(settings.api_keys) if settings.api_keys is not None else None
        self._hosts = Hosts(settings.allowed_hosts, settings.bound_to)
        self._origins = Origins(settings.cors_origins)
        self._rate = parsed_rate(settings.rate_limit) if settings.rate_limit is not None else None
        self._rates = Rates()
        self._wrong_keys = Rates()
        self._max_body = settings.max_body

    def admit(self) -> Response | None:
        """Let the request pass, or raise why not; an answer for a browser that asks beforehand."""
        environ, path = request.environ, request.path
        if path in _OPEN or LET_IN in environ:
            return None
        self._hosts.check(environ)
        origin = self._origins.admitted(environ)
        if origin is not None:
            g.origin = origin
            # Comes without a key, whatever the request after it comes with.
            if (answer := self._origins.preflight(environ)) is not None:
                return answer
        g.rate = rate = self._identify(environ)
        self._count(rate, path)
        request.max_content_length = self._max_body(environ.get("CONTENT_TYPE", ""))
        return None

    def charge(self, more: int) -> None:
        """See the function of this name."""
        rate: RateLimitItem | None = g.rate
        if rate is not None and more > 0:
            self._judge(self._rates.hit(rate, _of(_REQUESTS), more), rate, _REQUESTS)

    def mark(self, response: Response) -> Response:
        """Say who may read the answer."""
        return self._origins.mark(response, g.get("origin"))

    def _identify(self, environ: WSGIEnvironment) -> RateLimitItem | None:
        """Find out who asks; what its rate is, if it has one."""
        address = str(environ.get("REMOTE_ADDR") or "unknown")
        if self.keys is None:
            g.caller = Caller(address)
            return self._rate
        secret = key_in(environ)
        entry = self.keys.find(secret) if secret is not None else None
        if entry is None:
            if secret is not None:
                self._note_wrong_key(address)
            after_this_request(_challenge)
            raise Unauthorized
        g.caller = Caller(address, entry.name)
        return parsed_rate(entry.rate) if entry.rate is not None else self._rate

    def _note_wrong_key(self, address: str) -> None:
        """Count a wrong key; the right one goes on opening from the same address, so nobody can shut others out."""
        rate = parsed_rate(_WRONG_KEYS)
        standing = self._wrong_keys.hit(rate, network(address))
        if not standing.allowed:
            _tell(standing, rate, "wrong-keys")
            raise RateLimited(standing.retry_after)
        log.warning("a key that is not live was sent from %s to %s", address, request.path)

    def _count(self, rate: RateLimitItem | None, path: str) -> None:
        if rate is None or path == "/" or path.startswith(_STATIC):
            return
        name = _REQUESTS
        if path.startswith(_IMAGES):
            name, rate = "images", times(rate, IMAGES_PER_REQUEST)
        self._judge(self._rates.hit(rate, _of(name)), rate, name)

    @staticmethod
    def _judge(standing: Standing, rate: RateLimitItem, name: str) -> None:
        _tell(standing, rate, name)
        if not standing.allowed:
            raise RateLimited(standing.retry_after)


def _of(name: str) -> str:
    """Under which the requests of a kind of who asks are counted."""
    return f"{name} {cast(Caller, g.caller).identity}"


def _challenge(response: Response) -> Response:
    for challenge in _CHALLENGES:
        response.headers.add("WWW-Authenticate", challenge)
    return response


def _tell(standing: Standing, rate: RateLimitItem, name: str) -> None:
    """Have the answer say where its sender stands (draft-ietf-httpapi-ratelimit-headers)."""

    def told(response: Response) -> Response:
        wait = in_seconds(standing.retry_after)
        response.headers["RateLimit-Policy"] = f'"{name}";q={rate.amount};w={rate.get_expiry()}'
        response.headers["RateLimit"] = f'"{name}";r={standing.remaining};t={wait}'
        if not standing.allowed:
            response.headers["Retry-After"] = wait
        return response

    after_this_request(told)
