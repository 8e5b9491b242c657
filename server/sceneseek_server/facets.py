"""Facets of the metadata: the filterable fields, their most frequent values, and the bounds of numbers and dates.

Counting takes at most a second and a few megabytes, however large the collection is: fields, distinct values of each,
and images are all bounded. The result says how many images were counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sceneseek.filters.conditions import field_path
from sceneseek.payload import values_at
from sceneseek.store import Record
from sceneseek.store.base import FieldType

MAX_FIELDS = 24
MAX_VALUES = 30
# Distinct values of one field that are counted: the first ones.
_MAX_DISTINCT = 2_000
# Longer texts are not chosen from a list, and would take much memory.
_LONGEST_VALUE = 200
_SECONDS = 1.0
# Images between two checks of the time.
_STRIDE = 512
_BOUNDED = ("integer", "float", "datetime")


@dataclass(slots=True)
class Facet:
    """One field.

    Attributes:
        name: as a filter names it.
        type: that of its index.
        images: how many of those counted have it.
        values: of words and truth values, the most frequent with how many images have them.
        distinct: how many different ones were counted.
        least, greatest: of numbers and dates.
    """

    name: str
    type: FieldType
    images: int = 0
    values: list[tuple[str | bool, int]] = field(default_factory=list)
    distinct: int = 0
    least: float | str | None = None
    greatest: float | str | None = None


@dataclass(frozen=True, slots=True)
class Facets:
    """The facets of the first `images` images; `complete` if those are all."""

    images: int
    complete: bool
    fields: list[Facet]


def count_facets(indexed: Mapping[str, FieldType], records: Iterable[Record], seconds: float = _SECONDS) -> Facets:
    """Count the fields of the user's metadata.

    Args:
        indexed: the generation's fields with an index, as filters name them. Others cannot be filtered by.
        records: all of the generation.
        seconds: how long to count.
    """
    paths = {name: path for name in indexed if (path := field_path(name))[0] == "metadata"}
    # Places have neither values that anybody would tick nor an order.
    wanted = {name: paths[name] for name in list(paths)[:MAX_FIELDS] if indexed[name] != "geo"}
    found = {name: _Counter(Facet(name, indexed[name])) for name in wanted}
    until = time.monotonic() + seconds
    images, complete = 0, True
    for record in records:
        if images and images % _STRIDE == 0 and time.monotonic() > until:
            complete = False
            break
        images += 1
        for name, path in wanted.items():
            found[name].add(values_at(record.payload, path))
    facets = [counter.facet() for counter in found.values()]
    return Facets(images, complete, [facet for facet in facets if facet.images])


class _Counter:
    """Counts the values of one field."""

    def __init__(self, facet: Facet) -> None:
        self._facet = facet
        self._counts: Counter[str | bool] = Counter()

    def add(self, values: Iterator[Any]) -> None:
        facet, found = self._facet, False
        for value in values:
            found = True
            if facet.type in _BOUNDED:
                facet.least = value if facet.least is None else min(facet.least, value)
                facet.greatest = value if facet.greatest is None else max(facet.greatest, value)
            elif self._counted(value):
                self._counts[value] += 1
        facet.images += found

    def _counted(self, value: str | bool) -> bool:
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            return False
        return value in self._counts or len(self._counts) < _MAX_DISTINCT

    def facet(self) -> Facet:
        facet = self._facet
        facet.distinct = len(self._counts)
        # Equally frequent values by name, so that the order is deterministic.
        facet.values = sorted(self._counts.items(), key=lambda pair: (-pair[1], str(pair[0])))[:MAX_VALUES]
        return facet
