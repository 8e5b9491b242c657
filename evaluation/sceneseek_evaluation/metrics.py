"""Ranks of the right image, and figures of merit of these ranks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sceneseek.vectors import Floats

RECALL_AT = (1, 5, 10, 50)
RANKING_FIGURES = (*(f"recall@{k}" for k in RECALL_AT), "median_rank", "mrr")
_TEXTS_A_BLOCK = 1024


def ranking_figures(ranks: npt.NDArray[np.float64]) -> dict[str, float]:
    """The figures `RANKING_FIGURES` of ranks (N,) that count from 1; infinity is not found.

    ``recall@k`` is the share of ranks up to k, ``median_rank`` is infinite where most were not found, and
    ``mrr`` is the mean of the reciprocal ranks.
    """
    recall = {f"recall@{k}": float((ranks <= k).mean()) for k in RECALL_AT}
    return {**recall, "median_rank": float(np.median(ranks)), "mrr": float((1 / ranks).mean())}


def exact_ranks(images: Floats, texts: Floats, owner: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The rank (M,), from 1, of each text's own image by exact search.

    Args:
        images: (N, D) joint vectors.
        texts: (M, D) joint vectors.
        owner: (M,) each text's own image. Others that are exactly as similar are ranked before it.
    """
    found = []
    for start in range(0, len(texts), _TEXTS_A_BLOCK):
        similarity = texts[start : start + _TEXTS_A_BLOCK] @ images.T
        own = similarity[np.arange(len(similarity)), owner[start : start + _TEXTS_A_BLOCK]]
        found.append((similarity >= own[:, None]).sum(axis=1))
    return np.concatenate(found).astype(np.float64)
