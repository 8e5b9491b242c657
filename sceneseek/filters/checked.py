"""Conditions from values, each checked; `shown` is what a refusal names: the condition as the user wrote it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from sceneseek.errors import InvalidRequest
from sceneseek.filters.condition import (
    All,
    AnyOf,
    AnyPart,
    DateRange,
    Equals,
    FieldPath,
    Filter,
    InFolder,
    Near,
    Not,
    NumberRange,
    Within,
)
from sceneseek.filters.date import span_of
from sceneseek.filters.refusal import refused, shown_value

MAX_CONDITIONS = 256
# Engines compare ranges as 64-bit floats; whole numbers beyond are matched one by one.
_EXACT = 2**53


def limited(where: Filter) -> Filter:
    """The filter, if it has no more conditions than are searched."""
    if (count := _count(where)) > MAX_CONDITIONS:
        raise InvalidRequest(f"the filter has {count:,} conditions", f"at most {MAX_CONDITIONS} are searched")
    return where


def _count(where: Filter) -> int:
    if isinstance(where, All | AnyPart):
        return sum(_count(part) for part in where.parts)
    if isinstance(where, Not):
        return _count(where.part)
    return len(where.values) if isinstance(where, AnyOf) else 1


def equals(path: FieldPath, value: Any, shown: Any) -> Filter:
    """The field is this text, truth value or number."""
    if isinstance(value, str | bool):
        return Equals(path, value)
    number = whole_or_float(value, shown)
    if isinstance(number, int) and abs(number) > _EXACT:
        return Equals(path, number)
    return NumberRange(path, gte=float(number), lte=float(number))


def any_of(path: FieldPath, values: Any, shown: Any) -> Filter:
    """The field is one of these."""
    if not isinstance(values, list) or not values:
        raise refused(shown, "has no list of values")
    texts = tuple(value for value in values if isinstance(value, str))
    parts = [equals(path, value, shown) for value in values if not isinstance(value, str)]
    if texts:
        parts.insert(0, AnyOf(path, texts))
    return parts[0] if len(parts) == 1 else AnyPart(tuple(parts))


def value_range(path: FieldPath, bounds: dict[str, Any], shown: Any) -> Filter:
    """The field is within these bounds, all of them numbers or all dates, at most one on each side."""
    if {"gt", "gte"} <= bounds.keys() or {"lt", "lte"} <= bounds.keys():
        raise refused(shown, "has two bounds on one side")
    if all(isinstance(bound, str) for bound in bounds.values()):
        return date_range(path, bounds, shown)
    if any(isinstance(bound, str) for bound in bounds.values()):
        raise refused(shown, "has numbers and dates in one range")
    return NumberRange(path, **{key: float(whole_or_float(bound, shown)) for key, bound in bounds.items()})


def date_range(path: FieldPath, bounds: dict[str, str], shown: Any) -> DateRange:
    """The field is a date within these bounds, where one without a time of day is its whole span."""
    limits: dict[str, datetime] = {}
    for key, text in bounds.items():
        span = span_of(text)
        if span is None:
            raise refused(shown, f"has {shown_value(text)}, which is no ISO 8601 date")
        start, end = span
        if key in ("gte", "lt") or start == end:
            limits[key] = start
        else:
            # After a whole day is from the next one on; up to a whole day is before the next one.
            limits["gte" if key == "gt" else "lt"] = end
    return DateRange(path, **limits)


def near(path: FieldPath, value: Any, shown: Any) -> Filter:
    """The field is a place within so many metres of another."""
    if not isinstance(value, dict) or set(value) != {"lat", "lon", "meters"}:
        raise refused(shown, "has no lat, lon and meters")
    meters = float(whole_or_float(value["meters"], shown))
    if meters <= 0:
        raise refused(shown, "has no distance above zero")
    return Near(path, _degrees(value["lat"], 90, shown), _degrees(value["lon"], 180, shown), meters)


def within(path: FieldPath, value: Any, shown: Any) -> Filter:
    """The field is a place in a box."""
    if not isinstance(value, dict) or set(value) != {"north", "west", "south", "east"}:
        raise refused(shown, "has no north, west, south and east")
    north, south = (_degrees(value[side], 90, shown) for side in ("north", "south"))
    west, east = (_degrees(value[side], 180, shown) for side in ("west", "east"))
    if north <= south:
        raise refused(shown, "has its north below its south")
    return Within(path, north, west, south, east)


def in_folder(value: Any, shown: Any) -> InFolder:
    """The image lies in this folder."""
    folder = value.strip("/") if isinstance(value, str) else ""
    if not folder:
        raise refused(shown, "names no folder")
    return InFolder(folder)


def whole_or_float(value: Any, shown: Any) -> int | float:
    """A finite number that an engine can hold: what is beyond 64 bits is compared as engines keep it, as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(shown, f"has {shown_value(value)}, which is not a number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        try:
            return float(value)
        except OverflowError:
            raise refused(shown, "has a number of too many digits") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise refused(shown, "has a number that is not finite")
    return value


def _degrees(value: Any, limit: int, shown: Any) -> float:
    degrees = float(whole_or_float(value, shown))
    if abs(degrees) > limit:
        raise refused(shown, f"has {degrees:g} degrees, beyond {limit}")
    return degrees
