"""A cache of the vectors of candidates of one generation.

Reading the vectors of a hundred candidates takes longer than finding them: the embedded engine returns lists of Python
numbers while it holds the interpreter's lock (GIL), and a Qdrant server sends half a megabyte of JSON. A published
generation never changes, so rows stay valid until it is closed. While a generation is written, its collection has no
cache or clears it.

Rows are float32, as the engines return them, so scores do not depend on the cache.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sceneseek.errors import IndexUnavailable, InvalidRequest
from sceneseek.store.base import HEAD, JOINT, CollectionInfo, StoredVectors
from sceneseek.vectors import Floats

VARIABLE = "SCENESEEK_VECTOR_CACHE"
DEFAULT_MEGABYTES = 256
_MOST_MEGABYTES = 1_000_000


def cache_bytes(environment: Mapping[str, str] | None = None) -> int:
    """The size of the cache of one generation in bytes, from `SCENESEEK_VECTOR_CACHE` in megabytes.

    Raises:
        InvalidRequest: the value of the variable is not a whole number.
    """
    text = (os.environ if environment is None else environment).get(VARIABLE, "").strip() or str(DEFAULT_MEGABYTES)
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and int(text) <= _MOST_MEGABYTES):
        raise InvalidRequest(
            f"{VARIABLE} is {text!r}", f"use a whole number of megabytes, 0 (no cache) to {_MOST_MEGABYTES:,}"
        )
    return int(text) * 2**20


class VectorCache:
    """An LRU cache of rows by id. Thread-safe.

    Args:
        width: numbers per row.
        max_bytes: of all rows; the key of each row takes some 200 bytes more.
    """

    def __init__(self, width: int, max_bytes: int) -> None:
        self.width = width
        self.capacity = max_bytes // (4 * max(width, 1))
        # The system allocates memory only as rows are written.
        self._rows: Floats = np.empty((self.capacity, width), dtype=np.float32)
        self._places: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._places)

    def rows(self, ids: Sequence[str], read: Callable[[list[str]], Mapping[str, Floats]]) -> Floats:
        """The vectors (N, width) of these ids, in their order.

        Args:
            ids: of existing vectors, without duplicates.
            read: called at most once, with the ids that are not cached; returns a row for each of them.

        Raises:
            KeyError: `read` did not return a row for an id.
        """
        found: Floats = np.empty((len(ids), self.width), dtype=np.float32)
        with self._lock:
            places = [self._places.get(identity, -1) for identity in ids]
            hits = [index for index, place in enumerate(places) if place >= 0]
            # Copied under the lock: another thread may overwrite the place.
            found[hits] = self._rows[[places[index] for index in hits]]
            for index in hits:
                self._places.move_to_end(ids[index])
        missing = [index for index, place in enumerate(places) if place < 0]
        if missing:
            fresh = read([ids[index] for index in missing])
            for index in missing:
                found[index] = fresh[ids[index]]
            self._add([ids[index] for index in missing[: self.capacity]], found[missing[: self.capacity]])
        return found

    def _add(self, ids: Sequence[str], rows: Floats) -> None:
        with self._lock:
            for identity, row in zip(ids, rows, strict=True):
                if identity in self._places:  # another thread has added it
                    continue
                full = len(self._places) == self.capacity
                place = self._places.popitem(last=False)[1] if full else len(self._places)
                self._rows[place] = row
                self._places[identity] = place


class CandidateVectors:
    """The joint and head vectors of the points of a generation, through a `VectorCache`. Thread-safe.

    Args:
        info: of the generation.
        max_bytes: of the cache.
    """

    def __init__(self, info: CollectionInfo, max_bytes: int) -> None:
        self._joint, self._head = info.joint, info.head
        self._max_bytes = max_bytes
        self._cache: VectorCache | None = None

    def read(
        self, ids: Sequence[str], names: Sequence[str], read: Callable[[list[str], bool], Mapping[str, StoredVectors]]
    ) -> tuple[Floats | None, Floats | None]:
        """The vectors of these points, in the order of the ids.

        Args:
            ids: without duplicates.
            names: which of ``joint`` and ``head`` to return.
            read: called with the ids that are not cached, and whether their head vectors are needed.

        Returns:
            `joint` (N, D) and `head` (N, H); None if not in `names`.

        Raises:
            IndexUnavailable: `read` did not return the vectors of an id.
        """
        if not names:
            return None, None
        # Head vectors can have thousands of dimensions, so they are cached only if the reranker reads them.
        width = self._joint + (self._head if HEAD in names else 0)
        cache = self._cache
        if cache is None or cache.width < width:
            cache = self._cache = VectorCache(width, self._max_bytes)

        def fresh(missing: list[str]) -> dict[str, Floats]:
            # Head vectors of width 0 are not stored: their rows are empty.
            found = read(missing, cache.width > self._joint)
            return {i: np.concatenate((joint, head))[: cache.width] for i, (joint, head) in found.items()}

        try:
            rows = cache.rows(ids, fresh)
        except KeyError as error:
            raise IndexUnavailable(f"the index has lost the vectors of {error}", "index the folder again") from None
        return (
            rows[:, : self._joint] if JOINT in names else None,
            rows[:, self._joint : self._joint + self._head] if HEAD in names else None,
        )

    def clear(self) -> None:
        """Clear the cache, before the generation changes."""
        self._cache = None
