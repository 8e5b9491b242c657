"""Uploads to a source folder, and deletions from it, that its index does not contain yet.

A service changes the folder, and an indexer updates the index. They share only the folder. Its hidden folder
`.sceneseek`, which is never indexed, contains

    incoming/         pictures that are being received
    changes/ID.json   a `Change`, by the id of its image
    lock              locked (flock) by `put`, `delete` and `settle`

If a process is killed, it leaves:

    put      before the picture is in place    a file in incoming/, which `prepare` removes once it is old
             before the change is written      the picture, which is indexed like any other new file
    delete   before the picture is removed     a change that contradicts its file: `settle` removes it
    settle   before the change is written      an open change, which the next run settles

A change is acknowledged once its last step is durable. `put` places the picture before it writes the change, so a
reader that reads the changes before it lists the folder finds all their files.
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
# Seconds for which a settled change is kept: services follow a new generation within one second.
_REMEMBERED = 60.0
# Seconds without a write after which a file in incoming/ is a leftover of an aborted request.
_ABANDONED = 3600.0
_BLOCK = 1 << 18

MAX_PATH_BYTES, MAX_PART_BYTES, MAX_DEPTH = 1_000, 255, 32
# Not allowed in paths: control characters, line separators, backslashes, and the replacement of invalid UTF-8.
_FORBIDDEN = r"\x00-\x1f\x7f-\x9f\\\ufffd\u2028\u2029"
_PART = f"[^/.{_FORBIDDEN}][^/{_FORBIDDEN}]*"
PATH_PATTERN = rf"^({_PART}/)*{_PART}\.[^/.{_FORBIDDEN}]+$"
"""The pattern of the path of a picture; `checked_path` has further checks."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# A part of the path has the wrong type (file, link or folder), or is on another file system.
_PATH_CONFLICT = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG})

Action = Literal["put", "delete"]


@dataclass(frozen=True, slots=True)
class Change:
    """An upload or a deletion of a picture.

    Attributes:
        action: upload (`put`) or deletion.
        path: of the picture, relative to the folder, as `os` expects it.
        sha256: of the uploaded content, hex; empty for `delete`.
        file: size and modification time of the uploaded file, which identify it if it is replaced later.
        settled: whether an indexing run has applied it.
        reason: why the last run refused the picture; empty if it did not.
    """

    action: Action
    path: str
    sha256: str = ""
    file: str = ""
    settled: bool = False
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether no indexing run has processed it yet."""
        return not (self.settled or self.reason)


def checked_path(text: str) -> str:
    """Return the path of a picture, relative to a source folder, if uploads to it are allowed.

    Raises:
        Unprocessable: it is not the relative POSIX path of a picture, or has a hidden or overlong part.
    """
    parts = text.split("/")
    if not re.fullmatch(PATH_PATTERN, text):
        raise Unprocessable(
            f"{text[:100]!r} is not a valid path for a picture",
            "write it as folder/name.jpg: in UTF-8, no part begins with a dot, no control characters or backslashes",
        )
    sizes = [len(part.encode()) for part in parts]
    if len(parts) > MAX_DEPTH or max(sizes) > MAX_PART_BYTES or sum(sizes) + len(parts) > MAX_PATH_BYTES:
        raise Unprocessable(
            f"the path {text[:40]!r}... is too long",
            f"use at most {MAX_DEPTH} parts of {MAX_PART_BYTES} bytes, {MAX_PATH_BYTES:,} bytes in total",
        )
    if os.path.splitext(parts[-1])[1].lower() not in extensions():  # noqa: PTH122 - a name, not a path of this machine
        supported = ", ".join(sorted(extension[1:] for extension in extensions()))
        raise Unprocessable(f"{parts[-1][:100]!r} does not have the extension of a picture", f"use one of {supported}")
    return text


@dataclass
class Received:
    """A picture that is being received: its file in incoming/, and the hash of its content."""

    file: BinaryIO
    path: Path
    sha256: str = ""

    def write(self, stream: IO[bytes]) -> None:
        """Write a stream to the file, and sync it."""
        digest = hashlib.sha256()
        while block := stream.read(_BLOCK):
            digest.update(block)
            with _translated_errors("the picture"):
                self.file.write(block)
        with _translated_errors("the picture"):
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.seek(0)
        self.sha256 = digest.hexdigest()


def takes_pictures(folder: Root) -> bool:
    """Whether a service accepts uploads to a source, so that it may be empty."""
    return isinstance(folder, Path) and (folder / _HOME).is_dir()


class PendingChanges:
    """The pending changes of a source folder. Safe for several threads and processes.

    Args:
        folder: the source folder.

    Attributes:
        folder: the source folder, resolved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._home = self.folder / _HOME
        self._incoming, self._changes = self._home / "incoming", self._home / "changes"
        self._lock = self._home / "lock"

    def prepare(self) -> None:
        """Prepare the folder for `receive`, `put` and `delete`, and remove leftovers of aborted uploads.

        Raises:
            StartError: the folder does not exist, or cannot be written.
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
                "name a folder that exists and is writable for the user of the service",
            ) from error

    @contextlib.contextmanager
    def receive(self) -> Iterator[Received]:
        """Yield a file, on the disk of the folder, to receive a picture; removed afterwards unless it was `put`.

        Raises:
            NoSpace, UploadsUnavailable: it cannot be written.
        """
        path = self._incoming / secrets.token_hex(16)
        with _translated_errors("the picture"):
            # With the permissions of the umask, like the other files of the folder.
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
        """Move a received picture into place; durable when it returns. Idempotent for the same content.

        Args:
            identity: the id of the image.
            path: see `checked_path`; missing folders are created.
            received: the received picture.
            if_match: tags of the file that it may replace (`*` for any); None replaces nothing.
            if_none: whether no file may exist, not even one with the same content.

        Raises:
            PreconditionRequired: another file exists, and `if_match` is None.
            PreconditionFailed: the file does not satisfy `if_match` or `if_none`.
            Conflict: a part of the path is not a folder, or its last part not a file.
            NoSpace, UploadsUnavailable: it cannot be written.
        """
        parent, _, name = path.rpartition("/")
        with _translated_errors(path), locked(self._lock), self._open_folder(parent, create=if_match is None) as folder:
            existing = _existing_file(folder, name) if folder is not None else None
            if existing is None:
                if if_match is not None or folder is None:
                    raise PreconditionFailed(f"there is no image {path} to replace", "send it without If-Match")
                try:
                    os.link(received.path, name, dst_dir_fd=folder, follow_symlinks=False)
                except FileExistsError:
                    raise _another_image(path) from None
            elif if_none:
                raise PreconditionFailed(f"there is an image {path} already", "send it without If-None-Match")
            elif existing.sha256 != received.sha256:
                if if_match is None:
                    raise _another_image(path)
                existing.check(if_match, path)
                os.replace(received.path, name, dst_dir_fd=folder)
            received.path.unlink(missing_ok=True)
            if folder is not None:
                os.fsync(folder)
            change = Change("put", path, received.sha256, self._file(path))
            if self.get(identity) != change:
                self._write(identity, change)
        return change

    def delete(self, identity: str, path: str, if_match: Collection[str] | None = None) -> Change:
        """Delete a picture; durable when it returns. Idempotent.

        Args:
            identity: the id of the image.
            path: of the picture, relative to the folder, as `os` expects it.
            if_match: tags of the file to delete (`*` for any); None deletes it unconditionally.

        Raises:
            PreconditionFailed: the file does not satisfy `if_match`.
            Conflict: a part of the path is not a folder, or its last part not a file.
            NoSpace, UploadsUnavailable: it cannot be written.
        """
        parent, _, name = path.rpartition("/")
        change = Change("delete", path)
        with _translated_errors(path), locked(self._lock), self._open_folder(parent) as folder:
            if self.get(identity) == change and not self._file(path):
                return change
            if if_match is not None:
                existing = _existing_file(folder, name) if folder is not None else None
                if existing is None:
                    raise PreconditionFailed(f"the file {path} does not exist", "delete it without If-Match")
                existing.check(if_match, path)
            self._write(identity, change)
            if folder is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        return change

    def get(self, identity: str) -> Change | None:
        """The change of an image; None if it does not exist or cannot be read."""
        try:
            raw = json.loads((self._changes / f"{identity}{_SUFFIX}").read_bytes())
            change = Change(**raw)
            if change.action not in get_args(Action) or not isinstance(change.path, str):
                raise ValueError("it is not a change")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.warning("the change %s of %s cannot be read and is ignored (%s)", identity, self.folder, error)
            return None
        return change

    def all(self) -> dict[str, Change]:
        """All changes, by the id of their image."""
        names = (name for name, _ in self.version())
        identities = (name.removesuffix(_SUFFIX) for name in names)
        return {identity: change for identity in identities if (change := self.get(identity)) is not None}

    def version(self) -> frozenset[tuple[str, int]]:
        """A value that changes whenever the changes do; cheap."""
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
        """Record the outcome of an indexing run; changes that were replaced meanwhile stay open.

        Args:
            seen: the changes, as read before the run listed the folder.
            refused: the reasons of uploads that were not indexed, by id.
            finished: whether the run completed, so that the index reflects all other changes.

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
                # Not synced: if it is lost in a crash, the next run writes it again.
                self._write(identity, settled, durable=False)

    def _file(self, path: str) -> str:
        """Size and modification time of the file at a path; empty if it does not exist."""
        parent, _, name = path.rpartition("/")
        try:
            with self._open_folder(parent) as folder:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False) if folder is not None else None
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return f"{status.st_size}-{status.st_mtime_ns}" if status is not None else ""

    def _write(self, identity: str, change: Change, durable: bool = True) -> None:
        content = json.dumps(dataclasses.asdict(change)).encode("ascii")
        write_atomic(self._changes / f"{identity}{_SUFFIX}", content, durable=durable)

    @contextlib.contextmanager
    def _open_folder(self, relative: str, create: bool = False) -> Iterator[int | None]:
        """Yield the descriptor of a subfolder; None if it does not exist."""
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
class _ExistingFile:
    """The existing file at a path."""

    sha256: str
    times: str

    def check(self, tags: Collection[str], path: str) -> None:
        """Raise PreconditionFailed unless a tag matches: its hash, or a hash and its current times."""
        if not ({"*", self.sha256} & set(tags) or any(tag.partition("-")[2] == self.times for tag in tags)):
            raise PreconditionFailed(f"the image {path} does not match If-Match", "fetch its current ETag")


def _existing_file(folder: int, name: str) -> _ExistingFile | None:
    """The file with a name in an open folder; None if it does not exist."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise NotAFile(errno.EINVAL, "not a file", name)
        return _ExistingFile(hashlib.file_digest(file, "sha256").hexdigest(), Facts.of(os.fstat(handle)).line())


def _another_image(path: str) -> PreconditionRequired:
    return PreconditionRequired(
        f"there is another image {path}", "choose another name; to replace it, send its ETag as If-Match"
    )


@contextlib.contextmanager
def _translated_errors(path: str) -> Iterator[None]:
    """Translate an OSError of a write to an error for clients."""
    try:
        yield
    except OSError as error:
        if isinstance(error, LeadsOut | NotAFile) or error.errno in _PATH_CONFLICT:
            raise Conflict(
                f"a part of {path} is not a folder, or its last part not a file ({error.strerror})",
                "choose another path",
            ) from error
        if error.errno in _DISK_FULL:
            raise NoSpace("there is no room for more pictures", "delete some, or tell the operator") from error
        raise UploadsUnavailable(
            f"the folder of the pictures cannot be written ({error.strerror})",
            "give the user of the service write permission",
        ) from error
