"""Conditions on what the index knows of an image: which candidates a search may find at all.

A filter is a tree of frozen dataclasses. It is read from JSON (`filter_from_json`, for HTTP) or from short
words (`filter_from_words`, for the command line), and each engine translates it into its own objects.

A field is named as in the payload (`path`, `format`, `width`, `height`, `bytes`, `indexed_at`, ...); any
other name is a field of the user's metadata: `year` is `metadata.year`. Dots lead into objects; a name that
has dots or operators of its own is quoted: `"f.number"`. Where a value is a list, one of its members must
satisfy the condition; where it is missing or of another kind, the condition does not hold (and `not` of
it does).

Folders are matched whole, by the payload's `folders`, which lists every folder above an image, so that a keyword
index serves them: `animals` finds `animals/dogs/rex.jpg` and not `animals-old/rex.jpg`. Arbitrary string
prefixes are not offered, since older servers could only scan for them.

Dates are ISO 8601, UTC where no offset is given. One with less than a time of day (`2024`, `2024-05`,
`2024-05-31`) is the whole span: `<= 2024-05` includes the last of May.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sceneseek.errors import InvalidRequest, one_line

FieldPath: TypeAlias = tuple[str, ...]

MAX_CONDITIONS = 256
MAX_DEPTH = 8
# The index's own fields; every other name is one of the user's metadata.
OWN_FIELDS = frozenset(
    {"path", "folders", "source", "sha256", "width", "height", "format", "bytes", "mtime_ns", "indexed_at", "metadata"}
)
# Engines compare ranges as 64-bit floats; whole numbers beyond are matched one by one.
_EXACT = 2**53
_SECOND_ARGUMENT = ("gt", "gte", "lt", "lte")
_EXAMPLES = 'such as year>=1990, tags=dog|cat, path^=animals/, place@48.86,2.35,5km or {"any": [...]}'
_JSON_EXAMPLE = (
    'such as {"field": "year", "gte": 1990}; keys: equals, any_of, gt, gte, lt, lte, near, within, path_prefix, '
    "and all, any, not to combine"
)


@dataclass(frozen=True, slots=True)
class Equals:
    """The field is this text, truth value or (very large) whole number."""

    field: FieldPath
    value: str | bool | int


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field is one of these texts."""

    field: FieldPath
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The field is a number within these bounds; equal bounds are equality."""

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
    """The field is a place, an object of `lat` and `lon` in degrees, less than so many metres from this one."""

    field: FieldPath
    lat: float
    lon: float
    meters: float


@dataclass(frozen=True, slots=True)
class Within:
    """The field is a place inside this box; a west greater than the east crosses the date line."""

    field: FieldPath
    north: float
    west: float
    south: float
    east: float


@dataclass(frozen=True, slots=True)
class InFolder:
    """The image lies in this folder of its source, at any depth."""

    folder: str


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; there is at least one."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyPart:
    """One part holds; there is at least one."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter: TypeAlias = Equals | AnyOf | NumberRange | DateRange | Near | Within | InFolder | All | AnyPart | Not


def field_path(name: str) -> FieldPath:
    """A field's place in the payload, from the name a person writes.

    Raises:
        InvalidRequest: it names no field.
    """
    parts = re.findall(r'"([^"]*)"|([^."]+)|(\.)|(")', name)
    segments = [quoted or plain for quoted, plain, dot, stray in parts if not dot and not stray]
    dots = sum(1 for part in parts if part[2])
    if any(part[3] for part in parts) or not segments or "" in segments or dots != len(segments) - 1:
        raise InvalidRequest(
            f"{_shown(name)} names no field", 'write it as in the metadata, in quotes where it has dots: "a.b"'
        )
    path = tuple(segments)
    return path if path[0] in OWN_FIELDS else ("metadata", *path)


def json_path(path: FieldPath) -> str:
    """The path as both engines write it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_]+", part) else f'"{part}"' for part in path)


def filter_from_json(document: Any) -> Filter:
    """A filter from JSON values.

    Raises:
        InvalidRequest: the first condition that cannot be understood, named.
    """
    return _limited(_read(document, 1))


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
    return _limited(parts[0] if len(parts) == 1 else All(parts))


def typed(where: Filter, indexed: Mapping[FieldPath, str]) -> Filter:
    """The filter as engines must be asked where fields have indexes of these types.

    An index of numbers takes a date for the number of its microseconds, and one of dates the reverse; such a
    condition holds of nothing.
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


def _limited(where: Filter) -> Filter:
    if (count := _count(where)) > MAX_CONDITIONS:
        raise InvalidRequest(f"the filter has {count:,} conditions", f"at most {MAX_CONDITIONS} are searched")
    return where


def _count(where: Filter) -> int:
    if isinstance(where, All | AnyPart):
        return sum(_count(part) for part in where.parts)
    if isinstance(where, Not):
        return _count(where.part)
    return len(where.values) if isinstance(where, AnyOf) else 1


# JSON


def _read(document: Any, depth: int) -> Filter:
    if not isinstance(document, dict) or not document:
        raise InvalidRequest(f"the condition {_shown(document)} is not an object", _JSON_EXAMPLE)
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"the filter is nested deeper than {MAX_DEPTH} levels", "write it flatter")
    for name, combine in (("all", All), ("any", AnyPart)):
        if name in document:
            parts = document[name]
            if len(document) > 1 or not isinstance(parts, list) or not parts:
                raise _refused(document, f"does not have {name} and a list of conditions alone")
            return combine(tuple(_read(part, depth + 1) for part in parts))
    if "not" in document:
        if len(document) > 1:
            raise _refused(document, "has more than not")
        return Not(_read(document["not"], depth + 1))
    return _condition(document)


def _condition(document: dict[str, Any]) -> Filter:
    if "path_prefix" in document:
        if set(document) - {"field", "path_prefix"} or document.get("field", "path") != "path":
            raise _refused(document, "has more than path_prefix")
        return _folder(document["path_prefix"], document)
    name = document.get("field")
    if not isinstance(name, str):
        raise _refused(document, "names no field")
    path = field_path(name)
    keys = set(document) - {"field"}
    if keys and keys <= set(_SECOND_ARGUMENT):
        return _range(path, {key: document[key] for key in keys}, document)
    readers: dict[str, Callable[[FieldPath, Any, dict[str, Any]], Filter]] = {
        "equals": _equals,
        "any_of": _any_of,
        "near": _near,
        "within": _within,
    }
    if len(keys) != 1 or (key := keys.pop()) not in readers:
        raise _refused(document, "does not have one condition that is known")
    return readers[key](path, document[key], document)


def _equals(path: FieldPath, value: Any, shown: Any) -> Filter:
    if isinstance(value, str | bool):
        return Equals(path, value)
    number = _number(value, shown)
    if isinstance(number, int) and abs(number) > _EXACT:
        return Equals(path, number)
    return NumberRange(path, gte=float(number), lte=float(number))


def _any_of(path: FieldPath, values: Any, shown: Any) -> Filter:
    if not isinstance(values, list) or not values:
        raise _refused(shown, "has no list of values")
    texts = tuple(value for value in values if isinstance(value, str))
    parts = [_equals(path, value, shown) for value in values if not isinstance(value, str)]
    if texts:
        parts.insert(0, AnyOf(path, texts))
    return parts[0] if len(parts) == 1 else AnyPart(tuple(parts))


def _range(path: FieldPath, bounds: dict[str, Any], shown: Any) -> Filter:
    if all(isinstance(bound, str) for bound in bounds.values()):
        return _dates(path, bounds, shown)
    if any(isinstance(bound, str) for bound in bounds.values()):
        raise _refused(shown, "has numbers and dates in one range")
    return NumberRange(path, **{key: float(_number(bound, shown)) for key, bound in bounds.items()})


def _dates(path: FieldPath, bounds: dict[str, str], shown: Any) -> DateRange:
    limits: dict[str, datetime] = {}
    for key, text in bounds.items():
        span = _span(text)
        if span is None:
            raise _refused(shown, f"has {_shown(text)}, which is no ISO 8601 date")
        start, end = span
        if key in ("gte", "lt") or start == end:
            limits[key] = start
        else:
            # After a whole day is from the next one on; up to a whole day is before the next one.
            limits["gte" if key == "gt" else "lt"] = end
    if len(limits) < len(bounds):
        raise _refused(shown, "has two bounds on one side")
    return DateRange(path, **limits)


def _near(path: FieldPath, value: Any, shown: Any) -> Filter:
    if not isinstance(value, dict) or set(value) != {"lat", "lon", "meters"}:
        raise _refused(shown, "has no lat, lon and meters")
    meters = float(_number(value["meters"], shown))
    if meters <= 0:
        raise _refused(shown, "has no distance above zero")
    return Near(path, _degrees(value["lat"], 90, shown), _degrees(value["lon"], 180, shown), meters)


def _within(path: FieldPath, value: Any, shown: Any) -> Filter:
    if not isinstance(value, dict) or set(value) != {"north", "west", "south", "east"}:
        raise _refused(shown, "has no north, west, south and east")
    north, south = (_degrees(value[side], 90, shown) for side in ("north", "south"))
    west, east = (_degrees(value[side], 180, shown) for side in ("west", "east"))
    if north <= south:
        raise _refused(shown, "has its north below its south")
    return Within(path, north, west, south, east)


def _folder(value: Any, shown: Any) -> InFolder:
    folder = value.strip("/") if isinstance(value, str) else ""
    if not folder:
        raise _refused(shown, "names no folder")
    return InFolder(folder)


def _number(value: Any, shown: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(shown, f"has {_shown(value)}, which is not a number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _refused(shown, "has a number of too many digits")
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(shown, "has a number that is not finite")
    return value


def _degrees(value: Any, limit: int, shown: Any) -> float:
    degrees = float(_number(value, shown))
    if abs(degrees) > limit:
        raise _refused(shown, f"has {degrees:g} degrees, beyond {limit}")
    return degrees


def _span(text: str) -> tuple[datetime, datetime] | None:
    """The first instant of a date and the first after it; twice the same for a time of day. None: no date."""
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


# Words

_WORD = re.compile(r'((?:"[^"]*"|[^=<>!^@"])+)(\^=|!=|>=|<=|=|>|<|@)(.*)', re.DOTALL)
_BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _word(word: str) -> Filter:
    if word.startswith("{"):
        try:
            document = json.loads(word)
        except (ValueError, RecursionError):
            raise InvalidRequest(f"the condition {_shown(word)} is not JSON", _JSON_EXAMPLE) from None
        return _read(document, 1)
    match = _WORD.fullmatch(word)
    if match is None:
        raise InvalidRequest(f"the condition {_shown(word)} has no comparison", _EXAMPLES)
    name, operator, value = match[1].strip(), match[2], match[3].strip()
    if operator == "^=":
        if name != "path":
            raise _refused(word, "asks for a folder of another field than path")
        return _folder(_unquoted(value), word)
    path = field_path(name)
    if not value:
        raise _refused(word, "has no value")
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
        raise _refused(word, "has a value that is empty or quoted by half")
    return parts


def _readings(path: FieldPath, text: str, word: str) -> Sequence[Filter]:
    """The conditions that one bare value may mean."""
    if text.startswith('"'):
        return [Equals(path, _unquoted(text))]
    readings: list[Filter] = [Equals(path, text)]
    if text in ("true", "false"):
        readings.append(Equals(path, text == "true"))
    elif (number := _spelt_number(text)) is not None:
        readings.append(_equals(path, number, word))
    elif span := _span(text):
        start, end = span
        readings.append(DateRange(path, gte=start, lte=start) if start == end else DateRange(path, gte=start, lt=end))
    return readings


def _bound(path: FieldPath, key: str, value: str, word: str) -> Filter:
    """A year is a number and a date: the field's own kind decides."""
    readings: list[Filter] = []
    if (number := _spelt_number(value)) is not None:
        readings.append(NumberRange(path, **{key: float(_number(number, word))}))
    if _span(_unquoted(value)):
        readings.append(_dates(path, {key: _unquoted(value)}, word))
    if not readings:
        raise _refused(word, "compares with what is neither a number nor an ISO 8601 date")
    return readings[0] if len(readings) == 1 else AnyPart(tuple(readings))


def _place(path: FieldPath, value: str, word: str) -> Filter:
    number = r"\s*([+-]?\d+(?:\.\d+)?)\s*"
    if match := re.fullmatch(rf"{number},{number},{number}(km|m)", value, re.ASCII):
        lat, lon, distance = (float(text) for text in match.groups()[:3])
        return _near(path, {"lat": lat, "lon": lon, "meters": distance * (1000 if match[4] == "km" else 1)}, word)
    if match := re.fullmatch(rf"{number},{number}\.\.{number},{number}", value, re.ASCII):
        sides = dict(zip(("north", "west", "south", "east"), map(float, match.groups()), strict=True))
        return _within(path, sides, word)
    raise _refused(word, "is neither LAT,LON,5km nor NORTH,WEST..SOUTH,EAST")


def _spelt_number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text) or len(text) > 40:
        return None
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _refused(shown: Any, what: str) -> InvalidRequest:
    hint = _EXAMPLES if isinstance(shown, str) else _JSON_EXAMPLE
    return InvalidRequest(f"the condition {_shown(shown)} {what}", hint)


def _shown(value: Any) -> str:
    """A client's value in a sentence: short and on one line."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    text = one_line(text)
    return repr(text) if len(text) <= 80 else repr(text[:77] + "...")
