"""A filter from short words, as on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from sceneseek.errors import InvalidRequest
from sceneseek.filters.checked import date_range, equals, in_folder, limited, near, whole_or_float, within
from sceneseek.filters.condition import (
    All,
    AnyOf,
    AnyPart,
    DateRange,
    Equals,
    FieldPath,
    Filter,
    Not,
    NumberRange,
    field_path,
)
from sceneseek.filters.date import span_of
from sceneseek.filters.document import read_condition
from sceneseek.filters.refusal import JSON_EXAMPLE, WORD_EXAMPLES, refused, shown_value

_WORD = re.compile(r'((?:"[^"]*"|[^=<>!^@"])+)(\^=|!=|>=|<=|=|>|<|@)(.*)', re.DOTALL)
_BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def filter_from_words(words: Iterable[str]) -> Filter | None:
    """The filter in which all these words hold; None for no words.

    A bare value that reads as a number, a truth value or a date means that as well as the text; in quotes
    it is the text alone. A word that begins with a brace is JSON.

    Raises:
        InvalidRequest: the first word that cannot be understood, named.
    """
    parts = tuple(_word(word.strip()) for word in words)
    if not parts:
        return None
    return limited(parts[0] if len(parts) == 1 else All(parts))


def _word(word: str) -> Filter:
    if word.startswith("{"):
        try:
            document = json.loads(word)
        except (ValueError, RecursionError):
            raise InvalidRequest(f"the condition {shown_value(word)} is not JSON", JSON_EXAMPLE) from None
        return read_condition(document, 1)
    match = _WORD.fullmatch(word)
    if match is None:
        raise InvalidRequest(f"the condition {shown_value(word)} has no comparison", WORD_EXAMPLES)
    name, operator, value = match[1].strip(), match[2], match[3].strip()
    if operator == "^=":
        if name != "path":
            raise refused(word, "asks for a folder of another field than path")
        return in_folder(_unquoted(value), word)
    path = field_path(name)
    if not value:
        raise refused(word, "has no value")
    if operator in _BOUNDS:
        return _bound(path, _BOUNDS[operator], value, word)
    if operator == "@":
        return _place(path, value, word)
    alternatives = [reading for text in _alternatives(value, word) for reading in _readings(path, text, word)]
    texts = tuple(a.value for a in alternatives if isinstance(a, Equals) and isinstance(a.value, str))
    parts: list[Filter] = [AnyOf(path, texts) if len(texts) > 1 else Equals(path, texts[0])]
    parts += [a for a in alternatives if not (isinstance(a, Equals) and isinstance(a.value, str))]
    found = parts[0] if len(parts) == 1 else AnyPart(tuple(parts))
    return Not(found) if operator == "!=" else found


def _alternatives(value: str, word: str) -> list[str]:
    one = r'(?:\s*"[^"]*"\s*|[^|"]+)'
    parts = [part.strip() for part in re.findall(rf"(?:^|\|)({one})", value)]
    if not re.fullmatch(rf"{one}(?:\|{one})*", value) or not all(parts):
        raise refused(word, "has a value that is empty or quoted by half")
    return parts


def _readings(path: FieldPath, text: str, word: str) -> Sequence[Filter]:
    """The conditions that one bare value may mean."""
    if text.startswith('"'):
        return [Equals(path, _unquoted(text))]
    readings: list[Filter] = [Equals(path, text)]
    if text in ("true", "false"):
        readings.append(Equals(path, text == "true"))
    elif (number := _spelt_number(text)) is not None:
        readings.append(equals(path, number, word))
    elif span := span_of(text):
        start, end = span
        readings.append(DateRange(path, gte=start, lte=start) if start == end else DateRange(path, gte=start, lt=end))
    return readings


def _bound(path: FieldPath, key: str, value: str, word: str) -> Filter:
    """A year is a number and a date: the field's own kind decides."""
    readings: list[Filter] = []
    if (number := _spelt_number(value)) is not None:
        readings.append(NumberRange(path, **{key: float(whole_or_float(number, word))}))
    if span_of(_unquoted(value)):
        readings.append(date_range(path, {key: _unquoted(value)}, word))
    if not readings:
        raise refused(word, "compares with what is neither a number nor an ISO 8601 date")
    return readings[0] if len(readings) == 1 else AnyPart(tuple(readings))


def _place(path: FieldPath, value: str, word: str) -> Filter:
    number = r"\s*([+-]?\d+(?:\.\d+)?)\s*"
    if match := re.fullmatch(rf"{number},{number},{number}(km|m)", value, re.ASCII):
        lat, lon, distance = (float(text) for text in match.groups()[:3])
        return near(path, {"lat": lat, "lon": lon, "meters": distance * (1000 if match[4] == "km" else 1)}, word)
    if match := re.fullmatch(rf"{number},{number}\.\.{number},{number}", value, re.ASCII):
        sides = dict(zip(("north", "west", "south", "east"), map(float, match.groups()), strict=True))
        return within(path, sides, word)
    raise refused(word, "is neither LAT,LON,5km nor NORTH,WEST..SOUTH,EAST")


def _spelt_number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text) or len(text) > 40:
        return None
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
