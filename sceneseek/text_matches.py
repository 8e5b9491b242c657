"""Pictures whose own text holds words of a query: further candidates, and what their text adds to their scores.

A picture that shows the words of the query matches it, whatever the scene: of coverage c (see `text_tokens.coverage`)
the score s becomes 1 - (1 - s)(1 - 0.9 c^2), so that a picture with all the words comes first and a word in common with
a sentence counts little. docs/explanation/scores.md has what that does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sceneseek.filters.conditions import TEXT_TOKENS, All, AnyPart, Equals, Filter
from sceneseek.payload import text_of
from sceneseek.store import Collection
from sceneseek.text_tokens import coverage, query_words, tokens_of_word
from sceneseek.vectors import Candidates, Floats

# A full match outranks every scene: scores learned from ratings seldom reach it.
_FULL = 0.9
# Pictures with words of the query that are looked at: those nearest to it.
_MOST = 100


class TextMatches:
    """The pictures of one collection whose text holds words of one query.

    Args:
        collection: has texts.
        text: the query.
        where: only pictures that satisfy this.
        deadline: of each search, see `Collection.nearest`.

    Attributes:
        coverage: of each picture that was found, by id.
    """

    def __init__(self, collection: Collection, text: str, where: Filter | None, deadline: float | None) -> None:
        self._collection, self._where, self._deadline = collection, where, deadline
        self._words = query_words(text)
        self._found: Candidates | None = None
        self.coverage: dict[str, float] = {}

    def beside(self, candidates: Candidates, joint: Floats, vectors: Sequence[str]) -> Candidates:
        """The candidates, and behind them those found by their text that are not among them.

        Args:
            candidates: of `Collection.nearest`.
            joint: (D,) what they are nearest to.
            vectors: which they have.
        """
        if not self._words:
            return candidates
        if self._found is None:
            self._found = self._search(joint, vectors)
        return candidates.joined(self._found)

    def scores(self, ids: Sequence[str], scores: Floats) -> Floats:
        """The scores (N,) of images, with what their text adds."""
        covered = np.array([self.coverage.get(identity, 0.0) for identity in ids], np.float32)
        return 1 - (1 - scores) * (1 - np.float32(_FULL) * covered * covered)

    def _search(self, joint: Floats, vectors: Sequence[str]) -> Candidates:
        """Those with every word, and where they are few, those with one of them."""
        each = [
            All(tuple(Equals(TEXT_TOKENS, token) for token in tokens_of_word(word, part=True))) for word in self._words
        ]
        found = self._nearest(All(tuple(each)), joint, vectors)
        if len(each) > 1 and len(found) < _MOST:
            found = found.joined(self._nearest(AnyPart(tuple(each)), joint, vectors))
        for record in self._collection.retrieve(found.ids, self._deadline):
            self.coverage[record.id] = coverage(self._words, text_of(record.payload))
        return found

    def _nearest(self, condition: Filter, joint: Floats, vectors: Sequence[str]) -> Candidates:
        where = condition if self._where is None else All((self._where, condition))
        return self._collection.nearest(joint, _MOST, vectors, where=where, deadline=self._deadline)
