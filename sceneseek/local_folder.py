"""A file or folder below a source folder, opened once: whatever is exchanged meanwhile, nothing else is reached.

The path is opened part by part, each relative to the directory that was opened before it, and never through a link: a
link is read and followed from the folder again, if it leads to a place inside. What was opened must be a regular file;
opening a pipe in its place does not wait. All that is then read and measured comes from the one descriptor.

A folder to write into is opened in the same way, and no link on the way to it is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

# As many links as Linux follows in one path.
_MAX_LINKS = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Without O_PATH: a descriptor of that kind cannot be synced.
_WRITTEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Facts(NamedTuple):
    """What shows that a file has changed.

    Attributes:
        bytes: its size.
        mtime_ns: when its content was changed, in nanoseconds since 1970.
        ctime_ns: the same for its inode, which no program can set; of an object, 63 bits of the hash of its ETag.
    """

    bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Facts:
        """Those of a file of this machine."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def line(self) -> str:
        """All of them in a line."""
        return f"{self.bytes}-{self.mtime_ns}-{self.ctime_ns}"


class SourceFile(NamedTuple):
    """A file of a source, open at its beginning: who opened it closes `content`."""

    content: BinaryIO
    facts: Facts


class LeadsOut(OSError):
    """The path, or a link on it, leads out of the folder."""


class NotAFile(OSError):
    """What is there is no regular file: a folder, a pipe, a socket or a device."""


def open_below(folder: Path, relative: str) -> BinaryIO:
    """Open a file below a folder for reading; its descriptor is the only handle to it.

    Args:
        folder: may itself be, or lie behind, a link.
        relative: POSIX path below it, as `os` takes it.

    Raises:
        LeadsOut: see there.
        NotAFile: see there.
        OSError: it is not there, may not be read, or is a loop of links.
    """
    place = _inside(relative)
    for _ in range(_MAX_LINKS):
        found = _open_or_follow(folder, place)
        if isinstance(found, int):
            return os.fdopen(found, "rb")
        place = found
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), relative)


def folder_below(folder: Path, relative: str, create: bool = False) -> int:
    """Open a folder below a folder, for writing into it and syncing it by its descriptor; never through a link.

    Args:
        folder: may itself be, or lie behind, a link.
        relative: POSIX path below it, as `os` takes it; empty for the folder itself.
        create: whether missing folders are created, as the umask allows, and synced.

    Raises:
        OSError: it is not there; or a part of it is no folder, but a file or a link.
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


def _open_or_follow(folder: Path, place: str) -> int | str:
    """The open file, or the place below the folder that the first link on the way leads to."""
    names = place.split("/")
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
            raise NotAFile(errno.EINVAL, "neither a file nor a folder", place)
        return os.dup(at)
    finally:
        os.close(at)


def _followed(folder: Path, before: list[str], target: str, after: list[str]) -> str:
    """The place below the folder that a link leads to."""
    if os.path.isabs(target):  # noqa: PTH117 - a name, which may be no text
        before, target = [], os.path.relpath(os.path.realpath(target), os.path.realpath(folder))
    return _inside("/".join([*before, target, *after]))


def _inside(place: str) -> str:
    """The place without dots.

    Raises:
        LeadsOut: it is not below the folder.
    """
    plain = os.path.normpath(place)
    if plain.split("/")[0] in {"", ".", ".."}:
        raise LeadsOut(errno.EXDEV, "leads out of the folder", place)
    return plain
