"""What a search may ask for, checked once for the command line and the service alike."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sceneseek.errors import InvalidRequest

if TYPE_CHECKING:
    from sceneseek.filters import Filter
    from sceneseek.picture import Picture

MAX_QUERY_CHARACTERS = 1_000
MAX_K = 1_000
MAX_SHORTLIST = 10_000
DEFAULT_K = 5
DEFAULT_SHORTLIST = 100
# Of a text beside an image. Similarities of texts to images spread a little less than those of images among each other
# (deviations of 0.113 and 0.130 over a thousand photographs), so that with this share neither drowns the other.
DEFAULT_TEXT_WEIGHT = 0.55


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One search: what is looked for, and which part of the answer is wanted.

    Attributes:
        text: a scene in words; brought into the form that is searched.
        image: what the results shall look like: the id of an indexed image, which is no result itself, or a picture.
        text_weight: the text's share, 0 to 1, where there is an image too.
        k: how many results, 1 to `MAX_K`.
        offset: how many results of the same query come before them, less than `MAX_SHORTLIST`, where every answer ends.
        shortlist: how many nearest neighbours to score, 1 to `MAX_SHORTLIST`; never fewer than k.
        min_score: results of a lower score are left out; only the shortlist is looked through for others.
        where: only images that satisfy this are found at all.
        keep_duplicates: whether near-duplicates of a better result are results of their own.
        explain: whether each result says how rescoring moved it.

    Raises:
        InvalidRequest: there is neither a text nor an image, or one of the numbers is out of its range.
    """

    text: str | None = None
    image: str | Picture | None = None
    text_weight: float = DEFAULT_TEXT_WEIGHT
    k: int = DEFAULT_K
    offset: int = 0
    shortlist: int = DEFAULT_SHORTLIST
    min_score: float | None = None
    where: Filter | None = None
    keep_duplicates: bool = False
    explain: bool = False

    def __post_init__(self) -> None:
        if self.text is not None:
            object.__setattr__(self, "text", checked_query(self.text))
        elif self.image is None:
            raise InvalidRequest("there is neither a text nor an image to search by", "describe a scene in a few words")
        _check("k", self.k, 1, MAX_K, f"ask for 1 to {MAX_K:,} results")
        _check("shortlist", self.shortlist, 1, MAX_SHORTLIST, f"have 1 to {MAX_SHORTLIST:,} nearest neighbours scored")
        reach = f"the first {MAX_SHORTLIST:,} results can be had; a filter leads to others"
        _check("offset", self.offset, 0, MAX_SHORTLIST - 1, reach)
        _check("text_weight", self.text_weight, 0, 1, "give the text's share from 0 (the image alone) to 1")
        if self.min_score is not None:
            _check("min_score", self.min_score, 0, 1, "scores are from 0 to 1")
            if self.text is None:
                raise InvalidRequest(
                    "min_score is given without a text", "scores are of texts: leave it out, or add a text"
                )


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


def _check(name: str, value: float, low: float, high: float, advice: str) -> None:
    if not low <= value <= high:  # written so that it holds for no NaN
        raise InvalidRequest(f"{name} is {value}", advice)
