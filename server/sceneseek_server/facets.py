"""Facets of the metadata: the filterable fields, their most frequent values, and the bounds of numbers and dates.

Fields, distinct values and images are limited, so that counting takes at most a second and a few megabytes for any
collection. The document contains the number of counted images.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict  # required by pydantic below Python 3.12

from sceneseek.filters.conditions import field_path
from sceneseek.payload import values_at
from sceneseek.store import Record
from sceneseek.store.base import FieldType

MAX_FIELDS = 24
MAX_VALUES = 30
# Maximum number of distinct values counted per field; later ones are ignored.
_MAX_DISTINCT = 2_000
# Longer texts are ignored: they do not fit a list of values, and need much memory.
_LONGEST_VALUE = 200
_SECONDS = 1.0
# Number of images between two checks of the time.
_STRIDE = 512
_BOUNDED = ("integer", "float", "datetime")


class ValueDocument(TypedDict):
    """A value, and the number of counted images that have it."""

    value: str | bool
    images: Annotated[int, Field(ge=1)]


class FieldDocument(TypedDict):
    """A field of the metadata: `values` for keywords and booleans, `min` and `max` for numbers and dates."""

    name: Annotated[str, Field(description="The name in filters.")]
    type: FieldType
    images: Annotated[int, Field(ge=1, description="Number of counted images that have it.")]
    values: Annotated[list[ValueDocument], Field(description="The most frequent values, in descending order.")]
    distinct: Annotated[int, Field(ge=0, description="Number of counted values; there may be more.")]
    min: float | str | None
    max: float | str | None


class FieldsDocument(TypedDict):
    """The fields of the live generation's metadata."""

    generation: str
    images: Annotated[int, Field(ge=0, description="Number of counted images.")]
    complete: Annotated[bool, Field(description="Whether all images were counted.")]
    fields: list[FieldDocument]


def count_facets(
    generation: str, indexed: Mapping[str, FieldType], records: Iterable[Record], seconds: float = _SECONDS
) -> FieldsDocument:
    """Count the fields of the user's metadata, for at most `seconds`.

    `indexed` contains the filterable fields of the generation, by their names in filters.
    """
    paths = {name: path for name in indexed if (path := field_path(name))[0] == "metadata"}
    # Places have neither values to choose from nor an order.
    wanted = {name: paths[name] for name in list(paths)[:MAX_FIELDS] if indexed[name] != "geo"}
    counters = {name: _Counter(name, indexed[name]) for name in wanted}
    until = time.monotonic() + seconds
    images, complete = 0, True
    for record in records:
        if images and images % _STRIDE == 0 and time.monotonic() > until:
            complete = False
            break
        images += 1
        for name, path in wanted.items():
            counters[name].add(values_at(record.payload, path))
    fields = [counter.document() for counter in counters.values() if counter.images]
    return {"generation": generation, "images": images, "complete": complete, "fields": fields}


class _Counter:
    """Counts the values of one field, and the images that have it."""

    def __init__(self, name: str, type_: FieldType) -> None:
        self._name, self._type, self.images = name, type_, 0
        self._counts: Counter[str | bool] = Counter()
        self._least: Any = None
        self._greatest: Any = None

    def add(self, values: Iterator[Any]) -> None:
        present = False
        for value in values:
            present = True
            if self._type in _BOUNDED:
                self._least = value if self._least is None else min(self._least, value)
                self._greatest = value if self._greatest is None else max(self._greatest, value)
            elif self._counted(value):
                self._counts[value] += 1
        self.images += present

    def _counted(self, value: str | bool) -> bool:
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            return False
        return value in self._counts or len(self._counts) < _MAX_DISTINCT

    def document(self) -> FieldDocument:
        # Ties are sorted by name, so that the order is deterministic.
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
