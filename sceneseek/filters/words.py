"""The short form of filters, such as `year>=1990`, for the command line and query strings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from sceneseek.errors import InvalidRequest
from sceneseek.filters.conditions import (
    JSON_EXAMPLE,
    WORD_EXAMPLES,
    All,
    FieldPath,
    Filter,
    Not,
    any_of,
    any_part,
    check_size,
    contains_text,
    field_path,
    in_folder,
    invalid,
    near,
    quoted,
    span_of,
    value_range,
    within,
)
from sceneseek.filters.document import parse_condition

_WORD = re.compile(r'((?:"[^"]*"|[^=<>!^@"])+)(\^=|!=|>=|<=|=|>|<|@)(.*)', re.DOTALL)
_TEXT = "text:"
_BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def filter_from_words(words: Iterable[str]) -> Filter | None:
    """Parse conditions in short form, which must all be true; None if there are none.

    An unquoted value that can be a number, a boolean or a date matches these as well as the text; a quoted value
    matches the text only. A word that begins with a brace is JSON.

    Raises:
        InvalidRequest: a word is not valid; names the first one.
    """
    parts = tuple(_word(word.strip()) for word in words)
    if not parts:
        return None
    return check_size(parts[0] if len(parts) == 1 else All(parts))


def _word(word: str) -> Filter:
    if word.startswith("{"):
        try:
            document = json.loads(word)
        except (ValueError, RecursionError):
            raise InvalidRequest(f"the condition {quoted(word)} is not JSON", JSON_EXAMPLE) from None
        return parse_condition(document)
    if word.startswith(_TEXT):
        return contains_text(word.removeprefix(_TEXT), word)
    match = _WORD.fullmatch(word)
    if match is None:
        raise InvalidRequest(f"the condition {quoted(word)} has no comparison", WORD_EXAMPLES)
    name, operator, value = match[1].strip(), match[2], match[3].strip()
    if operator == "^=":
        if name != "path":
            raise invalid(word, "uses ^= with a field other than path")
        return in_folder(_unquoted(value), word)
    path = field_path(name)
    if not value:
        raise invalid(word, "has no value")
    if operator in _BOUNDS:
        return _bound(path, _BOUNDS[operator], value, word)
    if operator == "@":
        return _place(path, value, word)
    found = _one_of(path, _alternatives(value, word), word)
    return Not(found) if operator == "!=" else found


def _alternatives(value: str, word: str) -> list[str]:
    one = r'(?:\s*"[^"]*"\s*|[^|"]+)'
    parts = [part.strip() for part in re.findall(rf"(?:^|\|)({one})", value)]
    if not re.fullmatch(rf"{one}(?:\|{one})*", value) or not all(parts):
        raise invalid(word, "has an empty value or an unclosed quote")
    return parts


def _one_of(path: FieldPath, alternatives: Iterable[str], word: str) -> Filter:
    values: list[str | float] = []
    dates: list[Filter] = []
    for text in alternatives:
        values.append(_unquoted(text))
        if text.lower() in ("true", "false"):
            values.append(text.lower() == "true")
        elif (number := _number_in(text)) is not None:
            values.append(number)
        if span_of(text):
            dates.append(value_range(path, {"gte": text, "lte": text}, word))
    return any_part([any_of(path, values, word), *dates])


def _bound(path: FieldPath, key: str, value: str, word: str) -> Filter:
    """A bound on numbers, dates or, as for a year, both: the type of the field decides."""
    bounds: list[str | float] = []
    if (number := _number_in(value)) is not None:
        bounds.append(number)
    if span_of(_unquoted(value)):
        bounds.append(_unquoted(value))
    if not bounds:
        raise invalid(word, "has a value that is neither a number nor a date")
    return any_part([value_range(path, {key: bound}, word) for bound in bounds])


def _place(path: FieldPath, value: str, word: str) -> Filter:
    number = r"\s*([+-]?\d+(?:\.\d+)?)\s*"
    if match := re.fullmatch(rf"{number},{number},{number}(km|m)", value, re.ASCII):
        lat, lon, distance = (float(text) for text in match.groups()[:3])
        return near(path, {"lat": lat, "lon": lon, "meters": distance * (1000 if match[4] == "km" else 1)}, word)
    if match := re.fullmatch(rf"{number},{number}\.\.{number},{number}", value, re.ASCII):
        sides = dict(zip(("north", "west", "south", "east"), map(float, match.groups()), strict=True))
        return within(path, sides, word)
    raise invalid(word, "is neither LAT,LON,5km nor NORTH,WEST..SOUTH,EAST")


def _number_in(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text) or len(text) > 40:
        return None
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
