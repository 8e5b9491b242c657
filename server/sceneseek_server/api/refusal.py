"""What a model refused, as one sentence that a client can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sceneseek.errors import InvalidRequest, one_line


def refusal(error: ValidationError, hints: Mapping[str, str], kinds: Mapping[str, str], example: str) -> InvalidRequest:
    """The first thing that was wrong.

    Args:
        error: what pydantic found.
        hints: by field, what to do.
        kinds: by field, what its values are, where they are no whole numbers.
        example: what to do if the body is no such object.
    """
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        if first["type"] == "json_invalid":
            return InvalidRequest(f"the body is not JSON ({first['ctx']['error']})", example)
        return InvalidRequest("the body is not a JSON object", example)
    if first["type"] == "extra_forbidden":
        where = _place(first["loc"])
        return InvalidRequest(f"the field {shown(where)} is unknown", f"the fields are {', '.join(hints)}")
    # Behind the field pydantic names the branch of a union, which is none of the client's business.
    known = [number for number, part in enumerate(first["loc"]) if part in hints]
    location = first["loc"][: known[-1] + 1] if known else first["loc"]
    name = str(location[-1])
    sentence = _sentence(_place(location), kinds.get(name, "a whole number"), first)
    return InvalidRequest(sentence, hints.get(name, example))


def shown(value: Any, quote: str = "'") -> str:
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


def _place(location: tuple[int | str, ...]) -> str:
    """``queries[3].k``."""
    place = ""
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
    return place


def _sentence(where: str, kind: str, error: ErrorDetails) -> str:
    fault, value = error["type"], error["input"]
    if fault == "missing":
        return f"the field {where} is missing"
    if fault in ("greater_than_equal", "less_than_equal", "less_than", "finite_number"):
        return f"{where} is {shown(value, quote='')}"
    if fault in ("too_short", "too_long"):
        return f"{where} has {error['ctx']['actual_length'] if fault == 'too_short' else 'too many'} entries"
    return f"{where} is {shown(value)}, which is not {kind}"
