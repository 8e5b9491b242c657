"""Vectors of one generation, kept once they were read.

The embedded engine hands a vector over as a list of Python numbers, and holds the interpreter's lock while it makes
them: for the hundred candidates of a search that takes twice as long as finding them, and nothing else can run. Where
all vectors of a generation fit into a little memory they are kept as they are read, as rows of one array.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sceneseek.vectors import Floats

# Of one generation: 43,000 vectors of 386 numbers. Larger ones are read from the engine each time.
MAX_BYTES = 64 * 2**20


class KeptVectors:
    """Rows by id. Thread-safe.

    Args:
        count: how many there can be.
        width: how many numbers each has.
    """

    def __init__(self, count: int, width: int) -> None:
        # Room that is not written to is not taken.
        self._rows: Floats = np.empty((count, width), dtype=np.float32)
        self._places: dict[str, int] = {}
        self._filling = threading.Lock()

    @classmethod
    def fitting(cls, count: int, width: int) -> KeptVectors | None:
        """One for so many vectors; None where they would be too large."""
        return cls(count, width) if 4 * count * width <= MAX_BYTES else None

    def rows(self, ids: Sequence[str], read: Callable[[list[str]], Mapping[str, Floats]]) -> Floats:
        """The vectors (N, width) of these ids, in their order.

        Args:
            ids: of vectors that exist.
            read: asked for those that are not kept yet.
        """
        missing = [identity for identity in ids if identity not in self._places]
        if missing:
            self._keep(read(missing))
        places = self._places
        found: Floats = self._rows[[places[identity] for identity in ids]]
        return found

    def _keep(self, fresh: Mapping[str, Floats]) -> None:
        with self._filling:
            for identity, vector in fresh.items():
                if identity not in self._places:  # another thread may have read it too
                    place = len(self._places)
                    self._rows[place] = vector
                    self._places[identity] = place  # last: whoever finds the place finds the vector there
