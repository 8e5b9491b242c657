"""The keys that are live: a request's key in, whose it is out.

The file is looked at again once a second and read when it has changed, so keys come and go without a restart. One
that cannot be read changes nothing: the keys before it stay good, `problem` says so, and the log why. (A file that
is whole and has no keys is believed: nobody is let in.)
"""

from __future__ import annotations

import hmac
import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from sceneseek.errors import SourceError
from sceneseek_server.guard.key_file import KeyEntry, digest_of, read_keys

_LOOK_EVERY = 1.0

log = logging.getLogger(__name__)


class KeyRing:
    """The keys of one file. Thread-safe.

    Attributes:
        problem: why a change of the file is not followed, without its path; None if there is nothing wrong.

    Raises:
        SourceError: the file cannot be read, or holds no key: a service that was to be closed is not left open.
    """

    def __init__(self, path: Path) -> None:
        self.problem: str | None = None
        self._path = path
        self._guard = threading.Lock()
        self._looked = time.monotonic()
        self._seen = self._state()
        self._entries = read_keys(path)
        if not self._entries:
            raise SourceError(f"the file of keys {path} has no keys", "make one with: sceneseek keys add NAME")

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(entry.name for entry in self._entries)})"

    def find(self, secret: str) -> KeyEntry | None:
        """The entry that a key belongs to; None if it is no key, or has expired.

        Every entry is compared, each in constant time, so that the time tells nothing of which came near.
        """
        self._refresh()
        digest = digest_of(secret)
        found = None
        for entry in self._entries:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        if found is not None and found.expires is not None and found.expires <= datetime.now(UTC):
            return None
        return found

    def _refresh(self) -> None:
        if time.monotonic() - self._looked < _LOOK_EVERY or not self._guard.acquire(blocking=False):
            return  # just looked, or another request is looking
        try:
            self._looked = time.monotonic()
            # Taken before the file is read: what is written in between is then seen at the next look.
            state = self._state()
            if state != self._seen:
                self._seen = state
                self._read()
        finally:
            self._guard.release()

    def _read(self) -> None:
        try:
            self._entries = read_keys(self._path)
        except SourceError as error:
            self.problem = "the file of keys cannot be read: the keys before its last change are still good"
            log.error("the keys stay as they were: %s", error)
            return
        self.problem = None
        log.info("%d keys are live: %s", len(self._entries), ", ".join(entry.name for entry in self._entries))

    def _state(self) -> tuple[int, ...] | None:
        """What changes with the file; None where there is none."""
        try:
            facts = os.stat(self._path)  # noqa: PTH116 - at requests; a third of Path.stat's time
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size, facts.st_mode
