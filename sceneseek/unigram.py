"""A Unigram tokenizer (Kudo 2018), which splits a text into the most probable sequence of pieces of a vocabulary.

It produces the same ids as the SentencePiece library. SentencePiece builds a trie of all pieces at each start, which
takes 0.6 s and 60 MB for the 250,000 pieces of XLM-RoBERTa; here a sorted table of their hashes is loaded.
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
# Multiplier of a polynomial hash modulo 2**64.
_FACTOR = 0x9E3779B97F4A7C15
# Minimum gain in log probability for changing the case of a word; otherwise the user's case is kept.
_MIN_GAIN = 2.0
# Log probability of an unknown character below that of the least probable piece.
_PENALTY = np.float32(10.0)


@dataclass(frozen=True, eq=False)
class Unigram:
    """A vocabulary of P pieces, without the special tokens.

    Attributes:
        hashes: uint64 (P,), hashes of the pieces, ascending.
        ids: int32 (P,).
        scores: float32 (P,), log probabilities.
        longest: number of characters in the longest piece.
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
        """Create a vocabulary from pieces, whose ids are their indices.

        Args:
            pieces: (text, log probability) pairs; ``U+2581`` represents a space.
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
        """Read a file written from `content`.

        Raises:
            OSError, ValueError, KeyError: the file cannot be read, or is not a vocabulary.
        """
        with np.load(path) as file:
            return cls(file["hashes"], file["ids"], file["scores"], *file["numbers"].tolist())

    def content(self) -> bytes:
        """The vocabulary as the bytes of an NPZ file."""
        file = io.BytesIO()
        numbers = np.array([self.longest, self.begin, self.end, self.unknown])
        np.savez(file, hashes=self.hashes, ids=self.ids, scores=self.scores, numbers=numbers)
        return file.getvalue()

    def encode(self, text: str) -> list[int]:
        """Encode a text as ids, without special tokens; runs of spaces count as one.

        Adjacent characters that are not in any piece become one unknown token.
        """
        spaced = "".join(_SPACE + word for word in text.split(" ") if word)
        path = self._best(spaced)[1]
        ids: list[int] = []
        stop = len(spaced)
        while stop:
            stop, token = path[stop]
            if not (token == self.unknown and ids and ids[-1] == token):
                ids.append(token)
        return ids[::-1]

    def likeliest_case(self, text: str) -> str:
        """The text with each word as typed, in lower case or capitalized, whichever is most probable."""
        return " ".join(map(self._likeliest, text.split()))

    def _likeliest(self, word: str) -> str:
        probable = {form: float(self._best(_SPACE + form)[0]) for form in (word, word.lower(), word.capitalize())}
        best = max(probable, key=lambda form: probable[form])
        return best if probable[best] > probable[word] + _MIN_GAIN else word

    def _best(self, spaced: str) -> tuple[np.float32, list[tuple[int, int]]]:
        """The log probability of the best path, and by end offset the start and id of the best last piece."""
        # In float32, as SentencePiece, for the same result on ties: the first path found is kept.
        best = [np.float32(0), *[np.float32(-np.inf)] * len(spaced)]
        path: list[tuple[int, int]] = [(0, 0)] * (len(spaced) + 1)
        for start, pieces in enumerate(self._pieces(spaced)):
            for length, token, score in pieces:
                total, stop = best[start] + score, start + length
                if total > best[stop]:
                    best[stop], path[stop] = total, (start, token)
        return best[-1], path

    def _pieces(self, text: str) -> list[list[tuple[int, int, np.float32]]]:
        """For each offset, the pieces that start there as (length, id, score), shortest first."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        # Hashes of all substrings, shortest first.
        hashes = [np.ones(len(text), np.uint64)]
        for length in range(min(self.longest, len(text))):
            hashes.append(hashes[-1][: len(text) - length] * np.uint64(_FACTOR) + codes[length:])
        substrings = np.concatenate(hashes[1:] or hashes)
        rows = np.minimum(self.hashes.searchsorted(substrings), len(self.hashes) - 1)
        parts = np.flatnonzero(self.hashes[rows] == substrings)
        rows, firsts = rows[parts], np.cumsum([0, *map(len, hashes[1:])])
        lengths = firsts.searchsorted(parts, side="right")
        starts = parts - firsts[lengths - 1]
        starting: list[list[tuple[int, int, np.float32]]] = [[] for _ in text]
        for start, *piece in zip(
            starts.tolist(), lengths.tolist(), self.ids[rows].tolist(), self.scores[rows], strict=True
        ):
            starting[start].append(tuple(piece))
        for pieces in starting:
            if not pieces or pieces[0][0] > 1:
                pieces.append((1, self.unknown, self._missing))
        return starting

    @cached_property
    def _missing(self) -> np.float32:
        return np.float32(self.scores.min() - _PENALTY)


def _hash(piece: str) -> int:
    value = 1
    for character in piece:
        value = (value * _FACTOR + ord(character)) % 2**64
    return value
