"""Text that was read in pictures: its words, their tokens in the index, and how much of a query a text holds.

Words compare without case, diacritics and width. The index holds each whole word and its trigrams, by which words that
contain a part of it are found, as PostgreSQL's pg_trgm finds them. Scripts without spaces between words have single
characters and pairs of them instead, as in Lucene's CJK analyzer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

# The index has no more of one picture; a page of a book has some 3,000 characters.
MAX_CHARACTERS = 4_000
# A word of a query that is only a part of one in a picture counts so much of a whole one.
_OF_A_PART = 0.7
# Fewer letters name too little to be looked for; digits and characters of East Asia do.
_LEAST_LETTERS = 3
# Words that speak of a text and are not part of it, and those that name nothing, in the languages of the search page.
_WORDS_ABOUT_TEXT = """
    and are banner banners for from has have label labels letters poster posters read reading reads said saying says
    sign signs sticker text texts that the their there this with word words written
    для его знак знаки надпись надписью надписи как она они плакат плакатом слово словом словами текст текстом что это
"""  # noqa: RUF001 - Russian words
_NOT_WRITTEN = frozenset(_WORDS_ABOUT_TEXT.split())
_MAX_WORDS, _MAX_GRAMS, _LONGEST_WORD = 16, 8, 40

# Han, Kana, Hangul and Thai: texts without spaces, or with particles at the end of words.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|«([^»]+)»|„([^“”]+)[“”]|「([^」]+)」')
_APOSTROPHES = re.compile("['\u2019\u02bc`]")
_DIACRITICS = re.compile("[\u0300-\u036f]")
# Letters that Unicode does not take apart.
_PLAIN = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "\u0131": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})


def words(text: str) -> list[str]:
    """The words of a text, in the form in which they compare."""
    plain = _DIACRITICS.sub("", unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text)))
    return _WORD.findall(unicodedata.normalize("NFKC", plain).casefold().translate(_PLAIN))


def tokens(text: str) -> list[str]:
    """What the index holds of a text, each token once."""
    found: dict[str, None] = {}
    for word in words(text[:MAX_CHARACTERS]):
        if _IS_UNSPACED.match(word):
            found.update(dict.fromkeys([*word, *_grams(word, 2)]))
        else:
            found.update(dict.fromkeys([word[:_LONGEST_WORD], *_grams(word, 3)]))
    return list(found)


def tokens_of_word(word: str, part: bool = False) -> list[str]:
    """The tokens that a text has which contains this word, of `words`; with `part`, also within a longer one."""
    if _IS_UNSPACED.match(word):
        return list(_grams(word, 2)) or [word]
    if not part or len(word) <= _LEAST_LETTERS:
        return [word[:_LONGEST_WORD]]
    grams = list(_grams(word, 3))
    return grams[:: -(-len(grams) // _MAX_GRAMS)]


def query_words(query: str) -> list[str]:
    """The words of a query to look for in pictures: those in quotes, where there are some, else all of some length."""
    quoted = " ".join("".join(groups) for groups in _QUOTED.findall(query))
    found = [
        word
        for word in dict.fromkeys(words(quoted or query))
        if quoted or len(word) >= _LEAST_LETTERS or not word.isalpha() or _IS_UNSPACED.match(word)
    ]
    named = [word for word in found if word not in _NOT_WRITTEN]
    return (named if named and not quoted else found)[:_MAX_WORDS]


def coverage(wanted: Sequence[str], text: str) -> float:
    """The share of these words, by their letters, that a text holds, in [0, 1].

    Args:
        wanted: of `query_words`, at least one.
        text: one that was read in a picture.
    """
    there = set(words(text))
    held = 0.0
    for word in wanted:
        if word in there:
            held += len(word)
        elif any(word in other for other in there) and (len(word) >= _LEAST_LETTERS or _IS_UNSPACED.match(word)):
            held += len(word) * (1.0 if _IS_UNSPACED.match(word) else _OF_A_PART)
    return held / sum(map(len, wanted))


def _grams(word: str, size: int) -> Iterator[str]:
    return (word[i : i + size] for i in range(len(word) - size + 1))
