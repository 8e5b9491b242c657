"""Opens files and folders inside a source folder, and never outside, even if the path is changed concurrently.

The path is opened part by part, each relative to the descriptor of its parent, without following symbolic links. A link
is read, and its target opened from the folder again if it is inside. The result must be a regular file; opening a pipe
does not block. Content and attributes are then read from the same descriptor.

A folder for writing is opened in the same way, and may not be reached through links.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

# The limit of Linux for one path.
_MAX_LINKS = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Without O_PATH, as such descriptors cannot be synced.
_WRITTEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Facts(NamedTuple):
    """The size and times of a file, from which changes are detected.

    Attributes:
        bytes: the size.
        mtime_ns: the modification time, in nanoseconds since 1970.
        ctime_ns: the change time of the inode, which programs cannot set; for objects, 63 bits of the hash of the ETag.
    """

    bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Facts:
        """From the `stat` of a local file."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def line(self) -> str:
        """All values as text, separated by hyphens."""
        return f"{self.bytes}-{self.mtime_ns}-{self.ctime_ns}"


class SourceFile(NamedTuple):
    """An open file of a source, at its beginning; the caller closes `content`."""

    content: BinaryIO
    facts: Facts


class LeadsOut(OSError):
    """The path, or a link in it, leads out of the folder."""


class NotAFile(OSError):
    """The path is not a regular file, but a folder, a pipe, a socket or a device."""


def open_below(folder: Path, relative: str) -> BinaryIO:
    """Open a file inside a folder for reading.

    Args:
        folder: may be a link, or be reached through one.
        relative: POSIX path relative to it, as `os` expects it.

    Raises:
        LeadsOut: the path leads out of the folder.
        NotAFile: it is not a regular file.
        OSError: it does not exist, cannot be read, or has a loop of links.
    """
    path = _inside(relative)
    for _ in range(_MAX_LINKS):
        opened = _open_or_follow(folder, path)
        if isinstance(opened, int):
            return os.fdopen(opened, "rb")
        path = opened
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), relative)


def folder_below(folder: Path, relative: str, create: bool = False) -> int:
    """Open a subfolder, without following links, to write into it and sync it by its descriptor.

    Args:
        folder: may be a link, or be reached through one.
        relative: POSIX path relative to it, as `os` expects it; empty for the folder itself.
        create: whether to create missing folders, with the permissions of the umask, and sync them.

    Raises:
        OSError: it does not exist, or a part of the path is a file or a link.
    """
    at = os.open(folder, _WRITTEN_FOLDER)
    try:
        for name in relative.split("/") if relative else ():
            if create:
                try:
                    os.mkdir(name, dir_fd=at)
                    os.fsync(at)
                except FileExistsError:
                    pass
            below = os.open(name, _WRITTEN_FOLDER | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        return os.dup(at)
    finally:
        os.close(at)


def _open_or_follow(folder: Path, path: str) -> int | str:
    """Open a file and return its descriptor; if a part of the path is a link, return the path with its target."""
    names = path.split("/")
    at = os.open(folder, _FOLDER)
    try:
        for depth, name in enumerate(names):
            try:
                kind = _FILE if depth == len(names) - 1 else _FOLDER
                below = os.open(name, kind | os.O_NOFOLLOW, dir_fd=at)
            except OSError as error:
                try:
                    target = os.readlink(name, dir_fd=at)
                except OSError:
                    raise error from None
                return _followed(folder, names[:depth], target, names[depth + 1 :])
            os.close(at)
            at = below
        if not stat.S_ISREG(os.fstat(at).st_mode):
            raise NotAFile(errno.EINVAL, "neither a file nor a folder", path)
        return os.dup(at)
    finally:
        os.close(at)


def _followed(folder: Path, before: list[str], target: str, after: list[str]) -> str:
    """The relative path in the folder after replacing a link by its target."""
    if os.path.isabs(target):  # noqa: PTH117 - a name, which may not be valid UTF-8
        before, target = [], os.path.relpath(os.path.realpath(target), os.path.realpath(folder))
    return _inside("/".join([*before, target, *after]))


def _inside(path: str) -> str:
    """Normalize a relative path.

    Raises:
        LeadsOut: it is not inside the folder.
    """
    normalized = os.path.normpath(path)
    if normalized.split("/")[0] in {"", ".", ".."}:
        raise LeadsOut(errno.EXDEV, "leads out of the folder", path)
    return normalized
