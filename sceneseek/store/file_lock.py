"""An exclusive lock on a file: a `flock`, which ends with its process, however that ends.

The file may be removed by its holder. So a lock counts only if the file that was locked still has its name: a library's
lock, which does not look, would let two processes hold locks on two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from sceneseek.store.lease import this_process


class FileLock:
    """An exclusive lock on a file, held until `release` or the end of the process.

    Args:
        path: the file.
        patience: seconds to wait for its holder.

    Raises:
        Held: another process holds it.
    """

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        self._path = path
        until = time.monotonic() + patience
        while not self._take(until):
            pass
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{this_process()}\n".encode(), 0)

    def release(self, remove: bool = False) -> None:
        """Release it, and remove the file if wanted."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._handle)

    def _take(self, until: float) -> bool:
        """Lock the file; False where its holder has removed it meanwhile, so that the lock is of no use."""
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not _locked(self._handle):
                if time.monotonic() >= until:
                    raise Held(os.read(self._handle, 256).decode("utf-8", "replace").strip() or "another process")
                time.sleep(0.01)
            if self._path.exists() and os.path.samestat(os.fstat(self._handle), self._path.stat()):
                return True
        except BaseException:
            os.close(self._handle)
            raise
        os.close(self._handle)
        return False


class Held(Exception):
    """A lock is held; `holder` says by whom."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def _locked(handle: int, how: int = fcntl.LOCK_EX) -> bool:
    """Whether the lock of an open file could be taken at once."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether a process holds the `FileLock` of a file; one that wants it in this moment must have some patience."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # nobody has ever locked it, or it is not ours to read
        return False
    try:
        return not _locked(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)
