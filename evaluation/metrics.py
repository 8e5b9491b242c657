"""Figures of merit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RECALL_AT = (1, 5, 10, 50)


@dataclass(frozen=True, slots=True)
class RankingFigures:
    """Of a list of ranks: `recall` by k as shares in [0, 1], the median rank, the mean reciprocal rank."""

    recall: dict[int, float]
    median_rank: float
    mrr: float

    @classmethod
    def of(cls, ranks: npt.NDArray[np.float64]) -> RankingFigures:
        """The figures of ranks (N,) that count from 1; infinity is not found."""
        return cls(
            recall={k: float((ranks <= k).mean()) for k in RECALL_AT},
            median_rank=float(np.median(ranks)),
            mrr=float((1 / ranks).mean()),
        )

    def to_json(self) -> dict[str, float | None]:
        """As JSON values: ``recall@1`` ..., ``median_rank`` (null where most were not found), ``mrr``."""
        median = self.median_rank if np.isfinite(self.median_rank) else None
        return {**{f"recall@{k}": share for k, share in self.recall.items()}, "median_rank": median, "mrr": self.mrr}
