"""The objects of an S3 bucket under a prefix, listed and read like the files of a folder.

Requires the package `obstore` (the extra `s3`). The endpoint and credentials are read from the environment variables of
AWS (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID ...), a profile in `~/.aws`, or the role of the machine. Source
addresses, indexes, logs and errors never contain credentials: the messages of `obstore` quote responses of the store,
which may contain them, so they are replaced.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from sceneseek.errors import InvalidRequest, MissingExtra, SceneseekError, SourceAway, SourceError, one_line
from sceneseek.local_folder import Facts, SourceFile

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import S3Config, S3Store

SCHEME = "s3://"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
# Objects of up to _WHOLE bytes are read in one request, larger ones in blocks.
_WHOLE, _BLOCK = 16_000_000, 8_000_000
# The status and the S3 error code of the response, in the message of an error of `obstore`.
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,40})</Code>")
_KEY = re.compile(r'Path "([^"]*)"')
# The environment variables of the settings of a profile.
_PROFILE_VARIABLES = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}
# Alternative environment variables.
_ALTERNATIVES = {"AWS_REGION": ("AWS_DEFAULT_REGION",), "AWS_ENDPOINT_URL": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")}
# If one of these is set, the credentials of a profile are ignored, as in the AWS CLI.
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")


@dataclass(frozen=True, slots=True)
class ObjectFolder:
    """The objects whose keys begin with a prefix and a slash; all objects of the bucket if the prefix is empty."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> ObjectFolder:
        """Parse ``s3://BUCKET/PREFIX``.

        Raises:
            InvalidRequest: it is not valid; the message does not repeat what may be credentials.
        """
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        if "@" in bucket or ":" in bucket or "?" in url:
            raise InvalidRequest(
                "the URL of an object store contains `:`, `@` or `?`, and so possibly credentials or options",
                "write s3://BUCKET/PREFIX, and set credentials in the environment (AWS_ACCESS_KEY_ID ...)",
            )
        prefix = prefix.removesuffix("/")
        parts = prefix.split("/") if prefix else []
        if not url.startswith(SCHEME) or not _BUCKET.fullmatch(bucket) or {"", ".", ".."}.intersection(parts):
            raise InvalidRequest(f"{url} is not a valid URL of an object store", "write s3://BUCKET/PREFIX")
        return cls(bucket, prefix)

    def __str__(self) -> str:
        return SCHEME + "/".join(filter(None, (self.bucket, self.prefix)))

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return str(self).rpartition("/")[2]

    def resolve(self) -> ObjectFolder:
        """Return itself, for compatibility with `Path`."""
        return self

    def objects(self) -> Iterator[tuple[str, Facts]]:
        """Yield the key, relative to the prefix, and the facts of every object, in the order of the store.

        Raises:
            SourceError: the store does not respond, denies access, or has a key that is not a path.
        """
        client = _client(self.bucket, _settings())
        from obstore.exceptions import BaseError  # noqa: PLC0415

        below = len(self.prefix) + 1 if self.prefix else 0
        try:
            for page in client.list(self.prefix or None, chunk_size=1_000):
                for found in page:
                    yield found["path"][below:], _facts(found)
        except (BaseError, OSError) as error:
            raise SourceError(
                f"{self} cannot be listed ({_why(error)})",
                "check the bucket, AWS_ENDPOINT_URL, AWS_REGION and the credentials",
            ) from None

    def holds_any(self) -> bool:
        """Whether there is any object; also False if the store does not respond within seconds or denies access."""
        try:
            client = _client(self.bucket, _settings(), brief=True)
        except SceneseekError:
            return False
        from obstore.exceptions import BaseError  # noqa: PLC0415

        try:
            return any(client.list(self.prefix or None, chunk_size=1))
        except (BaseError, OSError):
            return False

    def open(self, relative: str, brief: bool = False) -> SourceFile:
        """Open an object for reading; its content is fetched as it is read.

        Args:
            relative: its key relative to the prefix.
            brief: whether to time out after some seconds, for interactive requests.

        Raises:
            FileNotFoundError: no object has this key.
            OSError: the store denies access, or the key is not valid.
            SourceAway: the store does not respond.
        """
        key = "/".join(filter(None, (self.prefix, relative)))
        client = _client(self.bucket, _settings(), brief)
        with _errors_of(key):
            result = client.get(key)
        return SourceFile(io.BufferedReader(_Content(client, key, result)), _facts(result.meta))


class _Content(io.RawIOBase):
    """The content of an object, from the response of a first request; read in ranges if it is large.

    Reading raises SourceAway if the store does not respond, or the object was replaced meanwhile.
    """

    def __init__(self, client: S3Store, key: str, result: GetResult) -> None:
        self._client, self._key, self._result = client, key, result
        self._size, self._tag = result.meta["size"], result.meta["e_tag"]
        self._block, self._start, self._position = b"", 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        if self._position >= self._size:
            return 0
        if not self._start <= self._position < self._start + len(self._block):
            self._fetch()
        at = self._position - self._start
        part = self._block[at : at + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _fetch(self) -> None:
        """Fetch the block at the position."""
        try:
            with _errors_of(self._key):
                if self._size <= _WHOLE:
                    self._block = bytes(self._result.bytes())
                    return
                self._start = self._position - self._position % _BLOCK
                wanted = (self._start, min(self._start + _BLOCK, self._size))
                block = self._client.get(self._key, options={"range": wanted, "if_match": self._tag})
                self._block = bytes(block.bytes())
        except OSError as error:
            raise SourceAway(str(error.strerror)) from None


def _facts(found: ObjectMeta) -> Facts:
    """The facts of an object. The ETag replaces the change time; seconds are whole, as only listings have fractions."""
    tag = hashlib.sha256((found["e_tag"] or "").strip('"').encode()).digest()
    seconds = int(found["last_modified"].timestamp())
    return Facts(found["size"], seconds * 1_000_000_000, int.from_bytes(tag[:8]) >> 1)


def _settings() -> tuple[tuple[str, str], ...]:
    """The environment variables for a client, hashable."""
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


def _profile(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of the profile AWS_PROFILE, or `default`, as environment variables; without those that are set.

    Raises:
        SourceError: a file of profiles cannot be read, or the profile of AWS_PROFILE has no keys.
    """
    import configparser  # noqa: PLC0415 - not needed by every search

    profile = environment.get("AWS_PROFILE", "default")
    values: dict[str, str] = {}
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", profile if profile == "default" else f"profile {profile}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile),
    ):
        # Not Path.expanduser, which fails for a user without a home, as in a container.
        path = os.path.expanduser(environment.get(variable, f"~/.aws/{file}"))  # noqa: PTH111
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):  # the message may quote a line
            raise SourceError(f"the profiles in {path} cannot be read", "check its lines, or remove it") from None
        if parser.has_section(section):
            values |= {name: value for key, name in _PROFILE_VARIABLES.items() if (value := parser[section].get(key))}
    if not environment.keys().isdisjoint(_CREDENTIALS):
        values = {name: values[name] for name in _ALTERNATIVES.keys() & values.keys()}
    elif "AWS_PROFILE" in environment and "AWS_ACCESS_KEY_ID" not in values:
        raise SourceError(
            f"the profile {profile} has no keys in ~/.aws",
            "set AWS_PROFILE to another one, or set its keys in the environment (aws configure export-credentials)",
        )
    given = environment.keys()
    return {name: value for name, value in values.items() if given.isdisjoint({name, *_ALTERNATIVES.get(name, ())})}


@functools.lru_cache(maxsize=32)
def _client(bucket: str, settings: tuple[tuple[str, str], ...], brief: bool = False) -> S3Store:
    """A client with a connection pool, which retries temporary failures a limited number of times.

    Args:
        bucket: the bucket.
        settings: the environment variables, which `obstore` reads itself; a profile supplies missing ones.
        brief: respond or fail within 5 s, for interactive requests; otherwise within 2 minutes.

    Raises:
        MissingExtra: the package is not installed.
        SourceError: a setting or a profile cannot be used.
    """
    try:
        from obstore.store import S3Store  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra(f"index {SCHEME}", "s3", str(error.name)) from None
    from obstore.exceptions import BaseError  # noqa: PLC0415

    profile = _profile(dict(settings))
    named = {**profile, **dict(settings)}
    endpoint = named.get("AWS_ENDPOINT_URL_S3") or named.get("AWS_ENDPOINT_URL") or ""
    try:
        return S3Store(
            bucket,
            config=cast("S3Config", profile),
            client_options={
                "allow_http": endpoint.startswith("http://"),  # as configured by the operator
                "connect_timeout": "3s",
                "read_timeout": "4s" if brief else "30s",
                "timeout": "60s",
            },
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=3 if brief else 60)},
        )
    except (BaseError, ValueError):
        raise SourceError("the settings of the object store cannot be used", "check the variables AWS_...") from None


@contextlib.contextmanager
def _errors_of(key: str) -> Iterator[None]:
    """Translate errors of `obstore` to those of files, or to SourceAway."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError  # noqa: PLC0415

    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key) from None
    except (PermissionDeniedError, UnauthenticatedError):
        raise PermissionError(errno.EACCES, "the object store refuses access to it", key) from None
    except ValueError:
        raise OSError(errno.EINVAL, "no object can have this key", key) from None
    except BaseError as error:
        raise SourceAway(_why(error)) from None


def _why(error: Exception) -> str:
    """The reason of an error, without credentials."""
    from obstore.exceptions import InvalidPathError, PreconditionError  # noqa: PLC0415

    message = str(error)
    if "/latest/api/token" in message or "/latest/meta-data" in message:  # the last source of credentials that is tried
        return (
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE for a public bucket"
        )
    status, code = _STATUS.search(message), _CODE.search(message)
    if isinstance(error, InvalidPathError):
        key = f" {one_line(match[1])}" if (match := _KEY.search(message)) else ""
        return f"the key{key} is not a path: it has an empty part, `.` or `..` between its slashes"
    if isinstance(error, PreconditionError):
        return "the object was replaced while it was read"
    if status is None:
        return "no answer from the object store"
    return f"the object store answered {status[1]}{f' {code[1]}' if code else ''}"
