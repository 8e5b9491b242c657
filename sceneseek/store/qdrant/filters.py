"""A filter in the client's own objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdrant_client import models

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


def qdrant_filter(where: Filter) -> models.Filter:
    """The filter for a query."""
    return models.Filter(must=[_condition(where)])


def _condition(where: Filter) -> Any:
    return _TRANSLATIONS[type(where)](where)


_TRANSLATIONS: dict[type, Callable[[Any], Any]] = {
    All: lambda w: models.Filter(must=[_condition(part) for part in w.parts]),
    AnyPart: lambda w: models.Filter(should=[_condition(part) for part in w.parts]),
    Not: lambda w: models.Filter(must_not=[_condition(w.part)]),
    Equals: lambda w: models.FieldCondition(key=json_path(w.field), match=models.MatchValue(value=w.value)),
    AnyOf: lambda w: models.FieldCondition(key=json_path(w.field), match=models.MatchAny(any=list(w.values))),
    HasValue: lambda w: models.Filter(
        must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=json_path(w.field)))]
    ),
    InFolder: lambda w: models.FieldCondition(key="folders", match=models.MatchValue(value=w.folder)),
    NumberRange: lambda w: models.FieldCondition(
        key=json_path(w.field), range=models.Range(gt=w.gt, gte=w.gte, lt=w.lt, lte=w.lte)
    ),
    DateRange: lambda w: models.FieldCondition(
        key=json_path(w.field), range=models.DatetimeRange(gt=w.gt, gte=w.gte, lt=w.lt, lte=w.lte)
    ),
    Near: lambda w: models.FieldCondition(
        key=json_path(w.field),
        geo_radius=models.GeoRadius(center=models.GeoPoint(lat=w.lat, lon=w.lon), radius=w.meters),
    ),
    Within: lambda w: models.FieldCondition(
        key=json_path(w.field),
        geo_bounding_box=models.GeoBoundingBox(
            top_left=models.GeoPoint(lat=w.north, lon=w.west), bottom_right=models.GeoPoint(lat=w.south, lon=w.east)
        ),
    ),
}
