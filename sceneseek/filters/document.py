"""Filters in JSON: the parser, and the JSON Schema for API clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sceneseek.errors import InvalidRequest
from sceneseek.filters.conditions import (
    FIELD_NAME,
    JSON_EXAMPLE,
    All,
    AnyPart,
    FieldPath,
    Filter,
    Not,
    any_of,
    any_part,
    check_size,
    contains_text,
    equals,
    field_path,
    in_folder,
    invalid,
    near,
    quoted,
    span_of,
    value_range,
    within,
)

MAX_DEPTH = 8
_BOUNDS = ("gt", "gte", "lt", "lte")


def _any_of(path: FieldPath, values: Any, document: Any) -> Filter:
    """The field is one of these values, or a date within a value that is a year, a month or a day."""
    spans = [value for value in values if isinstance(value, str) and span_of(value)] if isinstance(values, list) else []
    dates = [value_range(path, {"gte": text, "lte": text}, document) for text in spans]
    return any_part([any_of(path, values, document), *dates])


def _equals(path: FieldPath, value: Any, document: Any) -> Filter:
    return _any_of(path, [value], document) if isinstance(value, str) else equals(path, value, document)


_CONDITIONS: dict[str, Callable[[FieldPath, Any, Any], Filter]] = {
    "equals": _equals,
    "any_of": _any_of,
    "near": near,
    "within": within,
}


def filter_from_json(document: Any) -> Filter:
    """Parse a filter from JSON values.

    Raises:
        InvalidRequest: a condition is not valid; names the first one.
    """
    return check_size(parse_condition(document))


def parse_condition(document: Any, depth: int = 1) -> Filter:
    """Parse a condition at nesting level `depth`."""
    if not isinstance(document, dict) or not document:
        raise InvalidRequest(f"the condition {quoted(document)} is not an object", JSON_EXAMPLE)
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"the filter is nested deeper than {MAX_DEPTH} levels", "use fewer levels")
    if (combined := _combination(document, depth)) is not None:
        return combined
    for name, field, condition in (("path_prefix", "path", in_folder), ("words", "text", contains_text)):
        if name in document:
            if set(document) - {"field", name} or document.get("field", field) != field:
                raise invalid(document, f"has keys other than {name}")
            return condition(document[name], document)
    return _field_condition(document)


def _combination(document: dict[str, Any], depth: int) -> Filter | None:
    """Parse a condition that combines others (`all`, `any`, `not`); None for other conditions."""
    for name, combine in (("all", All), ("any", AnyPart)):
        if name in document:
            parts = document[name]
            if len(document) > 1 or not isinstance(parts, list) or not parts:
                raise invalid(document, f"must have only the key {name}, with a list of conditions")
            return combine(tuple(parse_condition(part, depth + 1) for part in parts))
    if "not" in document:
        if len(document) > 1:
            raise invalid(document, "has keys other than not")
        return Not(parse_condition(document["not"], depth + 1))
    return None


def _field_condition(document: dict[str, Any]) -> Filter:
    name = document.get("field")
    if not isinstance(name, str):
        raise invalid(document, "has no field name")
    path = field_path(name)
    values = {key: value for key, value in document.items() if key != "field"}
    if values and values.keys() <= set(_BOUNDS):
        return value_range(path, values, document)
    if len(values) != 1 or (key := next(iter(values))) not in _CONDITIONS:
        raise invalid(document, "must have exactly one known operator")
    return _CONDITIONS[key](path, values[key], document)


def condition_schema(itself: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one condition that `filter_from_json` accepts.

    A schema cannot limit the depth and the number of conditions, require that the north of a box is above its south,
    or check that dates exist. `filter_from_json` does.

    Args:
        itself: the URI of the schema, for references to nested conditions.
    """
    parts = _list({"$ref": itself})
    in_folder = _object("The image is in this folder.", path_prefix={"type": "string", "pattern": "[^/]"})
    in_folder["properties"]["field"] = {"const": "path"}
    texts = _object("The text in the picture contains these words.", words={"type": "string"})
    texts["properties"]["field"] = {"const": "text"}
    return {
        "title": "Condition",
        "description": f"Restricts the search to images that satisfy it; nested at most {MAX_DEPTH} levels deep.",
        "examples": [{"field": "year", "gte": 1990}],
        "anyOf": [
            _object("The field has this value.", field=_FIELD, equals=_VALUE),
            _object("The field has one of these values.", field=_FIELD, any_of=_list(_VALUE)),
            _range("The field is a number in this range.", {"type": "number"}),
            _range("The field is a date in this range.", _DATE),
            _object("The field is a place within this distance.", field=_FIELD, near=_NEAR),
            _object("The field is a place in this box.", field=_FIELD, within=_WITHIN),
            in_folder,
            texts,
            _object("All of these conditions are true.", all=parts),
            _object("At least one of these conditions is true.", any=parts),
            _object("This condition is false.", **{"not": {"$ref": itself}}),
        ],
    }


def _object(description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with exactly these members."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def _range(description: str, bound: dict[str, Any]) -> dict[str, Any]:
    """The schema of a range: one bound, or one on each side."""
    return {
        **_object(description, field=_FIELD, **dict.fromkeys(_BOUNDS, bound)),
        "required": ["field"],
        "minProperties": 2,
        "not": {"anyOf": [{"required": ["gt", "gte"]}, {"required": ["lt", "lte"]}]},
    }


_DATE: dict[str, Any] = {
    "type": "string",
    "description": "ISO 8601: a year, a month, a day or an instant; in UTC if it has no offset.",
    "anyOf": [{"pattern": "^[1-9][0-9]{3}(-(0[1-9]|1[0-2]))?$"}, {"format": "date"}, {"format": "date-time"}],
}
_FIELD: dict[str, Any] = {
    "type": "string",
    "pattern": FIELD_NAME,
    "description": "The name of a field, as in the metadata; dots separate nested fields, unless quoted.",
}
_VALUE: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_LATITUDE: dict[str, Any] = {"type": "number", "minimum": -90, "maximum": 90}
_LONGITUDE: dict[str, Any] = {"type": "number", "minimum": -180, "maximum": 180}
_NEAR = _object(
    "A place and a distance.", lat=_LATITUDE, lon=_LONGITUDE, meters={"type": "number", "exclusiveMinimum": 0}
)
_WITHIN = _object(
    "A box; if west is greater than east, it crosses the date line.",
    north=_LATITUDE,
    west=_LONGITUDE,
    south=_LATITUDE,
    east=_LONGITUDE,
)
