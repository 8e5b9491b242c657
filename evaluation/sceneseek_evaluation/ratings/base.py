"""What ratings are, whichever file they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from sceneseek.vectors import Floats

Aggregation = Literal["mean", "median", "majority"]


@dataclass(frozen=True)
class Ratings:
    """P rated pairs of N images and M captions.

    Attributes:
        label: the file's name.
        names, paths: (N) the images, paths relative to their folder, and their files.
        captions: (M) the captions' texts, no two alike.
        image, caption: int64 (P,), positions in these.
        target: float32 (P,), in [0, 1].
        weight: float32 (P,), how many raters or votes stand behind the target.
        scores: float32 (P, R), each rater's score brought to [0, 1], NaN where fewer than R rated; R is 0 for
            crowd votes.
        own: bool (P,), whether the caption was written for this image.
        left_out: how many rows were left out, by reason.
        merged: how many rows were merged into others, by reason.
    """

    label: str
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    image: npt.NDArray[np.int64]
    caption: npt.NDArray[np.int64]
    target: Floats
    weight: Floats
    scores: Floats
    own: npt.NDArray[np.bool_]
    left_out: dict[str, int]
    merged: dict[str, int]

    def __len__(self) -> int:
        return len(self.target)

    def take(self, places: npt.NDArray[np.int64], left_out: dict[str, int]) -> Ratings:
        """The pairs at these places, with another account of what was left out; images and captions stay."""
        return replace(
            self,
            image=self.image[places],
            caption=self.caption[places],
            target=self.target[places],
            weight=self.weight[places],
            scores=self.scores[places],
            own=self.own[places],
            left_out=left_out,
        )
