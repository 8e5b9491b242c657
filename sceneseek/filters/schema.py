"""What `filter_from_json` reads, as a JSON Schema (draft 2020-12), for those who write filters by program.

It says all that a schema can. Not said: how deep and how many conditions may be, that a box's north lies above its
south, and which of the dates that have the form of one are in no calendar; those are refused with their reason.
"""

from __future__ import annotations

from typing import Any

from sceneseek.filters.condition import FIELD_NAME
from sceneseek.filters.document import MAX_DEPTH

_NUMBER: dict[str, Any] = {"type": "number"}
_DATE: dict[str, Any] = {
    "type": "string",
    "description": "ISO 8601, in UTC without an offset: a year, a month, a day or an instant.",
    "anyOf": [{"pattern": "^[1-9][0-9]{3}(-(0[1-9]|1[0-2]))?$"}, {"format": "date"}, {"format": "date-time"}],
}
_FIELD: dict[str, Any] = {
    "type": "string",
    "pattern": FIELD_NAME,
    "description": "A field's name as in the metadata; dots lead into objects, quotes keep them.",
}
_VALUE: dict[str, Any] = {"type": ["string", "number", "boolean"]}


def condition_schema(itself: str) -> dict[str, Any]:
    """The schema of one condition.

    Args:
        itself: the address that the schema will have, by which conditions hold others.
    """
    parts = _list({"$ref": itself})
    return {
        "title": "Condition",
        "description": f"Which images are found at all; conditions nest at most {MAX_DEPTH} deep.",
        "examples": [{"field": "year", "gte": 1990}],
        "anyOf": [
            _object("The field is this.", field=_FIELD, equals=_VALUE),
            _object("The field is one of these.", field=_FIELD, any_of=_list(_VALUE)),
            _range("The field is a number in this range.", _NUMBER),
            _range("The field is a date in this range.", _DATE),
            _object("The field is a place less than so far away.", field=_FIELD, near=_NEAR),
            _object("The field is a place in this box.", field=_FIELD, within=_WITHIN),
            {
                **_object("The image lies in this folder.", path_prefix={"type": "string", "pattern": "[^/]"}),
                "properties": {"path_prefix": {"type": "string", "pattern": "[^/]"}, "field": {"const": "path"}},
            },
            _object("All of these hold.", all=parts),
            _object("One of these holds.", any=parts),
            _object("This does not hold.", **{"not": {"$ref": itself}}),
        ],
    }


def _object(description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """An object of exactly these members."""
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
    """One bound, or one on each side."""
    return {
        **_object(description, field=_FIELD, **dict.fromkeys(("gt", "gte", "lt", "lte"), bound)),
        "required": ["field"],
        "minProperties": 2,
        "not": {"anyOf": [{"required": ["gt", "gte"]}, {"required": ["lt", "lte"]}]},
    }


def _degrees(limit: int) -> dict[str, Any]:
    return {"type": "number", "minimum": -limit, "maximum": limit}


_NEAR = _object(
    "A place and a distance.",
    lat=_degrees(90),
    lon=_degrees(180),
    meters={"type": "number", "exclusiveMinimum": 0},
)
_WITHIN = _object(
    "A box; a west greater than the east crosses the date line.",
    north=_degrees(90),
    west=_degrees(180),
    south=_degrees(90),
    east=_degrees(180),
)
