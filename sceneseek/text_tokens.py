"""Tokens of text within pictures: words, their tokens in the index, and the coverage of a query by a text.

Words compare without case, diacritics and width. The index contains each whole word and its trigrams, which find parts
of words, as in PostgreSQL's pg_trgm. Scripts without spaces between words are indexed by single characters and bigrams
instead, as in Lucene's CJK analyzer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

# Longer texts are truncated in the index; a page of a book has some 3,000 characters.
MAX_CHARACTERS = 4_000
# Weight of a query word that is only part of a word in a picture, relative to a whole word.
_PARTIAL_MATCH = 0.7
# Words with fewer letters are too unspecific to search for, unlike digits and East Asian characters.
_MIN_LETTERS = 3
# Words that refer to a text rather than being part of it, and stop words, in the languages of the search page.
_STOP_WORD_LIST = """
    and are banner banners for from has have label labels letters poster posters read reading reads said saying says
    sign signs sticker text texts that the their there this with word words written
    для его знак знаки надпись надписью надписи как она они плакат плакатом слово словом словами текст текстом что это
"""  # noqa: RUF001 - Russian words
_STOP_WORDS = frozenset(_STOP_WORD_LIST.split())
_MAX_WORDS, _MAX_GRAMS, _LONGEST_WORD = 16, 8, 40

# Han, Kana, Hangul and Thai: texts without spaces, or with particles at the end of words.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|«([^»]+)»|„([^“”]+)[“”]|「([^」]+)」')
_APOSTROPHES = re.compile("['\u2019\u02bc`]")
_DIACRITICS = re.compile("[\u0300-\u036f]")
# Letters without a decomposition in Unicode.
_PLAIN = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "\u0131": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})


def words(text: str) -> list[str]:
    """The words of a text, normalized for comparison."""
    plain = _DIACRITICS.sub("", unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text)))
    return _WORD.findall(unicodedata.normalize("NFKC", plain).casefold().translate(_PLAIN))


def tokens(text: str) -> list[str]:
    """The tokens of a text in the index, without repetitions."""
    unique: dict[str, None] = {}
    for word in words(text[:MAX_CHARACTERS]):
        if _IS_UNSPACED.match(word):
            unique.update(dict.fromkeys([*word, *_grams(word, 2)]))
        else:
            unique.update(dict.fromkeys([word[:_LONGEST_WORD], *_grams(word, 3)]))
    return list(unique)


def tokens_of_word(word: str, part: bool = False) -> list[str]:
    """The tokens common to all texts with this word (from `words`); with `part`, to texts with it in a longer word."""
    if _IS_UNSPACED.match(word):
        return list(_grams(word, 2)) or [word]
    if not part or len(word) <= _MIN_LETTERS:
        return [word[:_LONGEST_WORD]]
    grams = list(_grams(word, 3))
    return grams[:: -(-len(grams) // _MAX_GRAMS)]


def query_words(query: str) -> list[str]:
    """The words of a query to search for in pictures: the quoted ones if there are any, else all but short words."""
    quoted = " ".join("".join(groups) for groups in _QUOTED.findall(query))
    candidates = [
        word
        for word in dict.fromkeys(words(quoted or query))
        if quoted or len(word) >= _MIN_LETTERS or not word.isalpha() or _IS_UNSPACED.match(word)
    ]
    named = [word for word in candidates if word not in _STOP_WORDS]
    return (named if named and not quoted else candidates)[:_MAX_WORDS]


def coverage(wanted: Sequence[str], text: str) -> float:
    """The share of these words, weighted by length, that a text contains, in [0, 1].

    Args:
        wanted: from `query_words`, at least one.
        text: text recognized in a picture.
    """
    present = set(words(text))
    covered = 0.0
    for word in wanted:
        if word in present:
            covered += len(word)
        elif any(word in other for other in present) and (len(word) >= _MIN_LETTERS or _IS_UNSPACED.match(word)):
            covered += len(word) * (1.0 if _IS_UNSPACED.match(word) else _PARTIAL_MATCH)
    return covered / sum(map(len, wanted))


def _grams(word: str, size: int) -> Iterator[str]:
    return (word[i : i + size] for i in range(len(word) - size + 1))
