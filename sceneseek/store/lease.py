"""File locks, and waiting for the lease of a store, which is the same for all engines.

A `FileLock` is a `flock`, so the system releases it when its process ends. The holder may remove the file, so a lock is
valid only if the locked file still exists under its name. The file contains a description of the holder, for messages.
A library such as filelock does not record the holder, and cannot test a lock without taking it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sceneseek.errors import IndexUnavailable

log = logging.getLogger(__name__)


def this_process() -> str:
    """A description of this process for messages."""
    return f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def take_lease(take: Callable[[], str | None], index: str, hint: str, wait: bool, poll: float) -> None:
    """Take a lease, waiting until its holder releases it.

    Args:
        take: takes the lease and returns None, or returns its holder.
        index: the name of the index in messages.
        hint: the hint of the error.
        wait: whether to wait for the holder; if False, fail immediately.
        poll: seconds between two attempts.

    Raises:
        IndexUnavailable: the lease is held, and `wait` is False.
    """
    start = None
    while (holder := take()) is not None:
        what = f"the index {index} is being written by {holder}"
        if not wait:
            raise IndexUnavailable(what, hint)
        if start is None:
            start = time.monotonic()
            log.warning("%s: waiting for that run to end", what)
        time.sleep(poll)
    if start is not None:
        log.warning("the index %s is free after %.0f s", index, time.monotonic() - start)


class FileLock:
    """An exclusive lock on a file, held until `release` or the end of the process.

    Args:
        path: the file.
        patience: seconds to wait for its holder.

    Raises:
        Held: another process holds it.
    """

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        self.path = path
        until = time.monotonic() + patience
        while not self._take(until):
            pass
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{this_process()}\n".encode(), 0)

    def release(self, remove: bool = False) -> None:
        """Release the lock, and optionally remove the file."""
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._handle)

    def _take(self, until: float) -> bool:
        """Lock the file; return False if its holder has removed it meanwhile, which makes the lock invalid."""
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not _locked(self._handle):
                if time.monotonic() >= until:
                    raise Held(os.read(self._handle, 256).decode("utf-8", "replace").strip() or "another process")
                time.sleep(0.01)
            if self.path.exists() and os.path.samestat(os.fstat(self._handle), self.path.stat()):
                return True
        except BaseException:
            os.close(self._handle)
            raise
        os.close(self._handle)
        return False


class Held(Exception):
    """A lock is held by `holder`."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def _locked(handle: int, how: int = fcntl.LOCK_EX) -> bool:
    """Try to lock an open file; return whether it was free."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether a process holds the `FileLock` of a file. Briefly takes a shared lock, so other callers must retry."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # it was never locked, or cannot be read
        return False
    try:
        return not _locked(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)
