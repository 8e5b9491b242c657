"""A request's body as the application reads it: what is wrong with it is the client's fault, and answered as such."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.exceptions import BadRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIEnvironment


def answer_broken_bodies(app: Flask) -> None:
    """Have a body that ends early or is malformed, such as its chunks, answered with 400 rather than 500."""
    inner = app.wsgi_app

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        return inner(environ, start_response)

    app.wsgi_app = outer  # type: ignore[method-assign]  # Flask's documented place for a middleware


class _Body:
    """A `wsgi.input`."""

    def __init__(self, stream: InputStream) -> None:
        self._stream = stream

    def read(self, *size: int) -> bytes:
        return self._checked(self._stream.read, *size)

    def readline(self, *size: int) -> bytes:
        return self._checked(self._stream.readline, *size)

    def readlines(self, _hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    @staticmethod
    def _checked(read: Callable[..., bytes], *size: Any) -> bytes:
        try:
            return read(*size)
        except Exception as error:  # each server has errors of its own for this
            raise BadRequest("the body of the request is malformed or ends early") from error
