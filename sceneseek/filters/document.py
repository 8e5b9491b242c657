"""A filter from JSON values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sceneseek.errors import InvalidRequest
from sceneseek.filters.checked import any_of, equals, in_folder, limited, near, value_range, within
from sceneseek.filters.condition import All, AnyPart, FieldPath, Filter, Not, field_path
from sceneseek.filters.refusal import JSON_EXAMPLE, refused, shown_value

MAX_DEPTH = 8
_BOUNDS = frozenset({"gt", "gte", "lt", "lte"})


def filter_from_json(document: Any) -> Filter:
    """A filter from JSON values.

    Raises:
        InvalidRequest: the first condition that cannot be understood, named.
    """
    return limited(read_condition(document, 1))


def read_condition(document: Any, depth: int) -> Filter:
    """One condition, `depth` levels down."""
    if not isinstance(document, dict) or not document:
        raise InvalidRequest(f"the condition {shown_value(document)} is not an object", JSON_EXAMPLE)
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"the filter is nested deeper than {MAX_DEPTH} levels", "write it flatter")
    for name, combine in (("all", All), ("any", AnyPart)):
        if name in document:
            parts = document[name]
            if len(document) > 1 or not isinstance(parts, list) or not parts:
                raise refused(document, f"does not have {name} and a list of conditions alone")
            return combine(tuple(read_condition(part, depth + 1) for part in parts))
    if "not" in document:
        if len(document) > 1:
            raise refused(document, "has more than not")
        return Not(read_condition(document["not"], depth + 1))
    return _condition(document)


def _condition(document: dict[str, Any]) -> Filter:
    if "path_prefix" in document:
        if set(document) - {"field", "path_prefix"} or document.get("field", "path") != "path":
            raise refused(document, "has more than path_prefix")
        return in_folder(document["path_prefix"], document)
    name = document.get("field")
    if not isinstance(name, str):
        raise refused(document, "names no field")
    path = field_path(name)
    keys = set(document) - {"field"}
    if keys and keys <= _BOUNDS:
        return value_range(path, {key: document[key] for key in keys}, document)
    readers: dict[str, Callable[[FieldPath, Any, dict[str, Any]], Filter]] = {
        "equals": equals,
        "any_of": any_of,
        "near": near,
        "within": within,
    }
    if len(keys) != 1 or (key := keys.pop()) not in readers:
        raise refused(document, "does not have one condition that is known")
    return readers[key](path, document[key], document)
