"""What the door of the application is told at the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 10**6
# A body of JSON, and what of a form is no file.
MAX_BODY_BYTES = 2**20
_FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Guard:
    """The settings of `sceneseek_server.guard`; the defaults are those of an application that one asks in process.

    Attributes:
        api_keys: the file of keys, see `sceneseek_server.guard.key_file`; None lets everyone in.
        rate_limit: how much one key, or one address where there are no keys, may ask, such as ``20/second``.
        trusted_proxies: how many proxies stand before the service, whose X-Forwarded headers are believed.
        cors_origins: origins of other web pages that may read answers, such as ``https://example.org``.
        allowed_hosts: names that the service is asked by; ``*`` is any. See `sceneseek_server.guard.hosts`.
        bound_to: the name or address that it listens at.
        show_paths: whether answers may hold paths and names of files.
        max_upload: the most bytes of an uploaded image.
    """

    api_keys: Path | None = None
    rate_limit: str | None = None
    trusted_proxies: int = 0
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    bound_to: str = ""
    show_paths: bool = False
    max_upload: int = 16 * MEGABYTE

    @property
    def max_form(self) -> int:
        """The most bytes of a form: the file, and what is around it."""
        return self.max_upload + MAX_BODY_BYTES

    def max_body(self, content_type: str) -> int:
        """The most bytes of a body of this type; a longer one is refused."""
        return self.max_form if content_type.startswith(_FORM) else MAX_BODY_BYTES
