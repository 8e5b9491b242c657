"""JSON values to dataclasses: every field of the dataclass is looked for and must be of its type.

A field that the dataclass does not have is ignored, since newer services may say more. A whole number is read where a
fraction is meant. It knows plain types, `None` beside them, tuples of one type, dictionaries with text as keys, and
dataclasses.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

Document = TypeVar("Document")


class Unreadable(Exception):
    """A value that is not what its place is for: `place` and `problem`."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place} {problem}" if place else problem)


def read(kind: type[Document], value: object) -> Document:
    """The document.

    Raises:
        Unreadable: a field is missing, or not of its type; the first one, named.
    """
    found: Document = _read(kind, value, "")
    return found


def _read(kind: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _object(kind, value, place)
    if typing.get_origin(kind) is not None:
        return _composed(kind, value, place)
    if kind is float and type(value) is int:
        return float(value)
    _expect(kind is Any or type(value) is kind, value, place)
    return value


def _composed(kind: Any, value: Any, place: str) -> Any:
    """A value of ``X | None``, ``tuple[X, ...]`` or ``dict[str, X]``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _read(arguments[0], value, place)
    if origin is tuple:
        _expect(isinstance(value, list), value, place)
        return tuple(_read(arguments[0], part, f"{place}[{number}]") for number, part in enumerate(value))
    _expect(isinstance(value, dict), value, place)
    return {name: _read(arguments[1], part, _inside(place, name)) for name, part in value.items()}


def _object(kind: type, value: Any, place: str) -> Any:
    _expect(isinstance(value, dict), value, place)
    types_of = _types(kind)
    found = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            found[field.name] = _read(types_of[field.name], value[field.name], _inside(place, field.name))
        elif field.default is dataclasses.MISSING:
            raise Unreadable(_inside(place, field.name), "is missing")
    return kind(**found)


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _expect(fits: bool, value: object, place: str) -> None:
    if not fits:
        raise Unreadable(place, f"is {str(value)[:40]!r}, which is not what was expected")


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
