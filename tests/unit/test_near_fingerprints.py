"""Search for close fingerprints finds exactly the pairs of a brute-force comparison."""

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


def skewed(rng: np.random.Generator, originals: int, copies: int) -> Bits:
    """Bits (N, 128) like those of photographs: correlated neighbours, skewed counts and many near copies."""
    bias = rng.normal(0, 0.6, (originals, 1))
    noise = rng.normal(0, 1, (originals, BITS + 2))
    bits = ((noise[:, :-2] + noise[:, 1:-1] + noise[:, 2:]) / 3 + bias > 0).astype(np.uint8)
    copied = bits[rng.integers(0, originals, copies)]
    flipped = rng.random(copied.shape).argsort(axis=1) < rng.integers(0, 25, (copies, 1))
    return rng.permutation(np.concatenate([bits, copied ^ flipped]))


def brute_force_pairs(bits: Bits, new: Flags) -> set[tuple[int, int]]:
    """Close pairs by brute force."""
    ones = bits.sum(axis=1, dtype=np.int16)
    in_both = (bits.astype(np.float32) @ bits.T.astype(np.float32)).astype(np.int16)
    differing = ones[:, None] + ones - 2 * in_both
    near = near_duplicates(differing, weight(ones[:, None], ones, differing), np.ones(1, np.float32))
    return set(zip(*(each.tolist() for each in np.nonzero(np.triu(near & (new[:, None] | new), 1))), strict=True))


def fingerprints_of(bits: Bits) -> Fingerprints:
    return Fingerprints(np.arange(len(bits), dtype=np.int32), halves([np.packbits(bits, axis=1).tobytes()]))


@pytest.mark.parametrize("new", [6_000, 300])
def test_close_pairs_match_brute_force(new: int) -> None:
    rng = np.random.default_rng(new)
    bits, is_new = skewed(rng, 4_000, 2_000), rng.permutation(6_000) < new
    expected = brute_force_pairs(bits, is_new)
    assert len(expected) > new / 3
    found = set()
    for pairs in fingerprints_of(bits).close_pairs(is_new, lambda images: images):
        found |= set(zip(pairs.one.tolist(), pairs.other.tolist(), strict=True))
    assert {(min(pair), max(pair)) for pair in found} == expected


@pytest.mark.parametrize("threshold", [0, 1_000])
@given(seed=st.integers(0, 2**32 - 1), originals=st.integers(1, 40), share=st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_incremental_groups_match_brute_force(threshold: int, seed: int, originals: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    bits = skewed(rng, originals, 3 * originals)
    is_new = rng.random(len(bits)) < share
    groups = _Groups(len(bits))
    all_images = np.arange(len(bits), dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "_FEW_NEW", threshold)
        for pairs in fingerprints_of(bits).close_pairs(is_new, groups.of):
            assert not np.any(groups.of(pairs.one) == groups.of(pairs.other))
            groups.join(pairs.one, pairs.other)
    expected = all_images.copy()
    for pair in brute_force_pairs(bits, is_new):
        one, other = expected[[*pair]]
        expected[expected == max(one, other)] = min(one, other)
    assert groups.of(all_images).tolist() == expected.tolist()


@given(st.sets(st.integers(0, BITS - 1), max_size=20))
def test_some_mask_excludes_any_twenty_bits(differing: set[int]) -> None:
    unequal = halves([sum(1 << place for place in differing).to_bytes(16, "big")])
    assert ((fingerprints._masks() & unequal) == 0).all(axis=0).any()
