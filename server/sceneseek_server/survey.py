"""Metadata looked through once: the fields that have an index, their values, and their bounds.

It takes what fits into a second and a few megabytes, however large the collection is: so many fields, so many distinct
values of each, so many images. Whoever reads the outcome is told of how many images it is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sceneseek.filters import field_path
from sceneseek.store import Record
from sceneseek.store.base import FieldType

MAX_FIELDS = 24
MAX_VALUES = 30
# Values of one field that are counted; those that come first once there are more.
_MAX_DISTINCT = 2_000
# Longer texts are read, not chosen by, and would make the counts large.
_LONGEST_VALUE = 200
_SECONDS = 1.0
# Images between two looks at the clock.
_STRIDE = 512
_BOUNDED = ("integer", "float", "datetime")


@dataclass(slots=True)
class Surveyed:
    """One field.

    Attributes:
        name: as a filter names it.
        type: that of its index.
        images: how many of those looked at have it.
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
class FieldSurvey:
    """What was found in the first `images` images; `complete` if those were all."""

    images: int
    complete: bool
    fields: list[Surveyed]


def survey_fields(
    indexed: Mapping[str, FieldType], records: Iterable[Record], seconds: float = _SECONDS
) -> FieldSurvey:
    """Look through records for the fields of the user's metadata.

    Args:
        indexed: the generation's fields with an index, as filters name them. Others are not filtered by.
        records: all of the generation.
        seconds: how long to look.
    """
    paths = {name: path for name in indexed if (path := field_path(name))[0] == "metadata"}
    # Places have neither values that anybody would tick nor an order.
    wanted = {name: paths[name] for name in list(paths)[:MAX_FIELDS] if indexed[name] != "geo"}
    found = {name: _Tally(Surveyed(name, indexed[name])) for name in wanted}
    until = time.monotonic() + seconds
    images, complete = 0, True
    for record in records:
        if images and images % _STRIDE == 0 and time.monotonic() > until:
            complete = False
            break
        images += 1
        for name, path in wanted.items():
            found[name].add(_values(record.payload, path))
    told = [tally.told() for tally in found.values()]
    return FieldSurvey(images, complete, [each for each in told if each.images])


class _Tally:
    """What has been seen of one field."""

    def __init__(self, about: Surveyed) -> None:
        self._about = about
        self._counts: Counter[str | bool] = Counter()

    def add(self, values: Iterator[Any]) -> None:
        about, seen = self._about, False
        for value in values:
            seen = True
            if about.type in _BOUNDED:
                about.least = value if about.least is None else min(about.least, value)
                about.greatest = value if about.greatest is None else max(about.greatest, value)
            elif self._counted(value):
                self._counts[value] += 1
        about.images += seen

    def _counted(self, value: str | bool) -> bool:
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            return False
        return value in self._counts or len(self._counts) < _MAX_DISTINCT

    def told(self) -> Surveyed:
        about = self._about
        about.distinct = len(self._counts)
        # Of equally frequent ones the first by name, so that the order is no accident.
        about.values = sorted(self._counts.items(), key=lambda pair: (-pair[1], str(pair[0])))[:MAX_VALUES]
        return about


def _values(payload: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The values at a path: those of a list one by one."""
    for part in path:
        payload = payload.get(part) if isinstance(payload, dict) else None
    for value in payload if isinstance(payload, list) else (payload,):
        if value is not None:
            yield value
