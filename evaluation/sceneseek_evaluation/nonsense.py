"""Queries that mean nothing, drawn by a seed: what no picture can match.

Four kinds in turn: words of random letters; runs along a row of the keyboard; numbers and signs; words of
real captions, each of another one, which alone make words but no scene.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import numpy as np

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_SIGNS = ".,;:!?#$%&*+-/=@^_~"


def draw_nonsense(count: int, texts: Sequence[str], seed: int) -> list[str]:
    """So many queries; the same arguments give the same ones.

    Args:
        count: how many.
        texts: whose words the fourth kind has; without any word it is left out.
        seed: of the drawing.
    """
    rng = np.random.default_rng(seed)
    words = sorted({word for text in texts for word in text.lower().split() if word.isalpha()})
    kinds: list[Callable[[], str]] = [
        lambda: _joined(rng, 1, 6, lambda: _run(rng, string.ascii_lowercase, 3, 9)),
        lambda: _joined(rng, 1, 3, lambda: _run(rng, _ROWS[rng.integers(len(_ROWS))], 4, 11)),
        lambda: _joined(rng, 1, 5, lambda: _run(rng, string.digits, 1, 7) + _run(rng, _SIGNS, 0, 2)),
    ]
    if words:
        kinds.append(lambda: _joined(rng, 3, 8, lambda: words[rng.integers(len(words))]))
    return [kinds[i % len(kinds)]() for i in range(count)]


def _joined(rng: np.random.Generator, least: int, most: int, word: Callable[[], str]) -> str:
    return " ".join(word() for _ in range(rng.integers(least, most + 1)))


def _run(rng: np.random.Generator, alphabet: str, least: int, most: int) -> str:
    return "".join(alphabet[i] for i in rng.integers(0, len(alphabet), rng.integers(least, most + 1)))
