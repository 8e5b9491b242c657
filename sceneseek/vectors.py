"""The arrays that pass between encoders, store and reranker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Vectors:
    """A batch of N encoded images or texts, float32: `joint` (N, D) of length 1, `head` (N, H), H may be 0."""

    joint: Floats
    head: Floats

    def __len__(self) -> int:
        return len(self.joint)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The N points nearest to a query, best similarity first.

    Attributes:
        ids: the points' ids.
        similarity: (N,) joint-space cosine.
        joint: (N, D), or None where it was not asked for.
        head: (N, H_i), or None where it was not asked for.
    """

    ids: list[str]
    similarity: Floats
    joint: Floats | None = None
    head: Floats | None = None

    def __len__(self) -> int:
        return len(self.ids)
