"""Facets of the metadata: the filterable fields, their most frequent values, and the bounds of numbers and dates.

Counting takes at most a second and a few megabytes, however large the collection is: fields, distinct values of each,
and images are all bounded. The document says how many images were counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12

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


class ValueDocument(TypedDict):
    """A value, and how many of the images looked at have it."""

    value: str | bool
    images: Annotated[int, Field(ge=1)]


class FieldDocument(TypedDict):
    """One field of the metadata; `values` for words and truth values, `min` and `max` for numbers and dates."""

    name: Annotated[str, Field(description="As a filter names it.")]
    type: FieldType
    images: Annotated[int, Field(ge=1, description="How many of the images looked at have it.")]
    values: Annotated[list[ValueDocument], Field(description="The most frequent, most frequent first.")]
    distinct: Annotated[int, Field(ge=0, description="How many values were counted; there may be more.")]
    min: float | str | None
    max: float | str | None


class FieldsDocument(TypedDict):
    """The fields of the live generation's metadata."""

    generation: str
    images: Annotated[int, Field(ge=0, description="How many images were looked at.")]
    complete: Annotated[bool, Field(description="Whether those are all of them.")]
    fields: list[FieldDocument]


def count_facets(
    generation: str, indexed: Mapping[str, FieldType], records: Iterable[Record], seconds: float = _SECONDS
) -> FieldsDocument:
    """Count the fields of the user's metadata, for so many seconds at most.

    Only the `indexed` fields of the generation, named as filters do, can be filtered by.
    """
    paths = {name: path for name in indexed if (path := field_path(name))[0] == "metadata"}
    # Places have neither values that anybody would tick nor an order.
    wanted = {name: paths[name] for name in list(paths)[:MAX_FIELDS] if indexed[name] != "geo"}
    found = {name: _Counter(name, indexed[name]) for name in wanted}
    until = time.monotonic() + seconds
    images, complete = 0, True
    for record in records:
        if images and images % _STRIDE == 0 and time.monotonic() > until:
            complete = False
            break
        images += 1
        for name, path in wanted.items():
            found[name].add(values_at(record.payload, path))
    fields = [counter.document() for counter in found.values() if counter.images]
    return {"generation": generation, "images": images, "complete": complete, "fields": fields}


class _Counter:
    """Counts the values of one field, and the images that have it."""

    def __init__(self, name: str, type_: FieldType) -> None:
        self._name, self._type, self.images = name, type_, 0
        self._counts: Counter[str | bool] = Counter()
        self._least: Any = None
        self._greatest: Any = None

    def add(self, values: Iterator[Any]) -> None:
        found = False
        for value in values:
            found = True
            if self._type in _BOUNDED:
                self._least = value if self._least is None else min(self._least, value)
                self._greatest = value if self._greatest is None else max(self._greatest, value)
            elif self._counted(value):
                self._counts[value] += 1
        self.images += found

    def _counted(self, value: str | bool) -> bool:
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            return False
        return value in self._counts or len(self._counts) < _MAX_DISTINCT

    def document(self) -> FieldDocument:
        # Equally frequent values by name, so that the order is deterministic.
        frequent = sorted(self._counts.items(), key=lambda pair: (-pair[1], str(pair[0])))[:MAX_VALUES]
        return {
            "name": self._name,
            "type": self._type,
            "images": self.images,
            "values": [{"value": value, "images": images} for value, images in frequent],
            "distinct": len(self._counts),
            "min": self._least,
            "max": self._greatest,
        }
