"""Figures of merit of a ranking."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RECALL_AT = (1, 5, 10, 50)
RANKING_FIGURES = (*(f"recall@{k}" for k in RECALL_AT), "median_rank", "mrr")


def ranking_figures(ranks: npt.NDArray[np.float64]) -> dict[str, float]:
    """The figures `RANKING_FIGURES` of ranks (N,) that count from 1; infinity is not found.

    ``recall@k`` is the share of ranks up to k, ``median_rank`` is infinite where most were not found, and
    ``mrr`` is the mean of the reciprocal ranks.
    """
    recall = {f"recall@{k}": float((ranks <= k).mean()) for k in RECALL_AT}
    return {**recall, "median_rank": float(np.median(ranks)), "mrr": float((1 / ranks).mean())}
