"""Matches between a query and the text within pictures: additional candidates, and higher scores.

A picture that shows the words of the query matches it, whatever the scene: with coverage c (see `text_tokens.coverage`)
the score s becomes 1 - (1 - s)(1 - 0.9 c^2). A picture with all the words ranks first, and a single word in common with
a sentence counts little. docs/explanation/scores.md shows the effect.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sceneseek.filters.conditions import TEXT_TOKENS, All, AnyPart, Equals, Filter
from sceneseek.payload import text_of
from sceneseek.store import Collection
from sceneseek.text_tokens import coverage, query_words, tokens_of_word
from sceneseek.vectors import Candidates, Floats

# A full match outranks almost every scene: scores learned from ratings seldom reach it.
_FULL_MATCH = 0.9
# Limit on the pictures with words of the query; the nearest to the query are taken.
_MAX_MATCHES = 100


class TextMatches:
    """The pictures of a collection whose text contains words of a query.

    Args:
        collection: a collection with texts.
        text: the query.
        where: filter that the pictures must satisfy.
        deadline: of each search, see `Collection.nearest`.

    Attributes:
        coverage: coverage by id of each picture found.
    """

    def __init__(self, collection: Collection, text: str, where: Filter | None, deadline: float | None) -> None:
        self._collection, self._where, self._deadline = collection, where, deadline
        self._words = query_words(text)
        self._found: Candidates | None = None
        self.coverage: dict[str, float] = {}

    def extend(self, candidates: Candidates, joint: Floats, vectors: Sequence[str]) -> Candidates:
        """The candidates, followed by further pictures found by their text.

        Args:
            candidates: from `Collection.nearest`.
            joint: the query vector (D,).
            vectors: names of the vectors that the candidates have.
        """
        if not self._words:
            return candidates
        if self._found is None:
            self._found = self._search(joint, vectors)
        return candidates.joined(self._found)

    def scores(self, ids: Sequence[str], scores: Floats) -> Floats:
        """The scores (N,) of images, raised by their text matches."""
        covered = np.array([self.coverage.get(identity, 0.0) for identity in ids], np.float32)
        return 1 - (1 - scores) * (1 - np.float32(_FULL_MATCH) * covered * covered)

    def _search(self, joint: Floats, vectors: Sequence[str]) -> Candidates:
        """Pictures with every word, followed by pictures with any of them if the limit is not reached."""
        each = [
            All(tuple(Equals(TEXT_TOKENS, token) for token in tokens_of_word(word, part=True))) for word in self._words
        ]
        candidates = self._nearest(All(tuple(each)), joint, vectors)
        if len(each) > 1 and len(candidates) < _MAX_MATCHES:
            candidates = candidates.joined(self._nearest(AnyPart(tuple(each)), joint, vectors))
        for record in self._collection.retrieve(candidates.ids, self._deadline):
            self.coverage[record.id] = coverage(self._words, text_of(record.payload))
        return candidates

    def _nearest(self, condition: Filter, joint: Floats, vectors: Sequence[str]) -> Candidates:
        where = condition if self._where is None else All((self._where, condition))
        return self._collection.nearest(joint, _MAX_MATCHES, vectors, where=where, deadline=self._deadline)
