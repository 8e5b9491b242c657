"""When the request that is being answered is of no use any more."""

from __future__ import annotations

from flask import request

# Set by the worker, which knows when the request came.
DEADLINE = "sceneseek.deadline"


def deadline() -> float | None:
    """On the clock of `time.monotonic`; None where there is none."""
    found: float | None = request.environ.get(DEADLINE)
    return found
