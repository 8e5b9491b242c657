"""API keys: the key file, the currently valid keys, and the key of a request.

    {"keys": [{"name": "phone", "sha256": "9f86...", "created": "2026-01-31T12:00:00Z",
               "expires": "2026-05-01T12:00:00Z", "rate": "5/second", "write": true}]}

The file stores the SHA-256 of each key, never the key; `expires`, `rate` and `write` are optional. Every key may
search; a key with `write` may also add and delete pictures, if uploads are enabled. A key is 256 random bits, which
cannot be guessed, so a plain SHA-256 is enough; a slow password hash per request would only let anyone occupy the CPU.
The file is replaced atomically. A file that other users may write is rejected, since they could add a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from wsgiref.types import WSGIEnvironment

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sceneseek.errors import InvalidRequest, NotFound, SourceError
from sceneseek.files import locked, write_atomic
from sceneseek_server.access.rates import parsed_rate

# Lets people, and scanners for leaked secrets, recognise a key.
_PREFIX = "sceneseek_"
_HINT = "create a key with: sceneseek keys add NAME"
# Seconds between checks of the file for changes.
_REFRESH_INTERVAL = 1.0

log = logging.getLogger(__name__)


def _rate(text: str | None) -> str | None:
    if text is not None:
        parsed_rate(text)
    return text


class KeyEntry(BaseModel):
    """The entry of a key; its repr omits the hash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Field(repr=False)]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    rate: Annotated[str | None, AfterValidator(_rate)] = None
    write: bool = False


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key, with its secret, which is not stored."""

    entry: KeyEntry
    secret: str = field(repr=False)


class KeyRing:
    """The valid keys of a file. Thread-safe.

    The file is checked once a second and reloaded when it has changed, so keys can be added and removed without a
    restart. If it cannot be read, the previous keys stay valid, `current_problem` reports it, and the reason is logged.
    If a changed file has no keys, no key is valid.

    Raises:
        SourceError: the file cannot be read, or has no keys: a service that requires keys does not start without one.
    """

    def __init__(self, path: Path) -> None:
        self._problem: str | None = None
        self._path = path
        self._refreshing = threading.Lock()
        self._refreshed = time.monotonic()
        self._state = self._file_state()
        self._entries = read_keys(path)
        if not self._entries:
            raise SourceError(f"the key file {path} has no keys", _HINT)

    def current_problem(self) -> str | None:
        """Why the file could not be reloaded, without its path; None if it could."""
        self._refresh()
        return self._problem

    def find(self, secret: str) -> KeyEntry | None:
        """Return the entry of a key; None if the key is unknown or has expired.

        Compares all entries, each in constant time, so that the time taken reveals nothing about the keys.
        """
        self._refresh()
        digest = digest_of(secret)
        found = None
        for entry in self._entries:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        if found is not None and found.expires is not None and found.expires <= datetime.now(UTC):
            return None
        return found

    def _refresh(self) -> None:
        if time.monotonic() - self._refreshed < _REFRESH_INTERVAL or not self._refreshing.acquire(blocking=False):
            return  # checked recently, or by another request now
        try:
            self._refreshed = time.monotonic()
            # Taken before the file is read, so that a change in between is seen at the next check.
            state = self._file_state()
            if state != self._state:
                self._state = state
                self._read()
        finally:
            self._refreshing.release()

    def _read(self) -> None:
        try:
            self._entries = read_keys(self._path)
        except SourceError as error:
            self._problem = "the key file cannot be read: the keys before its last change are still valid"
            log.error("the keys are unchanged: %s", error)
            return
        self._problem = None
        log.info("%d keys are valid: %s", len(self._entries), ", ".join(entry.name for entry in self._entries))

    def _file_state(self) -> tuple[int, ...] | None:
        """Values that change with the file; None if it does not exist."""
        try:
            facts = os.stat(self._path)  # noqa: PTH116 - runs during requests, and takes a third of Path.stat's time
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_mode


def key_in(environ: WSGIEnvironment) -> str | None:
    """The key of a request; None without a key. Keys in the URL, which may be logged, are not supported.

    ``X-API-Key`` takes precedence over ``Authorization``, which a proxy may use for its own login. In ``Authorization``
    the key is a Bearer token, or the password of Basic with any user name, so that a browser can ask for it.
    """
    header: str | None = environ.get("HTTP_X_API_KEY")
    if header is not None:
        return header.strip()
    authorization: str = environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(credentials.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return ""  # malformed, so an invalid key
        return pair.partition(":")[2]
    return None


def digest_of(secret: str) -> str:
    """The digest of a key, as stored in the file."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_key(
    name: str, created: datetime, expires: datetime | None = None, rate: str | None = None, write: bool = False
) -> NewKey:
    """Create a key, without adding it to a file.

    Raises:
        InvalidRequest: the name or the rate is malformed.
    """
    secret = _PREFIX + secrets.token_urlsafe(32)
    try:
        entry = KeyEntry(name=name, sha256=digest_of(secret), created=created, expires=expires, rate=rate, write=write)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("name",):
            raise InvalidRequest(
                f"{name!r} is not a valid key name",
                "use up to 64 letters, digits and . _ @ -, a letter or digit first",
            ) from None
        raise
    return NewKey(entry, secret)


def read_keys(path: Path) -> tuple[KeyEntry, ...]:
    """The entries of a key file.

    Raises:
        SourceError: the file is missing, unreadable, writable by other users, or malformed.
    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o022:
                raise SourceError(f"the key file {path} can be written by others", f"chmod 600 {path}")
            content = file.read()
    except FileNotFoundError:
        raise SourceError(f"the key file {path} does not exist", _HINT) from None
    except OSError as error:
        raise SourceError(
            f"the key file {path} cannot be read ({error.strerror})", "let the service's user read it"
        ) from error
    try:
        keys = _Document.model_validate_json(content).keys
    except (ValidationError, InvalidRequest) as error:
        raise SourceError(f"the key file {path} is damaged ({_first_error(error)})", _HINT) from None
    for part in ("name", "sha256"):
        if len({getattr(entry, part) for entry in keys}) < len(keys):
            raise SourceError(f"the key file {path} has two entries with the same {part}", "remove one of them")
    return keys


def add_key(path: Path, key: NewKey) -> None:
    """Add a key to a file, which is created if it does not exist.

    Raises:
        InvalidRequest: the name is taken.
        SourceError: the file cannot be read or written.
    """

    def added(keys: tuple[KeyEntry, ...]) -> tuple[KeyEntry, ...]:
        if any(entry.name == key.entry.name for entry in keys):
            raise InvalidRequest(
                f"there is a key named {key.entry.name}",
                "choose another name; to rotate a key, add the new one, distribute it, then remove the old one",
            )
        return (*keys, key.entry)

    _change(path, added)


def remove_key(path: Path, name: str) -> None:
    """Remove a key from a file, which makes it invalid.

    Raises:
        NotFound: no key has the name.
        SourceError: the file cannot be read or written.
    """

    def removed(keys: tuple[KeyEntry, ...]) -> tuple[KeyEntry, ...]:
        others = tuple(entry for entry in keys if entry.name != name)
        if len(others) == len(keys):
            raise NotFound(f"no key is named {name}", f"sceneseek keys list --api-keys {path}")
        return others

    _change(path, removed)


def _change(path: Path, change: Callable[[tuple[KeyEntry, ...]], tuple[KeyEntry, ...]]) -> None:
    try:
        # The directory is locked, since the file itself is replaced.
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            keys = change(read_keys(path) if path.exists() else ())
            document = _Document(keys=keys).model_dump_json(indent=2, exclude_defaults=True)
            write_atomic(path, document.encode() + b"\n", mode=0o600)
    except OSError as error:
        raise SourceError(
            f"the key file {path} cannot be written ({error.strerror})", "choose another --api-keys"
        ) from error


def _first_error(error: ValidationError | InvalidRequest) -> str:
    """The first error, without the input, which may be a key written instead of its hash."""
    if isinstance(error, InvalidRequest):
        return error.what
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
