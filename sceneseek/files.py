"""Files that are whole or not there: hashing, locking, writing beside and moving into place; and where the cache is."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

# What reading a JSON file and a numpy archive raises where one is missing, damaged or holds something else.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def cache_root() -> Path:
    """`$SCENESEEK_CACHE`, else `$XDG_CACHE_HOME/sceneseek`, else `~/.cache/sceneseek`."""
    if own := os.environ.get("SCENESEEK_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The standard has relative paths ignored.
    return (Path(shared) if Path(shared).is_absolute() else Path("~/.cache").expanduser()) / "sceneseek"


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes, mode: int = 0o644, durable: bool = True) -> None:
    """Replace `path` by `content` so that a reader sees the old or the new, also after a power cut.

    Args:
        path: the file.
        content: all of it.
        mode: who may read and write it; by default all may read.
        durable: whether it is on the disk when this returns; else a power cut may leave the old or nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)  # mkstemp makes it private
            if durable:
                os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Exclude other threads and processes that lock the same directory, or file, which is created (flock)."""
    # Directories cannot be locked on every network file system.
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    handle = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def directory_in_place(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside `target`; on success it takes target's place, on failure it goes.

    An existing target is moved aside first and removed once the new one stands, so that at any moment
    there is a whole directory, old or new, or (for the instant between two renames) none.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield beside
        beside.chmod(0o755)
        for path in beside.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if target.exists():
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
            target.replace(old / "it")
            beside.replace(target)
            shutil.rmtree(old)
        else:
            beside.replace(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    """Make a file's content, or the renames and new names in a directory, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
