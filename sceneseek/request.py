"""The limits and defaults of a search, and the form in which texts are searched; light enough for the command line."""

from __future__ import annotations

import unicodedata

from sceneseek.errors import InvalidRequest

MAX_QUERY_CHARACTERS = 1_000
MAX_K = 1_000
MAX_SHORTLIST = 10_000
DEFAULT_K = 5
DEFAULT_SHORTLIST = 100
# Of a text beside an image. Similarities of texts to images spread a little less than those of images among each other
# (deviations of 0.113 and 0.130 over a thousand photographs), so that with this share neither drowns the other.
DEFAULT_TEXT_WEIGHT = 0.55


def checked_query(text: str) -> str:
    """The query with runs of white space made one space, in Unicode's composed form.

    Raises:
        InvalidRequest: empty, blank, too long, or with control characters.
    """
    advice = "describe a scene in a few words, such as: a dog jumping over a log"
    if len(text) > MAX_QUERY_CHARACTERS:
        raise InvalidRequest(
            f"the query has {len(text):,} characters, at most {MAX_QUERY_CHARACTERS:,} are searched", advice
        )
    query = " ".join(unicodedata.normalize("NFC", text).split())
    if not query:
        raise InvalidRequest("the query is empty", advice)
    for character in query:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidRequest(
                f"the query holds the control character U+{ord(character):04X}", "remove it and search again"
            )
    return query
