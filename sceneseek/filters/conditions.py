"""The conditions of a filter, the validation of their values, and the paths of fields in the payload.

The functions from `equals` to `contains_text` validate values and build a condition. Their argument `written` is the
condition as the user wrote it, which the error quotes.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sceneseek.containers import RAW_EXTENSIONS
from sceneseek.errors import InvalidRequest, one_line
from sceneseek.payload import PAYLOAD_FIELDS, composed
from sceneseek.text_tokens import tokens_of_word, words

MAX_CONDITIONS = 256
WORD_EXAMPLES = 'such as year>=1990, tags=dog|cat, path^=animals/, place@48.86,2.35,5km, text:open or {"any": [...]}'
JSON_EXAMPLE = (
    'such as {"field": "year", "gte": 1990}; keys: equals, any_of, gt, gte, lt, lte, near, within, path_prefix, words, '
    "and all, any, not to combine"
)
# Engines compare ranges as 64-bit floats; larger whole numbers need exact matches.
_EXACT = 2**53

# File extensions that differ from the name of their format.
_FORMATS = {
    **dict.fromkeys(("jpg", "jpe", "jfif", "mpo"), "JPEG"),
    "tif": "TIFF",
    **dict.fromkeys(("heic", "hif"), "HEIF"),
    **dict.fromkeys((ending.removeprefix(".") for ending in RAW_EXTENSIONS), "RAW"),
}

FieldPath: TypeAlias = tuple[str, ...]
# The tokens of the text in a picture (OCR).
TEXT_TOKENS: FieldPath = ("ocr", "tokens")


@dataclass(frozen=True, slots=True)
class Equals:
    """The field is this text, boolean or (very large) integer."""

    field: FieldPath
    value: str | bool | int


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field is one of these texts."""

    field: FieldPath
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The field is a number within these bounds; equal bounds mean equality."""

    field: FieldPath
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class DateRange:
    """The field is an ISO 8601 date or time within these bounds."""

    field: FieldPath
    gt: datetime | None = None
    gte: datetime | None = None
    lt: datetime | None = None
    lte: datetime | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """The field is a place, an object of `lat` and `lon` in degrees, within `meters` of this place."""

    field: FieldPath
    lat: float
    lon: float
    meters: float


@dataclass(frozen=True, slots=True)
class Within:
    """The field is a place inside this box; if west is greater than east, the box crosses the date line."""

    field: FieldPath
    north: float
    west: float
    south: float
    east: float


@dataclass(frozen=True, slots=True)
class InFolder:
    """The image is in this folder of its source, at any depth."""

    folder: str


@dataclass(frozen=True, slots=True)
class All:
    """All parts are true; there is at least one."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyPart:
    """At least one part is true."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part is false."""

    part: Filter


@dataclass(frozen=True, slots=True)
class HasValue:
    """The field has a value of any type. Internal: not part of the filter syntax."""

    field: FieldPath


Condition: TypeAlias = Equals | AnyOf | NumberRange | DateRange | Near | Within | HasValue
Filter: TypeAlias = Condition | InFolder | All | AnyPart | Not


# No backslash: the path syntax of the engines has none, quoted or not.
_SEGMENT = r'("[^"\\]+"|[^."\\]+)'
# A field name in a filter, as a regular expression that is also valid in JSON Schema.
FIELD_NAME = rf"^{_SEGMENT}(\.{_SEGMENT})*$"


def field_path(name: str) -> FieldPath:
    """The path of a field in the payload, from its name in a filter.

    Raises:
        InvalidRequest: it is not a valid name.
    """
    if not re.fullmatch(FIELD_NAME, name):
        raise InvalidRequest(
            f"{quoted(name)} is not a field name", 'write it as in the metadata, and quote it if it has dots: "a.b"'
        )
    path = tuple(segment.strip('"') for segment in re.findall(_SEGMENT, composed(name)))
    return path if path[0] in PAYLOAD_FIELDS else ("metadata", *path)


def json_path(path: FieldPath) -> str:
    """The path in the syntax of the engines."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_]+", part) else f'"{part}"' for part in path)


def typed(where: Filter, indexed: Mapping[FieldPath, str]) -> Filter:
    """Adapt a filter to fields with payload indexes of these types.

    An index of numbers compares a date as its number of microseconds, and vice versa, so such conditions are replaced
    by one that matches nothing.
    """
    if isinstance(where, All | AnyPart):
        return replace(where, parts=tuple(typed(part, indexed) for part in where.parts))
    if isinstance(where, Not):
        return Not(typed(where.part, indexed))
    if isinstance(where, DateRange) and indexed.get(where.field) in ("integer", "float"):
        return All((where, Not(where)))
    if isinstance(where, NumberRange) and indexed.get(where.field) == "datetime":
        return All((where, Not(where)))
    return where


def check_size(where: Filter) -> Filter:
    """Return the filter if it has at most `MAX_CONDITIONS` conditions.

    Raises:
        InvalidRequest: it has more.
    """
    if (size := _size(where)) > MAX_CONDITIONS:
        raise InvalidRequest(f"the filter has {size:,} conditions", f"use at most {MAX_CONDITIONS}")
    return where


def conditions_of(where: Filter) -> Iterator[Condition]:
    """Yield the conditions on fields of a filter."""
    if isinstance(where, All | AnyPart):
        for part in where.parts:
            yield from conditions_of(part)
    elif isinstance(where, Not):
        yield from conditions_of(where.part)
    elif not isinstance(where, InFolder):
        yield where


def _size(where: Filter) -> int:
    if isinstance(where, All | AnyPart):
        return sum(_size(part) for part in where.parts)
    if isinstance(where, Not):
        return _size(where.part)
    return len(where.values) if isinstance(where, AnyOf) else 1


def any_part(parts: Sequence[Filter]) -> Filter:
    """At least one of these parts is true."""
    flat = tuple(inner for part in parts for inner in (part.parts if isinstance(part, AnyPart) else (part,)))
    return flat[0] if len(flat) == 1 else AnyPart(flat)


def equals(path: FieldPath, value: Any, written: Any) -> Filter:
    """The field is this text, boolean or number."""
    if isinstance(value, str):
        return any_of(path, [value], written)
    if isinstance(value, bool):
        return Equals(path, value)
    number = _number(value, written)
    if isinstance(number, int) and abs(number) > _EXACT:
        return Equals(path, number)
    return NumberRange(path, gte=float(number), lte=float(number))


def any_of(path: FieldPath, values: Any, written: Any) -> Filter:
    """The field is one of these values."""
    if not isinstance(values, list) or not values:
        raise invalid(written, "has no list of values")
    texts = _spellings(path, [value for value in values if isinstance(value, str)])
    parts = [equals(path, value, written) for value in values if not isinstance(value, str)]
    if texts:
        parts.insert(0, AnyOf(path, texts) if len(texts) > 1 else Equals(path, texts[0]))
    return any_part(parts)


def _spellings(path: FieldPath, texts: Sequence[str]) -> tuple[str, ...]:
    """The spellings of these texts in the index: composed; paths also as their file system wrote them."""
    if path == ("format",):
        extensions = [text.lower().removeprefix(".") for text in texts]
        texts = [_FORMATS.get(extension, extension.upper()) for extension in extensions]
    spellings = [composed(text) for text in texts]
    if path == ("path",):
        spellings += [*texts, *(unicodedata.normalize("NFD", text) for text in texts)]
    return tuple(dict.fromkeys(spellings))


def value_range(path: FieldPath, bounds: Mapping[str, Any], written: Any) -> Filter:
    """The field is within these bounds: all numbers or all dates, at most one on each side."""
    if {"gt", "gte"} <= bounds.keys() or {"lt", "lte"} <= bounds.keys():
        raise invalid(written, "has two bounds on one side")
    if all(isinstance(bound, str) for bound in bounds.values()):
        return _date_range(path, bounds, written)
    if any(isinstance(bound, str) for bound in bounds.values()):
        raise invalid(written, "has numbers and dates in one range")
    return NumberRange(path, **{key: float(_number(bound, written)) for key, bound in bounds.items()})


def _date_range(path: FieldPath, bounds: Mapping[str, str], written: Any) -> DateRange:
    limits: dict[str, datetime] = {}
    for key, text in bounds.items():
        span = span_of(text)
        if span is None:
            raise invalid(written, f"has {quoted(text)}, which is not a date such as 2019-05-31 or May 2019")
        start, end = span
        if key in ("gte", "lt") or start == end:
            limits[key] = start
        else:
            # "After a day" means from the next day on; "up to a day" means before the next day.
            limits["gte" if key == "gt" else "lt"] = end
    return DateRange(path, **limits)


def near(path: FieldPath, value: Any, written: Any) -> Filter:
    """The field is a place less than `meters` from `lat` and `lon`."""
    if not isinstance(value, dict) or set(value) != {"lat", "lon", "meters"}:
        raise invalid(written, "has no lat, lon and meters")
    meters = float(_number(value["meters"], written))
    if meters <= 0:
        raise invalid(written, "has a distance that is not positive")
    return Near(path, _degrees(value["lat"], 90, written), _degrees(value["lon"], 180, written), meters)


def within(path: FieldPath, value: Any, written: Any) -> Filter:
    """The field is a place in the box of `north`, `west`, `south` and `east`."""
    if not isinstance(value, dict) or set(value) != {"north", "west", "south", "east"}:
        raise invalid(written, "has no north, west, south and east")
    north, south = (_degrees(value[side], 90, written) for side in ("north", "south"))
    west, east = (_degrees(value[side], 180, written) for side in ("west", "east"))
    if north <= south:
        raise invalid(written, "has its north below its south")
    return Within(path, north, west, south, east)


def in_folder(value: Any, written: Any) -> InFolder:
    """The image is in this folder."""
    folder = posixpath.normpath(value).strip("/") if isinstance(value, str) and value else ""
    if not folder:
        raise invalid(written, "names no folder")
    return InFolder(composed(folder))


def contains_text(value: Any, written: Any) -> Filter:
    """The text in the picture contains all of these words, as whole words; a value without words matches nothing."""
    if not isinstance(value, str):
        raise invalid(written, "has words that are not a text")
    every = dict.fromkeys(token for word in words(value) for token in tokens_of_word(word))
    return All(tuple(Equals(TEXT_TOKENS, token) for token in every or [value]))


def _number(value: Any, written: Any) -> int | float:
    """Check that a value is a finite number; integers of more than 64 bits become floats, as in the engines."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(written, f"has {quoted(value)}, which is not a number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        try:
            return float(value)
        except OverflowError:
            raise invalid(written, "has a number of too many digits") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(written, "has a number that is not finite")
    return value


def _degrees(value: Any, limit: int, written: Any) -> float:
    degrees = float(_number(value, written))
    if abs(degrees) > limit:
        raise invalid(written, f"has {degrees:g} degrees, beyond {limit}")
    return degrees


_NAMES_OF_MONTHS = (
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "янв фев мар апр май июн июл авг сен окт ноя дек",
)
_MONTHS = {name: number for names in _NAMES_OF_MONTHS for number, name in enumerate(names.split(), 1)} | {"мая": 5}
_DAY, _MONTH, _YEAR = r"(?P<day>\d{1,2})", r"(?P<month>\d{1,2})", r"(?P<year>\d{4})"
_NAME = r"(?P<name>[^\W\d_]{3,})\.?"
# Common notations of dates. Not a day and a month separated by a slash, whose order is ambiguous.
_WRITTEN = re.compile(
    "|".join(
        re.sub(r"\?P<(\w+)>", rf"?P<\1_{number}>", form)
        for number, form in enumerate(
            (
                rf"{_YEAR}[./]{_MONTH}(?:[./]{_DAY})?",
                rf"(?:{_DAY}\.)?{_MONTH}\.{_YEAR}",
                rf"{_MONTH}/{_YEAR}",
                rf"(?:{_DAY}\.? )?{_NAME} {_YEAR}",
                rf"{_NAME} {_DAY}, ?{_YEAR}",
            )
        )
    )
)


def _iso(text: str) -> str:
    """Convert a date in a common notation to ISO 8601; return any other text unchanged."""
    found = _WRITTEN.fullmatch(" ".join(text.lower().split()))
    if found is None:
        return text
    parts = {name.partition("_")[0]: value for name, value in found.groupdict().items() if value}
    month = _MONTHS.get(parts["name"][:3], 0) if "name" in parts else int(parts["month"])
    day = f"-{int(parts['day']):02}" if "day" in parts else ""
    return f"{parts['year']}-{month:02}{day}"


def span_of(text: str) -> tuple[datetime, datetime] | None:
    """The first instant of a date and the first one after it, equal if it has a time of day; None if it is not a date.

    Args:
        text: ISO 8601, also a year or a month alone; or a common notation: 31.5.2019, 5/2019, May 2019, 31 May 2019.
    """
    text = _iso(text)
    try:
        if match := re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", text, re.ASCII):
            year, month, day = match.groups()
            start = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
            if day:
                return start, start + timedelta(days=1)
            if month:
                return start, datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
            return start, datetime(start.year + 1, 1, 1, tzinfo=UTC)
        if not re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text, re.ASCII):
            return None
        instant = datetime.fromisoformat(text)
        instant = (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant, instant


def invalid(written: Any, what: str) -> InvalidRequest:
    """The error for a condition as the user wrote it; `what` is the rest of the sentence."""
    hint = WORD_EXAMPLES if isinstance(written, str) else JSON_EXAMPLE
    return InvalidRequest(f"the condition {quoted(written)} {what}", hint)


def quoted(value: Any) -> str:
    """A user's value for a message: at most 80 characters on one line."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    text = one_line(text)
    return repr(text) if len(text) <= 80 else repr(text[:77] + "...")
