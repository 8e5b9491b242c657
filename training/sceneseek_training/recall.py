"""Recall at k of a joint space: how often a caption's own image is among its k nearest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sceneseek.vectors import Floats

AT = (1, 5, 10)
_AT_ONCE = 1024


def recall_at(images: Floats, texts: Floats, owner: npt.NDArray[np.int64]) -> dict[str, float]:
    """``recall@1``, ``recall@5`` and ``recall@10``, as shares of the captions.

    Args:
        images: (N, D) joint vectors.
        texts: (M, D) joint vectors.
        owner: (M,) each text's own image. Others that are exactly as similar are ranked before it.
    """
    ranks = np.concatenate(
        [_ranks(images, texts[i : i + _AT_ONCE], owner[i : i + _AT_ONCE]) for i in range(0, len(texts), _AT_ONCE)]
    )
    return {f"recall@{k}": round(float((ranks < k).mean()), 4) for k in AT}


def _ranks(images: Floats, texts: Floats, owner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    similarity = texts @ images.T
    own = similarity[np.arange(len(texts)), owner]
    ranks: npt.NDArray[np.int64] = (similarity >= own[:, None]).sum(axis=1) - 1
    return ranks
