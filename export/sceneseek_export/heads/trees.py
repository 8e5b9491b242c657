"""A sum of oblivious decision trees: what CatBoost learns (Prokhorenkova et al., NeurIPS 2018).

In an oblivious tree every node of a level asks the same question, so a tree of depth d is d pairs of a
feature and a border, and 2^d leaves: the answers are the leaf's number in binary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sceneseek.match import MatchThreshold
from sceneseek.vectors import Floats
from sceneseek_export.heads.base import cut
from sceneseek_export.heads.inputs import INPUTS, OF_TEXT, check_readable


@dataclass(frozen=True)
class TreesHead:
    """The sum of the leaves that a pair reaches, cut to [0, 1].

    Attributes:
        widths: by input, in the order of `INPUTS`, how many columns of the features it is.
        feature: int64 (trees, depth), a column each.
        border: (trees, depth); the answer is yes where the column's number is greater.
        leaves: (trees, 2^depth); the first question is the lowest bit.
        bias: added to the sum.
    """

    widths: Mapping[str, int]
    feature: npt.NDArray[np.int64]
    border: Floats
    leaves: Floats
    bias: float
    towers: tuple[str, ...] = ()
    alignment: str = ""
    validation: Mapping[str, Any] = field(default_factory=dict)
    match: MatchThreshold | None = None
    kind: ClassVar[str] = "catboost"

    def __post_init__(self) -> None:
        check_readable(self.widths)

    @property
    def reads(self) -> frozenset[str]:
        """See `Head`."""
        return frozenset(self.widths)

    @property
    def image_width(self) -> int:
        """See `Head`; trees need the features themselves."""
        return self.widths.get("image", 0)

    @property
    def text_width(self) -> int:
        """See `Head`."""
        return sum(self.widths.get(name, 0) for name in OF_TEXT)

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        columns = np.concatenate([inputs[name] for name in INPUTS if name in self.widths], axis=1)
        yes = columns[:, self.feature] > self.border
        leaf = (yes << np.arange(self.feature.shape[1])).sum(axis=2)
        values = self.leaves[np.arange(len(self.leaves)), leaf]
        return cut(values.sum(axis=1, dtype=np.float32) + np.float32(self.bias))

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        arrays: dict[str, np.ndarray] = {"feature": self.feature, "border": self.border, "leaves": self.leaves}
        return {"widths": dict(self.widths), "bias": self.bias}, arrays

    @classmethod
    def of_files(cls, raw: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TreesHead:
        """The inverse of `parameters`."""
        return cls(
            widths={name: int(raw["widths"][name]) for name in INPUTS if name in raw["widths"]},
            feature=arrays["feature"].astype(np.int64),
            border=arrays["border"],
            leaves=arrays["leaves"],
            bias=float(raw["bias"]),
            towers=tuple(raw["towers"]),
            alignment=raw["alignment"],
            validation=raw["validation"],
        )
