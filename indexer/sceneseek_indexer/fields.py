"""Types of metadata fields: converts a column of texts or JSON values to a column of one type, as indexes require.

    integer   64-bit integers
    float     numbers
    bool      true, false
    datetime  ISO 8601: a date such as `2024-05-31`, a time in UTC such as `2024-05-31T12:00:00Z`, or a time without
              offset such as `2024-05-31T12:00:00`, which compares as UTC
    geo       {"lat": ..., "lon": ...} in degrees
    keyword   text that is matched as a whole, or lists of it
    text      longer text, which is not indexed

The header of a column of texts may name its type (`TYPES`). Otherwise the type is the first of int, float, date and
bool that fits every value, else text. JSON values have their own types; texts are dates if all values of the field are
dates. All texts are in Unicode's composed form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from sceneseek.payload import composed
from sceneseek.store.base import FieldType as IndexedType

FieldType: TypeAlias = IndexedType | Literal["text"]

_LONGEST_KEYWORD = 100
# No plus sign and no leading zero: `+49 30` and `00501` are not numbers, although Python would accept them.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EXIF_DATE = re.compile(r"([0-9]{4}):([0-9]{2}):([0-9]{2})(?=$| )")
_NO_EXIF_DATE = "0000:00:00"
_EXIFTOOL_DEGREES = re.compile(r"([0-9]+) deg ([0-9]+)' ([0-9.]+)\" ([NSEW])")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)


class Unfit(ValueError):
    """A value that does not fit the type of its column.

    Args:
        row: its row, from 0.
        what: a clause that follows the column's name, such as ``is 'x', which is not a number``.
    """

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row = row
        self.what = what


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one type, one per row; None is a missing value."""

    type: FieldType
    values: list[Any]


def read_texts(texts: Sequence[str], named: str | None = None) -> Column | None:
    """Convert a column of texts; blank texts are missing values. None if all values are missing.

    Args:
        texts: one per row.
        named: the type, a name in `TYPES`; None to infer it from the values.

    Raises:
        Unfit: a text is not of the named type.
    """
    texts = ["" if text.lstrip().startswith(_NO_EXIF_DATE) else composed(text.strip()) for text in texts]
    distinct = {text for text in texts if text}
    if not distinct:
        return None
    if named == "list":
        separator = next((mark for mark in ";|," if any(mark in text for text in distinct)), None)
        return Column("keyword", [_parts(text, separator) for text in texts])
    type_, parse, noun = TYPES[named or _guess(distinct)]
    values = {text: parse(text) for text in distinct}
    for row, text in enumerate(texts):
        if text and values[text] is None:
            raise Unfit(row, f"is {_shown(text)}, which is {noun}")
    return Column(type_, [values.get(text) for text in texts])


def read_values(values: Sequence[Any]) -> Column | None:
    """Convert a column of JSON values; null and empty lists are missing values. None if all values are missing.

    Raises:
        Unfit: a value has a different type than the values before it, or an unsupported type.
    """
    types: dict[FieldType, int] = {}
    for row, value in enumerate(values):
        for part in value if isinstance(value, list) else () if value is None else (value,):
            types.setdefault(_type_of(part, row, isinstance(value, list)), row)
    if not types:
        return None
    values = [None if value == [] else _composed(value) for value in values]
    if types.keys() == {"integer", "float"}:
        return Column("float", values)
    (first, _), *others = types.items()
    if others:
        other, row = others[0]
        raise Unfit(row, f"is {_NOUNS[other]}, and was {_NOUNS[first]} before")
    if first == "keyword" and not any(isinstance(value, list) for value in values):
        texts = {value for value in values if value is not None}
        if all(map(parse_date, texts)):
            return Column("datetime", [value and parse_date(value) for value in values])
        return Column(_text_type(texts), values)
    return Column(first, values)


def _composed(value: Any) -> Any:
    if isinstance(value, list):
        return [_composed(part) for part in value]
    return composed(value) if isinstance(value, str) else value


def _guess(distinct: Collection[str]) -> str:
    fitting = (name for name in ("int", "float", "date") if all(TYPES[name][1](text) is not None for text in distinct))
    if found := next(fitting, None):
        return found
    # Not `yes` and `no`, which are also words and a country code.
    return "bool" if all(text.lower() in ("true", "false") for text in distinct) else _text_type(distinct)


def _text_type(texts: Collection[str]) -> Literal["text", "keyword"]:
    return "text" if any(len(text) > _LONGEST_KEYWORD or "\n" in text for text in texts) else "keyword"


def _parts(text: str, separator: str | None) -> list[str] | None:
    parts = [part.strip() for part in text.split(separator)] if separator else [text]
    return list(dict.fromkeys(part for part in parts if part)) or None


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63 else None


def _number(text: str) -> float | None:
    # Long integers are identifiers, such as those of posts: different ones could be equal as floats.
    if not _NUMBER.fullmatch(text) or (text.lstrip("-").isdigit() and len(text) > 16):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _bool(text: str) -> bool | None:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower())


def parse_date(text: str) -> str | None:
    """Convert a date or time in ISO 8601 or EXIF's `2024:05:31 10:00:00` to the index's format; None if invalid."""
    text = _EXIF_DATE.sub(r"\1-\2-\3", text, count=1)
    if not (_DATE.fullmatch(text) or _TIME.fullmatch(text)):
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None
    return text if _DATE.fullmatch(text) else moment.isoformat().replace("+00:00", "Z")


def _place(text: str) -> dict[str, float] | None:
    degrees = [_EXIFTOOL_DEGREES.sub(_decimal, part.strip()) for part in text.split(",")]
    if len(degrees) != 2 or not all(_NUMBER.fullmatch(part) for part in degrees):
        return None
    place = {"lat": float(degrees[0]), "lon": float(degrees[1])}
    return place if on_earth(place) else None


def _decimal(degrees: re.Match[str]) -> str:
    found = int(degrees[1]) + int(degrees[2]) / 60 + float(degrees[3]) / 3600
    return f"{-found if degrees[4] in 'SW' else found:.7f}"


def on_earth(place: dict[str, Any]) -> bool:
    """Whether `lat` and `lon` are valid degrees."""
    return all(
        isinstance(place[axis], int | float) and not isinstance(place[axis], bool) and -most <= place[axis] <= most
        for axis, most in (("lat", 90), ("lon", 180))
    )


def _type_of(value: Any, row: int, within: bool) -> FieldType:
    """The type of a JSON value; `within`: whether it is in a list."""
    match value:
        case bool():
            return "bool"
        case int():
            if -(2**63) <= value < 2**63:
                return "integer"
            raise Unfit(row, "is an integer of more than 64 bits: write it as text")
        case float():
            if math.isfinite(value):
                return "float"
            raise Unfit(row, "is a number that does not fit in 64 bits")
        case str():
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise Unfit(row, "contains half of a surrogate pair, which is not a character")
            return "keyword"
        case dict() if not within and set(value) == {"lat", "lon"}:
            if on_earth(value):
                return "geo"
            raise Unfit(row, f"is {_shown(value)}, which is {_NO_PLACE}")
    raise Unfit(
        row, "contains a nested object, list or null; a value is a number, text, true, false or a list of these"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...'"


_NO_PLACE = "not a latitude from -90 to 90 and a longitude from -180 to 180"
_NOUNS = {"bool": "true or false", "integer": "a number", "float": "a number", "keyword": "text", "geo": "a place"}
# By type name in a header: the field type, the parser (which returns None for an invalid text), and the error message.
TYPES: dict[str, tuple[FieldType, Callable[[str], Any], str]] = {
    "int": ("integer", _integer, "not a 64-bit integer"),
    "float": ("float", _number, "not a number"),
    "bool": ("bool", _bool, "neither true nor false"),
    "date": ("datetime", parse_date, "not an ISO 8601 date such as 2024-05-31"),
    "geo": ("geo", _place, _NO_PLACE),
    "keyword": ("keyword", str, ""),
    "text": ("text", str, ""),
    "list": ("keyword", str, ""),
}
