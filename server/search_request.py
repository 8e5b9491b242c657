"""What a client may ask of `/v1/search`, in a query string or a JSON body, or one sentence why not."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.datastructures import MultiDict

from sceneseek.errors import InvalidRequest, one_line
from sceneseek.filters import Filter, filter_from_json, filter_from_words
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST, MAX_K, MAX_SHORTLIST

_EXAMPLE = "such as: a dog jumping over a log"
_HINTS = {
    "q": f"describe a scene in a few words, {_EXAMPLE}",
    "k": f"ask for 1 to {MAX_K:,} results",
    "shortlist": f"have 1 to {MAX_SHORTLIST:,} nearest neighbours scored",
    "filter": 'send a condition such as {"field": "year", "gte": 1990}',
    "keep_duplicates": "true shows near-duplicates of a better result too, false (the default) folds them into it",
}
_KINDS = {"q": "text", "keep_duplicates": "true or false"}
_BODY = 'send a JSON object such as {"q": "a dog jumping over a log", "k": 5}'


class SearchRequest(BaseModel):
    """One search.

    `q` is a scene in words, `k` how many results, `shortlist` how many candidates to score, `filter` a condition
    on them: a JSON object in a body, any number of short words in a query string; see `sceneseek.filters`.
    `keep_duplicates` shows near-duplicates of a better result too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    q: str
    k: Annotated[int, Field(ge=1, le=MAX_K)] = DEFAULT_K
    shortlist: Annotated[int, Field(ge=1, le=MAX_SHORTLIST)] = DEFAULT_SHORTLIST
    keep_duplicates: bool = False
    filter: dict[str, Any] | tuple[str, ...] | None = None

    def where(self) -> Filter | None:
        """The filter.

        Raises:
            InvalidRequest: it has a condition that cannot be understood.
        """
        if isinstance(self.filter, tuple):
            return filter_from_words(self.filter)
        return None if self.filter is None else filter_from_json(self.filter)

    @classmethod
    def from_arguments(cls, arguments: MultiDict[str, str]) -> SearchRequest:
        """A request in a query string; a field but `q` left empty, as forms send it, is not given.

        Raises:
            InvalidRequest: a field is missing, unknown, given twice, or no number in its range.
        """
        fields: dict[str, Any] = {}
        for name, values in arguments.lists():
            if name == "filter":
                fields[name] = tuple(value for value in values if value)
                continue
            if len(values) > 1:
                raise InvalidRequest(f"{_shown(name, '')} is given {len(values)} times", "give it once")
            if values[0] or name not in ("k", "shortlist", "keep_duplicates"):
                fields[name] = values[0]
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise _refusal(error) from None

    @classmethod
    def from_json(cls, body: bytes) -> SearchRequest:
        """A request in a JSON body, where a number is a number.

        Raises:
            InvalidRequest: as `from_arguments`, or the body is not a JSON object.
        """
        try:
            return cls.model_validate_json(body, strict=True)
        except ValidationError as error:
            raise _refusal(error) from None


def _refusal(error: ValidationError) -> InvalidRequest:
    """The first thing that was wrong, as a sentence."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        if first["type"] == "json_invalid":
            return InvalidRequest(f"the body is not JSON ({first['ctx']['error']})", _BODY)
        return InvalidRequest("the body is not a JSON object", _BODY)
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return InvalidRequest(f"the field {_shown(name)} is unknown", f"the fields are {', '.join(_HINTS)}")
    return InvalidRequest(_sentence(name, first), _HINTS[name])


def _sentence(name: str, error: ErrorDetails) -> str:
    kind = error["type"]
    if kind == "missing":
        return f"the field {name} is missing"
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"{name} is {_shown(error['input'], quote='')}"
    value = _shown(error["input"])
    if name == "filter":
        return f"filter is {value}, which is not an object"
    return f"{name} is {value}, which is not {_KINDS.get(name, 'a whole number')}"


def _shown(value: Any, quote: str = "'") -> str:
    """A client's value in a sentence: short, on one line, and not spelt out where it could be huge."""
    if isinstance(value, str):
        text = one_line(value)
        return f"{quote}{text if len(text) <= 40 else text[:37] + '...'}{quote}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        # Python refuses to spell out an integer of thousands of digits.
        return str(value) if value.bit_length() <= 64 else "a number of very many digits"
    if isinstance(value, float):
        return str(value)
    return "an object" if isinstance(value, dict) else "a list"
