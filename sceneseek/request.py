"""Limits and defaults of a search, normalization of query texts, and messages of validation errors.

Light enough for the command line: it does not import pydantic at run time.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from typing import TYPE_CHECKING, Any

from sceneseek.errors import InvalidRequest, one_line

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

MAX_QUERY_CHARACTERS = 1_000
MAX_K = 1_000
MAX_SHORTLIST = 10_000
DEFAULT_K = 5
DEFAULT_SHORTLIST = 100
# Minimum shortlist of a search that sorts by a field; its results come from the shortlist only.
SORTED_SHORTLIST = 1_000
# Weight of a text combined with an image. Text-to-image similarities spread a little less than image-to-image ones
# (standard deviations of 0.113 and 0.130 over a thousand photographs); this weight balances the two.
DEFAULT_TEXT_WEIGHT = 0.55
# Ratings. 1: no match, 4: full match.
LOWEST, HIGHEST = 1, 4

# The type of a pydantic error that wraps an `InvalidRequest`.
REFUSED = "refused"
# Types of fields, for messages; fields not listed are whole numbers.
_KINDS = {
    **dict.fromkeys(("q", "query"), "text"),
    **dict.fromkeys(("rater", "key"), "a short text"),
    **dict.fromkeys(("text_weight", "min_score", "weight"), "a number"),
    **dict.fromkeys(("model", "encoding_format", "user"), "a text"),
    "input": "a text or a list of texts",
    "vector": "a list of numbers or base64",
    "terms": "a list of terms",
    "text": "text",
    **dict.fromkeys(("keep_duplicates", "explain"), "true or false"),
    "image": "an id",
    **dict.fromkeys(("images", "id"), "a list of ids"),
    "filter": "an object",
    "sort": "a field",
    "queries": "a list",
}
# Types of the entries of lists, for messages.
_ENTRIES = {"terms": "a term", "input": "a text"}
# The tags of a union of a single value and a list; pydantic includes them in error locations.
ONE, SEVERAL = "one", "several"
_TERM_FIELDS = frozenset({"text", "image", "file", "vector", "weight"})


def checked_query(text: str) -> str:
    """The query with runs of white space collapsed, normalized to Unicode NFC.

    Raises:
        InvalidRequest: the query is blank, is too long, or contains control characters.
    """
    advice = "describe a scene in a few words, such as: a dog jumping over a log"
    if len(text) > MAX_QUERY_CHARACTERS:
        raise InvalidRequest(f"the query has {len(text):,} characters, the limit is {MAX_QUERY_CHARACTERS:,}", advice)
    query = " ".join(unicodedata.normalize("NFC", text).split())
    if not query:
        raise InvalidRequest("the query is empty", advice)
    for character in query:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidRequest(
                f"the query contains the control character U+{ord(character):04X}", "remove it and search again"
            )
    return query


def refusal(error: ValidationError, kind: Any) -> InvalidRequest:
    """The first of pydantic's validation errors as an `InvalidRequest`.

    Args:
        error: raised by pydantic.
        kind: class of the request, with `HINTS` (by field) and `EXAMPLE`.
    """
    hints, example = kind.HINTS, kind.EXAMPLE
    first = error.errors(include_url=False)[0]
    location = first["loc"]
    if location and isinstance(location[0], int):  # a positional argument of a request constructed in Python
        location = (dataclasses.fields(kind)[location[0]].name, *location[1:])
    if "terms" not in location:
        location = tuple("q" if part == "text" else part for part in location if part not in (ONE, SEVERAL))
    if first["type"] == REFUSED:
        within = f"{place(location[:2])}: " if len(location) > 1 and location[0] in ("queries", "input") else ""
        return InvalidRequest(within + first["ctx"]["what"], first["ctx"]["hint"])
    if not location:
        if first["type"] == "json_invalid":
            return InvalidRequest(f"the body is not JSON ({first['ctx']['error']})", example)
        return InvalidRequest("the body is not a JSON object", example)
    if first["type"] == "unexpected_keyword_argument":
        where = place(first["loc"])
        fields = ", ".join(sorted(_TERM_FIELDS) if "terms" in first["loc"] else hints)
        return InvalidRequest(f"the field {shown(where)} is unknown", f"the fields are {fields}")
    # After the field, pydantic names the branch of a union, which means nothing to clients.
    within_term = "terms" in location
    known = [number for number, part in enumerate(location) if part in hints or (within_term and part in _TERM_FIELDS)]
    location = location[: known[-1] + 1 + (location[known[-1]] in _ENTRIES)] if known else location
    *_, name = (str(part) for part in location if not isinstance(part, int))
    of_entry = _ENTRIES.get(name) if isinstance(location[-1], int) else None
    kind = of_entry or _KINDS.get(name, "a term" if within_term else "a whole number")
    hint = hints["terms"] if within_term else hints.get(name, example)
    return InvalidRequest(_sentence(place(location), kind, first), hint)


def shown(value: Any, quote: str = "'") -> str:
    """A client's value for use in a message: shortened, on one line; huge values are only described."""
    if isinstance(value, str):
        text = one_line(value)
        return f"{quote}{text if len(text) <= 40 else text[:37] + '...'}{quote}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        # Python refuses to convert an integer of thousands of digits to text.
        return str(value) if value.bit_length() <= 64 else "a number with too many digits"
    if isinstance(value, float):
        return str(value)
    return "an object" if isinstance(value, dict) else "a list"


def place(location: tuple[int | str, ...]) -> str:
    """A pydantic error location as a path: ``queries[3].k``."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _sentence(where: str, kind: str, error: ErrorDetails) -> str:
    fault, value = error["type"], error["input"]
    if fault in ("missing", "missing_argument"):
        return f"the field {where} is missing"
    if fault in ("greater_than_equal", "less_than_equal", "less_than", "finite_number"):
        return f"{where} is {shown(value, quote='')}"
    if fault in ("too_short", "too_long"):
        return f"{where} has {error['ctx']['actual_length'] if fault == 'too_short' else 'too many'} entries"
    return f"{where} is {shown(value)}, which is not {kind}"
