"""Candidates to scores in [0, 1]: one run of `score.onnx`.

A head reads some of what is known of a candidate: its `similarity` (the joint-space cosine, which the
engine has computed already), its joint vector, its head vector. The graph's own inputs say which, so the
store is asked for no vector that the head would not look at: reading 100 vectors back from the engine
takes as long as finding them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sceneseek.bundle import Bundle
from sceneseek.runtime import open_session
from sceneseek.vectors import Candidates, Floats


def best_first(candidates: Candidates, scores: Floats) -> npt.NDArray[np.int64]:
    """(N,) places of the candidates in the order of an answer: by score, and equal scores by similarity."""
    order: npt.NDArray[np.int64] = np.lexsort((-candidates.similarity, -scores))
    return order


class Reranker:
    """`score.onnx` of a bundle. Thread-safe.

    Attributes:
        reads: those of ``similarity``, ``image_joint``, ``image_head``, ``text_joint`` and ``text_head``
            that the head looks at.
    """

    def __init__(self, bundle: Bundle) -> None:
        # The CPU and one thread: the graph takes microseconds, less than a trip to a GPU or waking a second thread.
        self._session = open_session(bundle.score_graph, "cpu", threads=1)
        self.reads = frozenset(self._session.inputs)

    def vectors_read(self) -> tuple[str, ...]:
        """The named vectors of the collection that `score` needs of each candidate."""
        return tuple(
            vector for name, vector in (("image_joint", "joint"), ("image_head", "head")) if name in self.reads
        )

    def score(self, candidates: Candidates, text_joint: Floats, text_head: Floats) -> Floats:
        """Scores (N,) of the candidates for one text, `text_joint` (D,) and `text_head` (H_t,)."""
        if not len(candidates):
            return np.zeros(0, dtype=np.float32)
        offered = {
            "similarity": candidates.similarity,
            "image_joint": candidates.joint,
            "image_head": candidates.head,
            "text_joint": text_joint,
            "text_head": text_head,
        }
        feed = {name: vectors for name in self.reads if (vectors := offered[name]) is not None}
        return self._session.run(feed)["score"]
