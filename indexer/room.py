"""How much memory the loader threads may take together: who needs more than is left waits.

Threads decode side by side, and a folder may hold nothing but panoramas; without a bound the peak would grow
with the number of cores.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Room:
    """Room for so many units at once. A taker of more than all of it gets in alone."""

    def __init__(self, units: int) -> None:
        self._units = self._free = units
        self._change = threading.Condition()

    @contextlib.contextmanager
    def take(self, units: int) -> Iterator[None]:
        """Hold so many units for the block; waits until they are free."""
        taken = min(units, self._units)
        with self._change:
            self._change.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._change:
                self._free += taken
                self._change.notify_all()
