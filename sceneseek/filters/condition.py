"""The conditions themselves, what they say of a field, and a field's place in the payload."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from sceneseek.errors import InvalidRequest
from sceneseek.filters.refusal import shown_value

FieldPath: TypeAlias = tuple[str, ...]
# The index's own fields; every other name is one of the user's metadata.
OWN_FIELDS = frozenset(
    {
        *("path", "folders", "source", "sha256", "width", "height", "format", "bytes", "mtime_ns", "indexed_at"),
        *("metadata", "dhash", "duplicates"),
    }
)


@dataclass(frozen=True, slots=True)
class Equals:
    """The field is this text, truth value or (very large) whole number."""

    field: FieldPath
    value: str | bool | int


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field is one of these texts."""

    field: FieldPath
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The field is a number within these bounds; equal bounds are equality."""

    field: FieldPath
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class DateRange:
    """The field is an ISO 8601 date or time within these bounds."""

    field: FieldPath
    gt: datetime | None = None
    gte: datetime | None = None
    lt: datetime | None = None
    lte: datetime | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """The field is a place, an object of `lat` and `lon` in degrees, less than so many metres from this one."""

    field: FieldPath
    lat: float
    lon: float
    meters: float


@dataclass(frozen=True, slots=True)
class Within:
    """The field is a place inside this box; a west greater than the east crosses the date line."""

    field: FieldPath
    north: float
    west: float
    south: float
    east: float


@dataclass(frozen=True, slots=True)
class InFolder:
    """The image lies in this folder of its source, at any depth."""

    folder: str


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; there is at least one."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyPart:
    """One part holds; there is at least one."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter: TypeAlias = Equals | AnyOf | NumberRange | DateRange | Near | Within | InFolder | All | AnyPart | Not


# No backslash: in the paths of engines none can be written, quoted or not.
_SEGMENT = r'("[^"\\]+"|[^."\\]+)'
# What a person writes of a field, in the dialect that regular expressions share.
FIELD_NAME = rf"^{_SEGMENT}(\.{_SEGMENT})*$"


def field_path(name: str) -> FieldPath:
    """A field's place in the payload, from the name a person writes.

    Raises:
        InvalidRequest: it names no field.
    """
    if not re.fullmatch(FIELD_NAME, name):
        raise InvalidRequest(
            f"{shown_value(name)} names no field", 'write it as in the metadata, in quotes where it has dots: "a.b"'
        )
    path = tuple(segment.strip('"') for segment in re.findall(_SEGMENT, name))
    return path if path[0] in OWN_FIELDS else ("metadata", *path)


def json_path(path: FieldPath) -> str:
    """The path as both engines write it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_]+", part) else f'"{part}"' for part in path)


def typed(where: Filter, indexed: Mapping[FieldPath, str]) -> Filter:
    """The filter as engines must be asked where fields have indexes of these types.

    An index of numbers takes a date for the number of its microseconds, and one of dates the reverse; such a
    condition holds of nothing.
    """
    if isinstance(where, All | AnyPart):
        return replace(where, parts=tuple(typed(part, indexed) for part in where.parts))
    if isinstance(where, Not):
        return Not(typed(where.part, indexed))
    if isinstance(where, DateRange) and indexed.get(where.field) in ("integer", "float"):
        return All((where, Not(where)))
    if isinstance(where, NumberRange) and indexed.get(where.field) == "datetime":
        return All((where, Not(where)))
    return where
