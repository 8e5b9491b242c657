"""A tokenizer of the Unigram kind (Kudo 2018), which cuts a text into the most probable pieces of a vocabulary.

Its ids are those of the SentencePiece library. That one builds a trie of all pieces at each start, which takes 0.6 s
and 60 MB for the 250,000 pieces of XLM-RoBERTa; here a sorted table of their hashes is read.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

_SPACE = "\u2581"
# Of a polynomial hash modulo 2**64.
_FACTOR = 0x9E3779B97F4A7C15
# How much more probable another case of a word must be, as log probabilities: between near ones the user's counts.
_LIKELIER = 2.0
# By how much a character without a piece is less probable than the least probable piece, as log probabilities.
_PENALTY = np.float32(10.0)


@dataclass(frozen=True, eq=False)
class Unigram:
    """A vocabulary of P pieces beside the special tokens, which no text is cut into.

    Attributes:
        hashes: uint64 (P,), of the pieces, ascending.
        ids: int32 (P,).
        scores: float32 (P,), log probabilities.
        longest: characters of the longest piece.
        begin, end, unknown: ids of special tokens.
    """

    hashes: npt.NDArray[np.uint64]
    ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    longest: int
    begin: int
    end: int
    unknown: int

    @classmethod
    def of_pieces(cls, pieces: Sequence[tuple[str, float]], special: Mapping[str, int]) -> Unigram:
        """A vocabulary of pieces with their scores, whose ids are their places.

        Args:
            pieces: texts in which ``U+2581`` stands for a space, and their log probabilities.
            special: ids of special tokens by name: ``begin``, ``end``, ``unknown`` and any others.

        Raises:
            ValueError: two pieces have the same hash.
        """
        ids = [i for i in range(len(pieces)) if i not in special.values()]
        hashes = np.array([_hash(pieces[i][0]) for i in ids], np.uint64)
        order = np.argsort(hashes)
        if np.any(hashes[order][1:] == hashes[order][:-1]):
            raise ValueError("two pieces are alike")
        scores = np.array([pieces[i][1] for i in ids], np.float32)
        longest = max(len(pieces[i][0]) for i in ids)
        numbers = (longest, special["begin"], special["end"], special["unknown"])
        return cls(hashes[order], np.array(ids, np.int32)[order], scores[order], *numbers)

    @classmethod
    def read(cls, path: Path) -> Unigram:
        """Read a file that holds a `content`.

        Raises:
            OSError, ValueError, KeyError: it cannot be read, or is of another kind.
        """
        with np.load(path) as file:
            return cls(file["hashes"], file["ids"], file["scores"], *file["numbers"].tolist())

    def content(self) -> bytes:
        """The vocabulary as an NPZ file."""
        file = io.BytesIO()
        numbers = np.array([self.longest, self.begin, self.end, self.unknown])
        np.savez(file, hashes=self.hashes, ids=self.ids, scores=self.scores, numbers=numbers)
        return file.getvalue()

    def encode(self, text: str) -> list[int]:
        """The ids of a text's pieces, without special tokens around them; runs of spaces count as one.

        Neighbouring characters that no piece has are one unknown token.
        """
        spaced = "".join(_SPACE + word for word in text.split(" ") if word)
        came = self._best(spaced)[1]
        ids: list[int] = []
        stop = len(spaced)
        while stop:
            stop, token = came[stop]
            if not (token == self.unknown and ids and ids[-1] == token):
                ids.append(token)
        return ids[::-1]

    def likeliest_case(self, text: str) -> str:
        """The text with each word as typed, in lower case or capitalized: as it is the most probable."""
        return " ".join(map(self._likeliest, text.split()))

    def _likeliest(self, word: str) -> str:
        probable = {form: float(self._best(_SPACE + form)[0]) for form in (word, word.lower(), word.capitalize())}
        best = max(probable, key=lambda form: probable[form])
        return best if probable[best] > probable[word] + _LIKELIER else word

    def _best(self, spaced: str) -> tuple[np.float32, list[tuple[int, int]]]:
        """The log probability of the best path; for each character where its piece begins, and the id of that."""
        # In float32 as the library adds, so that ties end alike: the first path found is kept.
        best = [np.float32(0), *[np.float32(-np.inf)] * len(spaced)]
        came: list[tuple[int, int]] = [(0, 0)] * (len(spaced) + 1)
        for start, found in enumerate(self._found(spaced)):
            for length, token, score in found:
                total, stop = best[start] + score, start + length
                if total > best[stop]:
                    best[stop], came[stop] = total, (start, token)
        return best[-1], came

    def _found(self, text: str) -> list[list[tuple[int, int, np.float32]]]:
        """For each character the pieces that begin with it: length, id and score, the shortest first."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        # Of all parts of the text, the shortest first.
        hashes = [np.ones(len(text), np.uint64)]
        for length in range(min(self.longest, len(text))):
            hashes.append(hashes[-1][: len(text) - length] * np.uint64(_FACTOR) + codes[length:])
        of_parts = np.concatenate(hashes[1:] or hashes)
        rows = np.minimum(self.hashes.searchsorted(of_parts), len(self.hashes) - 1)
        parts = np.flatnonzero(self.hashes[rows] == of_parts)
        rows, firsts = rows[parts], np.cumsum([0, *map(len, hashes[1:])])
        lengths = firsts.searchsorted(parts, side="right")
        starts = parts - firsts[lengths - 1]
        found: list[list[tuple[int, int, np.float32]]] = [[] for _ in text]
        for start, *piece in zip(
            starts.tolist(), lengths.tolist(), self.ids[rows].tolist(), self.scores[rows], strict=True
        ):
            found[start].append(tuple(piece))
        for pieces in found:
            if not pieces or pieces[0][0] > 1:
                pieces.append((1, self.unknown, self._missing))
        return found

    @cached_property
    def _missing(self) -> np.float32:
        return np.float32(self.scores.min() - _PENALTY)


def _hash(piece: str) -> int:
    value = 1
    for character in piece:
        value = (value * _FACTOR + ord(character)) % 2**64
    return value
