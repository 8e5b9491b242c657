"""A request's headers to the key in them. Never from the address: that is logged, kept and passed on."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def key_in(environ: WSGIEnvironment) -> str | None:
    """The key that a request comes with; None if it comes with none.

    ``X-API-Key`` counts before ``Authorization``, which a proxy with a login of its own may need. There the key is
    a Bearer token, or the password of Basic, whatever the user: so that a browser can ask for it.
    """
    own: str | None = environ.get("HTTP_X_API_KEY")
    if own is not None:
        return own.strip()
    authorization: str = environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(credentials.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return ""  # there was one, and it is wrong
        return pair.partition(":")[2]
    return None
