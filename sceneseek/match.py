"""Does an answer match at all? The threshold that a bundle carries, and what it says of scores.

A search always finds some nearest image. The threshold is the score from which a result counts as a match; it was
found on queries whose image is in a collection beside the same queries without it, and beside texts that describe
no picture. It knows of scores only: neither of the query nor of the collection.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from sceneseek.vectors import Floats


class MatchThreshold(BaseModel):
    """The least score of a result that matches.

    Attributes:
        threshold: a score in [0, 1].
        source: what it was found on, in words.
        figures: how well it tells one from the other, and how that was measured; JSON values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(ge=0, le=1)
    source: str
    figures: dict[str, Any] = {}

    def met(self, score: float) -> bool:
        """Whether a result of this score, a float32's value, matches."""
        return score >= float(np.float32(self.threshold))


def marks(match: MatchThreshold | None, scores: Floats) -> npt.NDArray[np.bool_] | None:
    """Which results match, bool (N,), by their scores (N,); None where the bundle cannot tell.

    A query matches nothing if none of its results does.

    Args:
        match: `manifest.head.match` of the bundle that scored.
        scores: of its `Reranker`.
    """
    if match is None:
        return None
    return np.array([match.met(score) for score in scores.tolist()], dtype=bool)
