"""Logs outages of a server: a line when one begins, at intervals while it lasts, and when it ends.

In an outage every request fails, hundreds per second in a busy service; a line for each would hide all others.
"""

from __future__ import annotations

import logging
import math
import threading
import time

log = logging.getLogger(__name__)

# Shorter outages are not logged.
QUIET_SECONDS, REPORT_EVERY = 2.0, 30.0


class Outage:
    """The state of a server as all threads see it. Thread-safe.

    Args:
        url: of the server, for messages.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._lasts = False
        self._since = 0.0
        self._reported = -math.inf
        self._refused = 0

    def failed(self, what: str, patience: float) -> None:
        """Record a request that failed and is repeated.

        Args:
            what: the reason, in a clause that names the server.
            patience: seconds for which it is repeated.
        """
        with self._lock:
            seconds = self._seconds()
            if seconds >= QUIET_SECONDS and self._is_due():
                log.warning("%s: trying again for up to %.0f s, away for %.0f s", what, patience, seconds)

    def refused(self, what: str) -> None:
        """Record a request that failed for good.

        Its caller reports the first one. A second one without a success in between is an outage.
        """
        with self._lock:
            seconds = self._seconds()
            self._refused += 1
            if self._refused > 1 and self._is_due():
                log.error("%s; failing for %.0f s, %d requests so far", what, seconds, self._refused)

    def answered(self) -> None:
        """Record a request that succeeded; cheap if there is no outage."""
        if not self._lasts:
            return
        with self._lock:
            reported = self._reported > -math.inf
            self._lasts, self._reported = False, -math.inf
            seconds, refused = time.monotonic() - self._since, self._refused
        if reported:
            message = "the Qdrant server at %s answers again, after %.1f s; %d requests failed"
            log.warning(message, self._url, seconds, refused)

    def _seconds(self) -> float:
        """Seconds since the outage began; begins one if there was none."""
        now = time.monotonic()
        if not self._lasts:
            self._lasts, self._since, self._reported, self._refused = True, now, -math.inf, 0
        return now - self._since

    def _is_due(self) -> bool:
        """Whether a line is due; the caller then writes it."""
        now = time.monotonic()
        due = now - self._reported >= REPORT_EVERY
        if due:
            self._reported = now
        return due
