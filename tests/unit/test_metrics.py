"""Figures of merit agree with their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics import RANKING_FIGURES, RECALL_AT, ranking_figures


def test_figures_of_known_ranks() -> None:
    figures = ranking_figures(np.array([1.0, 2.0, 6.0, 51.0, np.inf]))
    assert tuple(figures) == RANKING_FIGURES
    assert [figures[f"recall@{k}"] for k in (1, 5, 10, 50)] == [0.2, 0.4, 0.6, 0.6]
    assert figures["median_rank"] == 6
    assert figures["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 51) / 5)


def test_the_median_is_infinite_where_most_were_not_found() -> None:
    assert ranking_figures(np.array([1.0, np.inf, np.inf]))["median_rank"] == np.inf
    assert ranking_figures(np.array([1.0, np.inf]))["median_rank"] == np.inf


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=200))
def test_recall_grows_with_k_and_bounds_the_reciprocal_rank(ranks: list[int]) -> None:
    figures = ranking_figures(np.array(ranks, dtype=np.float64))
    shares = [figures[f"recall@{k}"] for k in RECALL_AT]
    assert shares == sorted(shares)
    assert figures["recall@1"] <= figures["mrr"] <= 1
