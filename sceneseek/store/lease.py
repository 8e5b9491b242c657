"""Waiting for the lease of a store, alike for every engine: who holds it, since when, and one line about it."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sceneseek.errors import IndexUnavailable

log = logging.getLogger(__name__)


def this_process() -> str:
    """What this process says of itself as a holder; for people only, since no two machines' clocks need agree."""
    return f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def take_lease(take: Callable[[], str | None], index: str, hint: str, wait: bool, poll: float) -> None:
    """Try to take a lease until it is taken.

    Args:
        take: takes it and returns None, or returns the holder where it is held.
        index: the index, as it is named in messages.
        hint: what to do about a holder.
        wait: for the holder; else fail at once.
        poll: seconds between two tries.

    Raises:
        IndexUnavailable: it is held, and `wait` is False.
    """
    start = None
    while (holder := take()) is not None:
        what = f"the index {index} is being written by {holder}"
        if not wait:
            raise IndexUnavailable(what, hint)
        if start is None:
            start = time.monotonic()
            log.warning("%s: waiting until that run has ended", what)
        time.sleep(poll)
    if start is not None:
        log.warning("the index %s is free after %.0f s: going on", index, time.monotonic() - start)
