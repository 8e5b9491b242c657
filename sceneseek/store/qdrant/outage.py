"""What the log says of a server that fails: when an outage begins, at intervals while it lasts, and when it ends.

In an outage every request fails, in a busy service hundreds a second, and a line for each would hide everything else.
"""

from __future__ import annotations

import logging
import math
import threading
import time

log = logging.getLogger(__name__)

# A request that waits for a shorter outage is nobody's concern; one that lasts is reported while it is waited out.
QUIET_SECONDS, REPORT_EVERY = 2.0, 30.0


class Outage:
    """Whether a server answers, over all threads that ask it. Thread-safe.

    Args:
        url: of the server, for the lines.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._guard = threading.Lock()
        self._lasts = False
        self._since = 0.0
        self._reported = -math.inf
        self._refused = 0

    def failed(self, what: str, patience: float) -> None:
        """A request failed and is tried again.

        Args:
            what: why, in a clause that names the server.
            patience: seconds over which it is tried again.
        """
        with self._guard:
            seconds = self._seconds()
            if seconds >= QUIET_SECONDS and self._is_due():
                log.warning("%s: trying again for up to %.0f s, away for %.0f s", what, patience, seconds)

    def refused(self, what: str) -> None:
        """A request failed for good.

        The first one is its caller's to report. A second one without a success in between is an outage.
        """
        with self._guard:
            seconds = self._seconds()
            self._refused += 1
            if self._refused > 1 and self._is_due():
                log.error("%s; failing for %.0f s, %d requests so far", what, seconds, self._refused)

    def answered(self) -> None:
        """A request succeeded. Cheap where there is no outage."""
        if not self._lasts:
            return
        with self._guard:
            reported = self._reported > -math.inf
            self._lasts, self._reported = False, -math.inf
            seconds, refused = time.monotonic() - self._since, self._refused
        if reported:
            message = "the Qdrant server at %s answers again, after %.1f s; %d requests failed"
            log.warning(message, self._url, seconds, refused)

    def _seconds(self) -> float:
        """How long it has lasted; it begins now if there was none."""
        now = time.monotonic()
        if not self._lasts:
            self._lasts, self._since, self._reported, self._refused = True, now, -math.inf, 0
        return now - self._since

    def _is_due(self) -> bool:
        """Whether a line is due, which is then written."""
        now = time.monotonic()
        due = now - self._reported >= REPORT_EVERY
        if due:
            self._reported = now
        return due
