"""How much memory the loader threads may take together: who needs more than is left waits.

Threads decode side by side, and a folder may hold nothing but panoramas; without a bound the peak would grow
with the number of cores.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator


class Room:
    """Room for so many bytes at once. A taker of more than all of it gets in alone.

    Args:
        units: all of it, in bytes.
        much: from this on what a taker has freed is given back to the system at once: the C library would
            keep it, a share for every thread, and two of those were seen to double the peak.
    """

    def __init__(self, units: int, much: int) -> None:
        self.units = self._free = units
        self._much = much
        self._change = threading.Condition()

    @contextlib.contextmanager
    def take(self, units: int) -> Iterator[None]:
        """Hold so many units for the block; waits until they are free."""
        taken = min(units, self.units)
        with self._change:
            self._change.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            if taken >= self._much:
                _trim()(0)
            with self._change:
                self._free += taken
                self._change.notify_all()


@functools.cache
def _trim() -> Callable[[int], object]:
    """The C library's `malloc_trim`, where it has one."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda _: None
