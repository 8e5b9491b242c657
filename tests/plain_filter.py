"""A reference implementation of filters in plain Python, to compare the engines' translations with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sceneseek.filters.conditions import (
    All,
    AnyOf,
    AnyPart,
    DateRange,
    Equals,
    Filter,
    HasValue,
    InFolder,
    Near,
    Not,
    NumberRange,
    Within,
)
from sceneseek.payload import composed

EARTH_METERS = 6_371_008.8


def holds(where: Filter, payload: dict[str, Any]) -> bool:
    """Whether a payload satisfies a filter."""
    match where:
        case All(parts):
            return all(holds(part, payload) for part in parts)
        case AnyPart(parts):
            return any(holds(part, payload) for part in parts)
        case Not(part):
            return not holds(part, payload)
        case InFolder(folder):
            path = composed(payload["path"])
            return f"{path}/".startswith(f"{folder}/") and path != folder
        case _:
            return any(
                value is not None if isinstance(where, HasValue) else _holds(where, value)
                for value in _values(payload, where.field)
            )


def _values(payload: Any, path: tuple[str, ...]) -> Iterator[Any]:
    for part in path:
        if not isinstance(payload, dict) or part not in payload:
            return
        payload = payload[part]
    if isinstance(payload, list):
        yield from payload
    else:
        yield payload


def _holds(where: Filter, value: Any) -> bool:
    match where:
        case Equals(_, wanted):
            return type(value) is type(wanted) and value == wanted
        case AnyOf(_, wanted):
            return isinstance(value, str) and value in wanted
        case NumberRange():
            return isinstance(value, int | float) and not isinstance(value, bool) and _between(where, float(value))
        case DateRange():
            return isinstance(value, str) and (moment := _moment(value)) is not None and _between(where, moment)
        case Near():
            return isinstance(value, dict) and _distance(where, value["lat"], value["lon"]) < where.meters
        case Within():
            return isinstance(value, dict) and _inside(where, value["lat"], value["lon"])
    raise AssertionError(where)


def _between(bounds: Any, value: Any) -> bool:
    return (
        (bounds.gt is None or value > bounds.gt)
        and (bounds.gte is None or value >= bounds.gte)
        and (bounds.lt is None or value < bounds.lt)
        and (bounds.lte is None or value <= bounds.lte)
    )


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _distance(place: Near, lat: float, lon: float) -> float:
    one, other = math.radians(place.lat), math.radians(lat)
    along = math.radians(lon - place.lon)
    half = math.sin((other - one) / 2) ** 2 + math.cos(one) * math.cos(other) * math.sin(along / 2) ** 2
    return 2 * EARTH_METERS * math.asin(math.sqrt(half))


def _inside(box: Within, lat: float, lon: float) -> bool:
    crosses = box.west > box.east
    along = (lon > box.west or lon < box.east) if crosses else box.west < lon < box.east
    return box.south < lat < box.north and along
