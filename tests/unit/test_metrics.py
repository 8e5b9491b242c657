"""Figures of merit agree with their definitions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics import RankingFigures


def test_figures_of_known_ranks() -> None:
    figures = RankingFigures.of(np.array([1.0, 2.0, 6.0, 51.0, np.inf]))
    assert figures.recall == {1: 0.2, 5: 0.4, 10: 0.6, 50: 0.6}
    assert figures.median_rank == 6
    assert figures.mrr == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 51) / 5)


def test_most_not_found_is_null_in_json_since_json_has_no_infinity() -> None:
    document = RankingFigures.of(np.array([1.0, np.inf, np.inf])).to_json()
    assert document["median_rank"] is None
    json.dumps(document, allow_nan=False)


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=200))
def test_recall_grows_with_k_and_bounds_the_reciprocal_rank(ranks: list[int]) -> None:
    figures = RankingFigures.of(np.array(ranks, dtype=np.float64))
    shares = list(figures.recall.values())
    assert shares == sorted(shares)
    assert figures.recall[1] <= figures.mrr <= 1
