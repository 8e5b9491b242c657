"""The close pairs among fingerprints are those that comparing all pairs finds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek_indexer import fingerprints
from sceneseek_indexer.duplicates import _Groups
from sceneseek_indexer.fingerprints import BITS, Fingerprints, Flags, halves, near_duplicates, weight

Bits = npt.NDArray[np.uint8]


def skewed(draw: np.random.Generator, originals: int, copies: int) -> Bits:
    """Bits (N, 128) as photographs have them and worse: neighbours alike, many all but set or clear, many copies."""
    lean = draw.normal(0, 0.6, (originals, 1))
    rough = draw.normal(0, 1, (originals, BITS + 2))
    bits = ((rough[:, :-2] + rough[:, 1:-1] + rough[:, 2:]) / 3 + lean > 0).astype(np.uint8)
    copied = bits[draw.integers(0, originals, copies)]
    flipped = draw.random(copied.shape).argsort(axis=1) < draw.integers(0, 25, (copies, 1))
    return draw.permutation(np.concatenate([bits, copied ^ flipped]))


def close(bits: Bits, new: Flags) -> set[tuple[int, int]]:
    """By comparing all pairs."""
    ones = bits.sum(axis=1, dtype=np.int16)
    in_both = (bits.astype(np.float32) @ bits.T.astype(np.float32)).astype(np.int16)
    differing = ones[:, None] + ones - 2 * in_both
    near = near_duplicates(differing, weight(ones[:, None], ones, differing), np.ones(1, np.float32))
    return set(zip(*(each.tolist() for each in np.nonzero(np.triu(near & (new[:, None] | new), 1))), strict=True))


def fingerprints_of(bits: Bits) -> Fingerprints:
    return Fingerprints(np.arange(len(bits), dtype=np.int32), halves([np.packbits(bits, axis=1).tobytes()]))


@pytest.mark.parametrize("new", [6_000, 300])
def test_all_close_pairs_of_thousands_are_found(new: int) -> None:
    draw = np.random.default_rng(new)
    bits, is_new = skewed(draw, 4_000, 2_000), draw.permutation(6_000) < new
    expected = close(bits, is_new)
    assert len(expected) > new / 3
    found = set()
    for pairs in fingerprints_of(bits).close_pairs(is_new, lambda images: images):
        found |= set(zip(pairs.one.tolist(), pairs.other.tolist(), strict=True))
    assert {(min(pair), max(pair)) for pair in found} == expected


@pytest.mark.parametrize("few", [0, 1_000])
@given(seed=st.integers(0, 2**32 - 1), originals=st.integers(1, 40), share=st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_groups_that_are_joined_pair_by_pair_are_those_of_all_close_pairs(
    few: int, seed: int, originals: int, share: float
) -> None:
    draw = np.random.default_rng(seed)
    bits = skewed(draw, originals, 3 * originals)
    is_new = draw.random(len(bits)) < share
    groups = _Groups(len(bits))
    every = np.arange(len(bits), dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "_FEW_NEW", few)
        for pairs in fingerprints_of(bits).close_pairs(is_new, groups.of):
            assert not np.any(groups.of(pairs.one) == groups.of(pairs.other))
            groups.join(pairs.one, pairs.other)
    expected = every.copy()
    for pair in close(bits, is_new):
        one, other = expected[[*pair]]
        expected[expected == max(one, other)] = min(one, other)
    assert groups.of(every).tolist() == expected.tolist()


@given(st.sets(st.integers(0, BITS - 1), max_size=20))
def test_up_to_twenty_bits_are_clear_in_some_mask(differing: set[int]) -> None:
    unequal = halves([sum(1 << place for place in differing).to_bytes(16, "big")])
    assert ((fingerprints._masks() & unequal) == 0).all(axis=0).any()
