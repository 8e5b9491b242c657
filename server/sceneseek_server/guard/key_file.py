"""The file of keys: who may ask, and the SHA-256 of each one's key. The keys themselves are nowhere.

    {"keys": [{"name": "phone", "sha256": "9f86...", "created": "2026-01-31T12:00:00Z",
               "expires": "2026-05-01T12:00:00Z", "rate": "5/second"}]}

`expires` and `rate` may be missing or null. A key is 256 random bits. So a plain SHA-256 keeps it: the slow hashes
that passwords need make guessing dear, and there is nothing to guess here, while a slow hash at every request would
let anyone occupy the processor. The file is replaced whole, and belongs to its owner: one that others may write is
not believed, since whoever writes it has a key.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from sceneseek.errors import InvalidRequest, NotFound, SourceError
from sceneseek.files import write_atomic
from sceneseek_server.guard.rates import parsed_rate

# So that a key is known for one where it turns up: by people, and by programs that look for leaked secrets.
_PREFIX = "sceneseek_"
_HINT = "make one with: sceneseek keys add NAME"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]


def _rate(text: str | None) -> str | None:
    if text is not None:
        parsed_rate(text)
    return text


class KeyEntry(BaseModel):
    """What is known of one key; its hash is left out of its repr."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    rate: Annotated[str | None, AfterValidator(_rate)] = None

    def __repr__(self) -> str:
        return f"KeyEntry(name={self.name!r}, expires={self.expires}, rate={self.rate!r})"

    __str__ = __repr__


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: the one time that it is known."""

    entry: KeyEntry
    secret: str = field(repr=False)


def digest_of(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_key(name: str, created: datetime, expires: datetime | None = None, rate: str | None = None) -> NewKey:
    """A fresh key, not yet in any file.

    Raises:
        InvalidRequest: the name or the rate cannot be one.
    """
    secret = _PREFIX + secrets.token_urlsafe(32)
    try:
        entry = KeyEntry(name=name, sha256=digest_of(secret), created=created, expires=expires, rate=rate)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("name",):
            raise InvalidRequest(
                f"{name!r} is no name for a key", "take up to 64 letters, digits and . _ @ -, a letter or digit first"
            ) from None
        raise
    return NewKey(entry, secret)


def read_keys(path: Path) -> tuple[KeyEntry, ...]:
    """The entries of a file of keys.

    Raises:
        SourceError: the file is missing, unreadable, not to be believed, or holds something else.
    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o022:
                raise SourceError(f"the file of keys {path} can be written by others", f"chmod 600 {path}")
            content = file.read()
    except FileNotFoundError:
        raise SourceError(f"there is no file of keys {path}", _HINT) from None
    except OSError as error:
        raise SourceError(
            f"the file of keys {path} cannot be read ({error.strerror})", "let the service's user read it"
        ) from error
    try:
        keys = _Document.model_validate_json(content).keys
    except (ValidationError, InvalidRequest) as error:
        raise SourceError(f"the file of keys {path} is damaged ({_first(error)})", _HINT) from None
    for part in ("name", "sha256"):
        if len({getattr(entry, part) for entry in keys}) < len(keys):
            raise SourceError(f"the file of keys {path} has two entries of one {part}", "remove one of them")
    return keys


def add_key(path: Path, key: NewKey) -> None:
    """Put a key into a file, which is made where there is none.

    Raises:
        InvalidRequest: the name is taken.
        SourceError: the file cannot be read or written.
    """

    def added(keys: tuple[KeyEntry, ...]) -> tuple[KeyEntry, ...]:
        if any(entry.name == key.entry.name for entry in keys):
            raise InvalidRequest(
                f"there is a key named {key.entry.name}",
                "take another name; to rotate a key add the new one, hand it out, then remove the old one",
            )
        return (*keys, key.entry)

    _change(path, added)


def remove_key(path: Path, name: str) -> None:
    """Take a key out of a file; it is refused from then on.

    Raises:
        NotFound: no key has the name.
        SourceError: the file cannot be read or written.
    """

    def removed(keys: tuple[KeyEntry, ...]) -> tuple[KeyEntry, ...]:
        kept = tuple(entry for entry in keys if entry.name != name)
        if len(kept) == len(keys):
            raise NotFound(f"no key is named {name}", f"sceneseek keys list --api-keys {path}")
        return kept

    _change(path, removed)


def _change(path: Path, change: Callable[[tuple[KeyEntry, ...]], tuple[KeyEntry, ...]]) -> None:
    try:
        with _alone(path):
            keys = change(read_keys(path) if path.exists() else ())
            document = _Document(keys=keys).model_dump_json(indent=2, exclude_none=True)
            write_atomic(path, document.encode() + b"\n", mode=0o600)
    except OSError as error:
        raise SourceError(
            f"the file of keys {path} cannot be written ({error.strerror})", "choose another --api-keys"
        ) from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile. Its directory is locked: the file itself is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _first(error: ValidationError | InvalidRequest) -> str:
    """What was wrong first, without the input, which may be a key that someone put in place of its hash."""
    if isinstance(error, InvalidRequest):
        return error.what
    found = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in found["loc"])
    return f"{place}: {found['msg']}" if place else str(found["msg"])
