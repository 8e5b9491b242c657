"""Near fingerprints are the same, whether all pairs are compared or those that agree in some part."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek_indexer.duplicates import BITS, _Compared, _compared, _compared_by_parts


def found(pairs: Iterable[_Compared]) -> list[tuple[int, int, int]]:
    """The pairs, the smaller place first."""
    every = [(int(a), int(b), int(n)) for each in pairs for a, b, n in zip(*each, strict=True)]
    return sorted((min(a, b), max(a, b), n) for a, b, n in every if a != b)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@given(seed=st.integers(0, 2**32 - 1), originals=st.integers(1, 40))
def test_both_ways_find_the_same(share: float, seed: int, originals: int) -> None:
    draw = np.random.default_rng(seed)
    bits = draw.integers(0, 2, (originals, BITS), np.uint8)
    copies = bits[draw.integers(0, originals, 3 * originals)]
    # Up to 24 bits differ: up to 20 are near.
    for copy in copies:
        copy[draw.permutation(BITS)[: draw.integers(0, 25)]] ^= 1
    packed = np.packbits(np.concatenate([bits, copies]), axis=1)
    hashes = packed.view(">u8").astype(np.uint64)
    rows = np.flatnonzero(draw.random(len(hashes)) < share)
    # Of two rows, the one way gives both orders and the other one of them.
    assert sorted(set(found(_compared(hashes, rows)))) == found(_compared_by_parts(hashes, rows))
