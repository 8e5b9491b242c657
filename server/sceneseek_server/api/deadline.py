"""When the request that is being answered is of no use any more."""

from __future__ import annotations

from flask import request

from sceneseek_server.admission import DEADLINE


def deadline() -> float | None:
    """On the clock of `time.monotonic`; None where there is none."""
    found: float | None = request.environ.get(DEADLINE)
    return found
