"""One line in the log when a server stops answering, one at intervals, one when it answers again."""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

# An outage that is shorter is nobody's concern; one that lasts is reported while it is waited out.
QUIET_SECONDS, REPORT_EVERY = 2.0, 30.0


class Outage:
    """Whether a server answers, over all threads that ask it. Thread-safe.

    Args:
        url: of the server, for the lines.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._guard = threading.Lock()
        self._since: float | None = None
        self._reported: float | None = None

    def failed(self, what: str, patience: float) -> None:
        """A request failed and is tried again.

        Args:
            what: why, in a clause that names the server.
            patience: seconds over which it is tried again.
        """
        with self._guard:
            now = time.monotonic()
            if self._since is None:
                self._since = now
            seconds, reported = now - self._since, self._reported
            if seconds < QUIET_SECONDS or (reported is not None and now - reported < REPORT_EVERY):
                return
            self._reported = now
        if reported is None:
            log.warning("%s: trying again for up to %.0f s", what, patience)
        else:
            log.warning("%s: still trying after %.0f s", what, seconds)

    def answered(self) -> None:
        """A request succeeded."""
        with self._guard:
            since, self._since = self._since, None
            reported, self._reported = self._reported, None
        if since is not None and reported is not None:
            log.warning("the Qdrant server at %s answers again, after %.0f s", self._url, time.monotonic() - since)
