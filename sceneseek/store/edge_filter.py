"""A filter in the embedded engine's own objects."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import qdrant_edge as edge

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
    json_path,
)


def edge_filter(where: Filter) -> edge.Filter:
    """The filter for a query."""
    return edge.Filter(must=[_condition(where)])


def _condition(where: Filter) -> Any:
    return _TRANSLATIONS[type(where)](where)


def _equals(where: Equals) -> edge.FieldCondition:
    # The binding takes Python's own truth values for the numbers 0 and 1, and numpy's for what they are.
    value: Any = np.bool_(where.value) if isinstance(where.value, bool) else where.value
    return edge.FieldCondition(json_path(where.field), match=edge.MatchValue(value))


def _dates(where: DateRange) -> edge.FieldCondition:
    bounds = {key: _text(getattr(where, key)) for key in ("gt", "gte", "lt", "lte")}
    return edge.FieldCondition(json_path(where.field), range=edge.RangeDateTime(**bounds))


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


_TRANSLATIONS: dict[type, Callable[[Any], Any]] = {
    All: lambda w: edge.Filter(must=[_condition(part) for part in w.parts]),
    AnyPart: lambda w: edge.Filter(should=[_condition(part) for part in w.parts]),
    Not: lambda w: edge.Filter(must_not=[_condition(w.part)]),
    Equals: _equals,
    AnyOf: lambda w: edge.FieldCondition(json_path(w.field), match=edge.MatchAny(list(w.values))),
    HasValue: lambda w: edge.Filter(must_not=[edge.IsEmptyCondition(json_path(w.field))]),
    InFolder: lambda w: edge.FieldCondition("folders", match=edge.MatchValue(w.folder)),
    NumberRange: lambda w: edge.FieldCondition(
        json_path(w.field), range=edge.RangeFloat(gt=w.gt, gte=w.gte, lt=w.lt, lte=w.lte)
    ),
    DateRange: _dates,
    Near: lambda w: edge.FieldCondition(
        json_path(w.field), geo_radius=edge.GeoRadius(edge.GeoPoint(w.lon, w.lat), w.meters)
    ),
    Within: lambda w: edge.FieldCondition(
        json_path(w.field),
        geo_bounding_box=edge.GeoBoundingBox(edge.GeoPoint(w.west, w.north), edge.GeoPoint(w.east, w.south)),
    ),
}
