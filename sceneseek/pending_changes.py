"""Pictures that were put into a source folder, or deleted from it, and that its index does not show yet.

A service changes the folder, and an indexer brings the index up to date. They share the folder and nothing else. Its
hidden folder `.sceneseek`, which no walk enters, holds

    incoming/         pictures that are being received
    changes/ID.json   a `Change`, by the id of its image
    lock              locked (flock) while a picture is put or deleted, and while changes are settled

What is there after a kill, and what becomes of it:

    put      before the picture is in its place   a file in incoming/, which `prepare` removes when it is old
             before the change is written         the picture, which the index finds like any other new file
    delete   before the picture is removed        a change that its file contradicts: `settle` forgets it
    settle   before it is written                 an open change, which the next run settles

A change is acknowledged when its last step is on the disk. A put picture is in its place before its change is written,
so whoever reads the changes before listing the folder lists every file that they name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO, Literal, get_args

from sceneseek.errors import (
    Conflict,
    NoSpace,
    PreconditionFailed,
    PreconditionRequired,
    StartError,
    Unprocessable,
    UploadsUnavailable,
)
from sceneseek.files import locked, sync, write_atomic
from sceneseek.local_folder import Facts, LeadsOut, NotAFile, folder_below
from sceneseek.picture import extensions
from sceneseek.sources import Root

log = logging.getLogger(__name__)

_HOME = ".sceneseek"
_SUFFIX = ".json"
# Seconds that a settled change is remembered for: services follow a new generation within one.
_REMEMBERED = 60.0
# Seconds without a further byte after which a file in incoming/ belongs to no request any more.
_ABANDONED = 3600.0
_BLOCK = 1 << 18

MAX_PATH_BYTES, MAX_PART_BYTES, MAX_DEPTH = 1_000, 255, 32
# In no part of a path: controls, line separators, a backslash, and what stands for bytes that are not UTF-8.
_FORBIDDEN = r"\x00-\x1f\x7f-\x9f\\\ufffd\u2028\u2029"
_PART = f"[^/.{_FORBIDDEN}][^/{_FORBIDDEN}]*"
PATH_PATTERN = rf"^({_PART}/)*{_PART}\.[^/.{_FORBIDDEN}]+$"
"""What the path of a picture must match; `checked_path` says what else."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
# A part of the path is a file, a link or a folder where another of these is wanted, or lies on another file system.
_IN_THE_WAY = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG})

Action = Literal["put", "delete"]


@dataclass(frozen=True, slots=True)
class Change:
    """One picture that was put or deleted.

    Attributes:
        action: which of the two.
        path: of the picture below the folder, as `os` takes it.
        sha256: of what was put, hex; empty for `delete`.
        file: size and time of modification of what was put, by which it is told from what took its place.
        settled: whether an indexing run has followed it.
        reason: why the last run refused what was put; empty if it did not.
    """

    action: Action
    path: str
    sha256: str = ""
    file: str = ""
    settled: bool = False
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether an indexing run has yet to look at it."""
        return not (self.settled or self.reason)


def checked_path(text: str) -> str:
    """The path of a picture below a source folder, if one may be put there.

    Raises:
        Unprocessable: it is no relative POSIX path to a picture, or has a hidden or an overlong part.
    """
    parts = text.split("/")
    if not re.fullmatch(PATH_PATTERN, text):
        raise Unprocessable(
            f"{text[:100]!r} is no path of a picture",
            "write it as folder/name.jpg: in UTF-8, no part with a dot in front, no control character, no backslash",
        )
    sizes = [len(part.encode()) for part in parts]
    if len(parts) > MAX_DEPTH or max(sizes) > MAX_PART_BYTES or sum(sizes) + len(parts) > MAX_PATH_BYTES:
        raise Unprocessable(
            f"the path {text[:40]!r}... is too long",
            f"take at most {MAX_DEPTH} parts of {MAX_PART_BYTES} bytes, {MAX_PATH_BYTES:,} bytes together",
        )
    if os.path.splitext(parts[-1])[1].lower() not in extensions():  # noqa: PTH122 - a name, not a path of this machine
        kinds = ", ".join(sorted(extension[1:] for extension in extensions()))
        raise Unprocessable(f"{parts[-1][:100]!r} does not end as a picture's name does", f"names end in {kinds}")
    return text


@dataclass
class Received:
    """A picture that is being received: its file in incoming/, and the hash of what was written there."""

    file: BinaryIO
    path: Path
    sha256: str = ""

    def write(self, stream: IO[bytes]) -> None:
        """Write all of a stream, and sync it."""
        digest = hashlib.sha256()
        while block := stream.read(_BLOCK):
            digest.update(block)
            with _explained("the picture"):
                self.file.write(block)
        with _explained("the picture"):
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.seek(0)
        self.sha256 = digest.hexdigest()


def takes_pictures(folder: Root) -> bool:
    """Whether a service puts pictures into a source, so that it may be empty."""
    return isinstance(folder, Path) and (folder / _HOME).is_dir()


class PendingChanges:
    """The changes of one folder. Thread-safe, and safe beside other processes.

    Args:
        folder: the source folder.

    Attributes:
        folder: the same, resolved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._home = self.folder / _HOME
        self._incoming, self._changes = self._home / "incoming", self._home / "changes"
        self._lock = self._home / "lock"

    def prepare(self) -> None:
        """Make the folder ready for `receive`, `put` and `delete`, and remove what was received long ago.

        Raises:
            StartError: it does not exist, or cannot be written.
        """
        try:
            if self._home.is_symlink():
                raise NotADirectoryError(errno.ENOTDIR, "a link", str(self._home))
            for directory in (self._home, self._incoming, self._changes):
                if not directory.is_dir():
                    directory.mkdir()
                    sync(directory.parent)
            with self.receive():
                pass
            for path in (*self._incoming.iterdir(), *self._changes.glob(".*")):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink(missing_ok=True)
        except (OSError, UploadsUnavailable) as error:
            why = error.what if isinstance(error, UploadsUnavailable) else error.strerror or error
            raise StartError(
                f"pictures cannot be received in {self.folder} ({why})",
                "name a folder that exists and that the service's user may write",
            ) from error

    @contextlib.contextmanager
    def receive(self) -> Iterator[Received]:
        """A file for a picture that is being received, on the folder's disk; what is not `put` is removed.

        Raises:
            NoSpace, UploadsUnavailable: it cannot be written.
        """
        path = self._incoming / secrets.token_hex(16)
        with _explained("the picture"):
            # As the umask allows: whoever reads the folder's other files reads this one.
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "w+b")
        try:
            with file:
                yield Received(file, path)
        finally:
            path.unlink(missing_ok=True)

    def put(
        self,
        identity: str,
        path: str,
        received: Received,
        if_match: Collection[str] | None = None,
        if_none: bool = False,
    ) -> Change:
        """Put a received picture in its place; durable when it returns. The same content again changes nothing.

        Args:
            identity: the id of the image.
            path: see `checked_path`; missing folders are created.
            received: what was received.
            if_match: tags of the file that it may replace (`*`: of any); None: it may replace none.
            if_none: whether there must be no file, not even one of the same content.

        Raises:
            PreconditionRequired: there is another file, and `if_match` is None.
            PreconditionFailed: the file is not as `if_match` or `if_none` says.
            Conflict: a part of the path is no folder, or its end no file.
            NoSpace, UploadsUnavailable: it cannot be written.
        """
        above, _, name = path.rpartition("/")
        with _explained(path), locked(self._lock), self._opened(above, create=if_match is None) as place:
            found = _found(place, name) if place is not None else None
            if found is None:
                if if_match is not None or place is None:
                    raise PreconditionFailed(f"there is no image {path} to replace", "send it without If-Match")
                try:
                    os.link(received.path, name, dst_dir_fd=place, follow_symlinks=False)
                except FileExistsError:
                    raise _other_is_there(path) from None
            elif if_none:
                raise PreconditionFailed(f"there is an image {path} already", "send it without If-None-Match")
            elif found.sha256 != received.sha256:
                if if_match is None:
                    raise _other_is_there(path)
                found.check(if_match, path)
                os.replace(received.path, name, dst_dir_fd=place)
            received.path.unlink(missing_ok=True)
            if place is not None:
                os.fsync(place)
            change = Change("put", path, received.sha256, self._file(path))
            if self.get(identity) != change:
                self._write(identity, change)
        return change

    def delete(self, identity: str, path: str, if_match: Collection[str] | None = None) -> Change:
        """Delete a picture; durable when it returns. Deleting one that is gone changes nothing.

        Args:
            identity: the id of the image.
            path: of the picture below the folder, as `os` takes it.
            if_match: tags of the file that may be deleted (`*`: of any); None: it may be any.

        Raises:
            PreconditionFailed: the file is not as `if_match` says.
            Conflict: a part of the path is no folder, or its end no file.
            NoSpace, UploadsUnavailable: it cannot be written.
        """
        above, _, name = path.rpartition("/")
        change = Change("delete", path)
        with _explained(path), locked(self._lock), self._opened(above) as place:
            if self.get(identity) == change and not self._file(path):
                return change
            if if_match is not None:
                found = _found(place, name) if place is not None else None
                if found is None:
                    raise PreconditionFailed(f"the file {path} is gone", "delete it without If-Match")
                found.check(if_match, path)
            self._write(identity, change)
            if place is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=place)
                os.fsync(place)
        return change

    def get(self, identity: str) -> Change | None:
        """The change of an image; None if there is none."""
        try:
            raw = json.loads((self._changes / f"{identity}{_SUFFIX}").read_bytes())
            change = Change(**raw)
            if change.action not in get_args(Action) or not isinstance(change.path, str):
                raise ValueError("it describes no change")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.warning("the change %s of %s cannot be read and is ignored (%s)", identity, self.folder, error)
            return None
        return change

    def all(self) -> dict[str, Change]:
        """Every change, by the id of its image."""
        names = (name for name, _ in self.version())
        identities = (name.removesuffix(_SUFFIX) for name in names)
        return {identity: change for identity in identities if (change := self.get(identity)) is not None}

    def version(self) -> frozenset[tuple[str, int]]:
        """A value that differs whenever the changes differ; cheap."""
        try:
            with os.scandir(self._changes) as entries:
                return frozenset(
                    (entry.name, entry.inode())
                    for entry in entries
                    if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".")
                )
        except OSError:
            return frozenset()

    def settle(self, seen: Mapping[str, Change], refused: Mapping[str, str], finished: bool) -> None:
        """Note what an indexing run made of changes; those that were replaced meanwhile stay open.

        Args:
            seen: the changes, as they were read before the run listed the folder.
            refused: by id, why it did not index what was put.
            finished: whether it came to its end, so that the index has followed the other changes.

        Raises:
            OSError: the folder cannot be written.
        """
        if not seen:
            return
        with locked(self._lock):
            for identity, change in seen.items():
                if self.get(identity) == change:
                    self._settle(identity, change, refused.get(identity, ""), finished)

    def _settle(self, identity: str, change: Change, reason: str, finished: bool) -> None:
        record = self._changes / f"{identity}{_SUFFIX}"
        old = change.settled and time.time() - record.stat().st_mtime > _REMEMBERED
        if old or self._file(change.path) != change.file:
            record.unlink()
        elif not change.settled and (reason or finished):
            settled = replace(change, settled=not reason, reason=reason)
            if settled != change:
                # Not synced: what is lost with the machine, the next run writes again.
                self._write(identity, settled, durable=False)

    def _file(self, path: str) -> str:
        """Size and time of modification of what is at a path; empty if nothing is."""
        above, _, name = path.rpartition("/")
        try:
            with self._opened(above) as place:
                status = os.stat(name, dir_fd=place, follow_symlinks=False) if place is not None else None
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return f"{status.st_size}-{status.st_mtime_ns}" if status is not None else ""

    def _write(self, identity: str, change: Change, durable: bool = True) -> None:
        content = json.dumps(dataclasses.asdict(change)).encode("ascii")
        write_atomic(self._changes / f"{identity}{_SUFFIX}", content, durable=durable)

    @contextlib.contextmanager
    def _opened(self, relative: str, create: bool = False) -> Iterator[int | None]:
        """The descriptor of a folder below; None if it does not exist."""
        try:
            handle = folder_below(self.folder, relative, create)
        except FileNotFoundError:
            yield None
            return
        try:
            yield handle
        finally:
            os.close(handle)


@dataclass(frozen=True, slots=True)
class _Found:
    """The file at a path."""

    sha256: str
    times: str

    def check(self, tags: Collection[str], path: str) -> None:
        """Raise PreconditionFailed unless a tag is its own: its hash, or a hash and its present times."""
        if not ({"*", self.sha256} & set(tags) or any(tag.partition("-")[2] == self.times for tag in tags)):
            raise PreconditionFailed(f"the image {path} is not the one that If-Match names", "fetch its present ETag")


def _found(place: int, name: str) -> _Found | None:
    """The file of a name in an open folder; None if there is none."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, dir_fd=place)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise NotAFile(errno.EINVAL, "no file", name)
        return _Found(hashlib.file_digest(file, "sha256").hexdigest(), Facts.of(os.fstat(handle)).line())


def _other_is_there(path: str) -> PreconditionRequired:
    return PreconditionRequired(
        f"there is another image {path}", "take another name; to replace it, send its ETag as If-Match"
    )


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn a failure to write into an error for clients."""
    try:
        yield
    except OSError as error:
        if isinstance(error, LeadsOut | NotAFile) or error.errno in _IN_THE_WAY:
            raise Conflict(
                f"a part of {path} is no folder, or its end no file ({error.strerror})", "choose another path"
            ) from error
        if error.errno in _NO_ROOM:
            raise NoSpace("there is no room for more pictures", "delete some, or tell the operator") from error
        raise UploadsUnavailable(
            f"the folder of the pictures cannot be written ({error.strerror})", "let the service's user write it"
        ) from error
