"""Columns of values to columns of one type each, as a payload index needs them.

    integer   whole numbers of 64 bits
    float     numbers
    bool      true, false
    datetime  ISO 8601. A column of dates is kept as `2024-05-31`; one with times as `2024-05-31T12:00:00Z`, brought
              to UTC (a time without an offset is taken as UTC)
    geo       {"lat": ..., "lon": ...} in degrees
    keyword   text to be matched whole, or a list of it
    text      longer text

A column is what all its values are; one word among numbers makes it a column of words. `None` is no value. Texts (of
CSV) are read as what they spell; values that have a type already (of JSON) keep it. A type that the user
names is kept to: what does not fit is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from sceneseek.store.base import FieldType as IndexedType

# What an engine can index, and text, which is kept and not searched by.
FieldType: TypeAlias = IndexedType | Literal["text"]
_Spelt: TypeAlias = Literal["integer", "float", "bool", "datetime"]
Forced: TypeAlias = _Spelt | Literal["keyword", "text", "list"]

# What a header may say behind a colon: `year:int`.
SPELLINGS: dict[str, Forced] = {
    "int": "integer",
    "integer": "integer",
    "float": "float",
    "number": "float",
    "bool": "bool",
    "boolean": "bool",
    "date": "datetime",
    "datetime": "datetime",
    "keyword": "keyword",
    "text": "text",
    "list": "list",
}
LISTS = frozenset({"tags", "keywords"})

_LONGEST_KEYWORD = 100
_SEPARATORS = ";|,"
# No plus sign, no leading zero: `+49 30` and `00501` are no numbers, though Python would read them.
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_TRUTHS = {"true": True, "false": False}
_FORCED_TRUTHS = {**_TRUTHS, "yes": True, "no": False, "1": True, "0": False}


class Unfit(ValueError):
    """A value that its column cannot hold.

    Args:
        row: which, from 0.
        what: a clause that follows the column's name, such as ``is 'x', which is no whole number``.
    """

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row = row
        self.what = what


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one type, a row each; None is no value."""

    type: FieldType
    values: list[Any]


def read_texts(texts: Sequence[str], forced: Forced | None = None) -> Column | None:
    """A column of texts as what they spell; blank ones are no values. None if there is no value at all.

    Raises:
        Unfit: a text is not of the type that was forced.
    """
    texts = [text.strip() for text in texts]
    distinct = {text for text in texts if text}
    if not distinct:
        return None
    if forced == "list":
        separator = next((mark for mark in _SEPARATORS if any(mark in text for text in distinct)), "")
        return Column("keyword", [_parts(text, separator) for text in texts])
    if forced == "keyword" or forced == "text":  # noqa: PLR1714 - mypy narrows by these only
        return Column(forced, [text or None for text in texts])
    if forced is not None:
        read, noun = _FORCED[forced]
        for row, text in enumerate(texts):
            if text and read({text}) is None:
                raise Unfit(row, f"is {_shown(text)}, which is {noun}")
        return _column(forced, read(distinct) or {}, texts)
    for kind, read in _INFERRED.items():
        found = read(distinct)
        if found is not None:
            return _column(kind, found, texts)
    return Column(_text_type(distinct), [text or None for text in texts])


def read_values(values: Sequence[Any], as_list: bool = False) -> Column | None:
    """A column of JSON values; only texts that are dates are read as more than they are.

    Args:
        values: a row each.
        as_list: whether a single text stands for a list of one.

    Raises:
        Unfit: a value is of another kind than those before it, or of none that can be indexed.
    """
    kinds: dict[str, int] = {}
    for row, value in enumerate(values):
        if value is not None:
            for part in value if isinstance(value, list) else (value,):
                kinds.setdefault(_kind(part, row, isinstance(value, list)), row)
    if not kinds:
        return None
    if set(kinds) == {"integer", "float"}:
        return Column("float", [_each(value, float) for value in values])
    (kind, _), *others = kinds.items()
    if others:
        other, row = others[0]
        raise Unfit(row, f"is {_NOUNS[other]}, and was {_NOUNS[kind]} before")
    if kind == "geo":
        return Column("geo", [_place(value, row) for row, value in enumerate(values)])
    if kind == "keyword":
        return _words(values, as_list)
    return Column(_NUMERIC[kind], list(values))


def place(lat: Column, lon: Column) -> Column:
    """Two columns of degrees as one of places.

    Raises:
        Unfit: one of the two is missing, is no number or is off the globe.
    """
    pairs = zip(lat.values, lon.values, strict=True)
    return Column(
        "geo",
        [
            _place(None if north is east is None else {"lat": north, "lon": east}, row)
            for row, (north, east) in enumerate(pairs)
        ],
    )


def _column(kind: FieldType, read: dict[str, Any], texts: Sequence[str]) -> Column:
    return Column(kind, [read[text] if text else None for text in texts])


def _words(values: Sequence[Any], as_list: bool) -> Column:
    if as_list or any(isinstance(value, list) for value in values):
        return Column("keyword", [[value] if isinstance(value, str) else value or None for value in values])
    distinct = {value for value in values if value is not None}
    dates = _dates(distinct)
    if dates is not None:
        return _column("datetime", dates, [value or "" for value in values])
    return Column(_text_type(distinct), list(values))


def _place(value: Any, row: int) -> dict[str, float] | None:
    if value is None:
        return None
    for name, most in (("lat", 90), ("lon", 180)):
        degrees = value[name]
        if isinstance(degrees, bool) or not isinstance(degrees, int | float) or not -most <= degrees <= most:
            shown = "nothing" if degrees is None else _shown(degrees)
            raise Unfit(row, f"has {shown} for {name}, which is no number from -{most} to {most}")
    return {"lat": float(value["lat"]), "lon": float(value["lon"])}


def _kind(value: Any, row: int, within: bool) -> str:
    """What sort of value it is, `within` a list or alone."""
    match value:
        case bool():
            return "bool"
        case int():
            if -(2**63) <= value < 2**63:
                return "integer"
            raise Unfit(row, "is a whole number of more than 64 bits: write it as text")
        case float():
            if math.isfinite(value):
                return "float"
            raise Unfit(row, "is no number that 64 bits hold")
        case str():
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise Unfit(row, "holds half of a surrogate pair, which is no character")
            return "keyword"
        case dict() if not within and set(value) == {"lat", "lon"}:
            return "geo"
    raise Unfit(row, "holds an object, a list or null inside; a value is a number, text, true, false or a list of such")


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return [change(part) for part in value]
    return None if value is None else change(value)


def _truths(distinct: set[str]) -> dict[str, Any] | None:
    read = {text: _TRUTHS.get(text.lower()) for text in distinct}
    return None if None in read.values() else read


def _forced_truths(distinct: set[str]) -> dict[str, Any] | None:
    read = {text: _FORCED_TRUTHS.get(text.lower()) for text in distinct}
    return None if None in read.values() else read


def _wholes(distinct: set[str]) -> dict[str, Any] | None:
    if not all(len(text) <= 20 and _WHOLE.fullmatch(text) for text in distinct):
        return None
    read = {text: int(text) for text in distinct}
    return read if all(-(2**63) <= value < 2**63 for value in read.values()) else None


def _numbers(distinct: set[str]) -> dict[str, Any] | None:
    # Whole numbers beyond 64 bits are names, such as those of posts: as floats they would run together.
    if all(_WHOLE.fullmatch(text) for text in distinct):
        return None
    return _forced_numbers(distinct)


def _forced_numbers(distinct: set[str]) -> dict[str, Any] | None:
    if not all(_NUMBER.fullmatch(text) for text in distinct):
        return None
    read = {text: float(text) for text in distinct}
    return read if all(math.isfinite(value) for value in read.values()) else None


def _dates(distinct: set[str]) -> dict[str, Any] | None:
    """Texts that tell a time, in the one form of their column; None if one does not."""
    moments = {}
    for text in distinct:
        moment = _moment(text)
        if moment is None:
            return None
        moments[text] = moment
    if all(_DATE.fullmatch(text) for text in distinct):
        return {text: moment.date().isoformat() for text, moment in moments.items()}
    return {text: moment.isoformat().replace("+00:00", "Z") for text, moment in moments.items()}


def _moment(text: str) -> datetime | None:
    """The time that a text tells, in UTC; a date is its midnight."""
    if not (_DATE.fullmatch(text) or _TIME.fullmatch(text)):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _parts(text: str, separator: str) -> list[str] | None:
    parts = [part.strip() for part in text.split(separator)] if separator else [text]
    return list(dict.fromkeys(part for part in parts if part)) or None


def _text_type(distinct: set[str]) -> FieldType:
    return "text" if any(len(text) > _LONGEST_KEYWORD or "\n" in text for text in distinct) else "keyword"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 42 else f"{text[:38]}...'"


_NOUNS = {"bool": "true or false", "integer": "a number", "float": "a number", "keyword": "text", "geo": "a place"}
_NUMERIC: dict[str, FieldType] = {"bool": "bool", "integer": "integer", "float": "float"}
_Reader: TypeAlias = Callable[[set[str]], dict[str, Any] | None]
_INFERRED: dict[_Spelt, _Reader] = {"bool": _truths, "integer": _wholes, "float": _numbers, "datetime": _dates}
_FORCED: dict[_Spelt, tuple[_Reader, str]] = {
    "bool": (_forced_truths, "neither true nor false"),
    "integer": (_wholes, "no whole number of 64 bits"),
    "float": (_forced_numbers, "no number"),
    "datetime": (_dates, "no ISO 8601 date, such as 2024-05-31"),
}
