"""File operations: atomic writes, locks, hashes, and the cache directory."""

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

# The exceptions of reading a JSON file or a numpy archive that is missing, damaged or has other content.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def cache_root() -> Path:
    """The cache directory: `$SCENESEEK_CACHE`, else `$XDG_CACHE_HOME/sceneseek`, else `~/.cache/sceneseek`."""
    if own := os.environ.get("SCENESEEK_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification requires that relative paths are ignored.
    return (Path(shared) if Path(shared).is_absolute() else Path("~/.cache").expanduser()) / "sceneseek"


def sha256_of(path: Path) -> str:
    """The SHA-256 of the content of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes, mode: int = 0o644, durable: bool = True) -> None:
    """Replace the content of a file atomically: readers see the old or the new content, also after a power failure.

    Args:
        path: the file; missing directories are created.
        content: the new content.
        mode: the permissions; by default all users may read it.
        durable: whether to sync it to disk; if False, a power failure may leave the old content or none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)  # mkstemp creates private files
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
    """Hold an exclusive lock (flock) on a directory, or on a file, which is created if it is missing."""
    # Files too, as some network file systems cannot lock directories.
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    handle = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def directory_in_place(target: Path) -> Iterator[Path]:
    """Yield an empty temporary directory; on success it replaces `target`, on failure it is removed.

    An existing target is moved aside first and removed afterwards, so that at any time `target` is complete, old or
    new, or (between two renames) does not exist.
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
    """Sync the content of a file, or the entries of a directory, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
