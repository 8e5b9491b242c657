"""Hints that explain unexpected results of a query.

A text that reads like a negation finds what it negates: the text towers barely distinguish `not a dog` from `a dog`.
A filter on a field that no image has, or on a value of another type, finds nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from itertools import islice

from sceneseek.api import Hint
from sceneseek.filters.conditions import (
    TEXT_TOKENS,
    AnyOf,
    Condition,
    DateRange,
    Equals,
    FieldPath,
    Filter,
    Near,
    NumberRange,
    Within,
    conditions_of,
    field_path,
)
from sceneseek.payload import PAYLOAD_FIELDS
from sceneseek.store import CollectionInfo

_LONGEST_LIST = 200
# Maximum number of fields checked per filter: each check may scan every image.
_MAX_FIELDS = 8
# Words that exclude what follows them, in the languages of the search page; `no` only before a noun.
_NEGATION = re.compile(
    r"""(?<![-\w])(?:
        not\s(?!only\b) | without\s(?!(?:a\s)?doubt\b) | never\b | except\b | excluding\b | lacking\b
        | nobody\b | no[ -]one\b | (?:any|every)thing\sbut\b | all\sbut\b
        | other\sthan\b | rather\sthan\b | instead\sof\b | \w+n['\u2019]t\b
        | no\s(?!smoking|parking|entry|trespassing|man['\u2019]s)[^\W\d]
        | не\s(?!только\b) | без\s(?!сомнени) | кроме\b | вместо\b | за\sисключением\b
        | никого\b | никто\b | ничего\b | нет\b
    ) | (?:^|\s)[-!][^\W\d]""",  # noqa: RUF001 - Russian words
    re.IGNORECASE | re.VERBOSE,
)
# Text within a picture does not negate what the picture shows.
_WRITING = re.compile(
    r"""["“«].*["”»]|.*\b(?:signs?|posters?|banner|sticker|label|says|saying|reads|знак\w*|надпис\w+|плакат\w*)\b.*""",
    re.IGNORECASE,
)


def negation_hint(text: str) -> Hint | None:
    """The hint for an English or Russian text that reads like a negation; None for other texts."""
    if not _NEGATION.search(_WRITING.sub(" ", text)):
        return None
    return Hint(
        kind="negation",
        text="a search also finds what a negation excludes: use a negative term instead (--minus, terms)",
    )


def filter_hints(where: Filter, info: CollectionInfo, is_empty: Callable[[FieldPath], bool]) -> Iterator[Hint]:
    """Hints on the fields of a filter that finds nothing.

    Args:
        where: the filter.
        info: the collection.
        is_empty: returns whether no image has a value in a field.
    """
    names = {field_path(name): name for name in (*info.indexed, *PAYLOAD_FIELDS)}
    conditions: dict[FieldPath, list[Condition]] = {}
    for condition in conditions_of(where):
        conditions.setdefault(condition.field, []).append(condition)
    for path, compared in islice(conditions.items(), _MAX_FIELDS):
        name = names.get(path, ".".join(path[1:]))
        holds, fits = _TYPES[info.indexed.get(name, "keyword")]
        if is_empty(path):
            yield unknown_field(path, info)
        elif name in info.indexed and not any(map(fits, compared)):
            yield Hint(kind="other-type", text=f"the field {name} holds {holds}", field=name)


def unknown_field(path: FieldPath, info: CollectionInfo) -> Hint:
    """The hint for a field that no image has, with the most similar name among the existing fields."""
    if path == TEXT_TOKENS:
        return Hint(kind="unknown-field", text="no text was read in the images: index them with --ocr", field="text")
    names = {field_path(name): name for name in (*info.indexed, *PAYLOAD_FIELDS)}
    name = names.get(path, ".".join(path[1:]))
    others = {other.lower(): other for other in sorted(names.values()) if other != name}
    close = [others[other] for other in difflib.get_close_matches(name.lower(), others, 1)]
    advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(info.indexed)}"[:_LONGEST_LIST]
    return Hint(
        kind="unknown-field",
        text=f"no image has the field {name}" + ("" if name in info.indexed else f": {advice}"),
        field=name,
        nearest=close[0] if close else None,
    )


def _is_number(condition: Condition) -> bool:
    return isinstance(condition, NumberRange) or (isinstance(condition, Equals) and type(condition.value) is int)


def _is_text(condition: Condition) -> bool:
    return isinstance(condition, AnyOf) or (isinstance(condition, Equals) and isinstance(condition.value, str))


# By type of field: a description of its values, and whether a condition can hold for them.
_TYPES: dict[str, tuple[str, Callable[[Condition], bool]]] = {
    "keyword": ("text", _is_text),
    "integer": ("numbers", _is_number),
    "float": ("numbers", _is_number),
    "bool": ("true or false", lambda c: isinstance(c, Equals) and isinstance(c.value, bool)),
    "datetime": ("dates, such as 2024-05-31", lambda c: isinstance(c, DateRange)),
    "geo": ("places, to be compared as location@48.86,2.35,5km", lambda c: isinstance(c, Near | Within)),
}
