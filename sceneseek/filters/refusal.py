"""How a condition that cannot be understood is refused: named, short and on one line, with an example."""

from __future__ import annotations

import json
from typing import Any

from sceneseek.errors import InvalidRequest, one_line

WORD_EXAMPLES = 'such as year>=1990, tags=dog|cat, path^=animals/, place@48.86,2.35,5km or {"any": [...]}'
JSON_EXAMPLE = (
    'such as {"field": "year", "gte": 1990}; keys: equals, any_of, gt, gte, lt, lte, near, within, path_prefix, '
    "and all, any, not to combine"
)


def refused(shown: Any, what: str) -> InvalidRequest:
    """The error for a condition, as the user wrote it, and what is wrong with it."""
    hint = WORD_EXAMPLES if isinstance(shown, str) else JSON_EXAMPLE
    return InvalidRequest(f"the condition {shown_value(shown)} {what}", hint)


def shown_value(value: Any) -> str:
    """A client's value in a sentence: short and on one line."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    text = one_line(text)
    return repr(text) if len(text) <= 80 else repr(text[:77] + "...")
