"""gunicorn's own words, written as everything else of the process is.

It knows nothing of formats: what gunicorn says goes up to the root logger, which has the one handler there is. Its
access log stays off, since it tells addresses with their query strings; `observe` writes one that does not.
"""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger


class GunicornLog(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """The logger class that the service runs with."""

    def setup(self, cfg: Any) -> None:
        """Take the level from the settings, and leave handlers to the root."""
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS[cfg.loglevel.lower()]
        self.error_log.setLevel(self.loglevel)
        self.error_log.propagate = True

    @property
    def access_log_enabled(self) -> bool:
        """Never."""
        return False
