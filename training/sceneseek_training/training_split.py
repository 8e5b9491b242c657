"""What a regressor is fitted to: a training split of the rated pairs, and its inputs as a standardised matrix.

`Columns` turns inputs into a matrix and weights over that matrix back into a head's first layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sceneseek.vectors import Floats
from sceneseek_export.heads import FirstLayer
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.rated import Positions, RatedSpace


@dataclass(frozen=True)
class TrainingSplit:
    """What a head may learn from.

    Attributes:
        space: images, captions and pairs.
        expert, crowd: positions in `space.expert` and `space.crowd`.
        images, captions: bool (N,), (M,): which may be read, rated or not.
        seed: of everything random.
    """

    space: RatedSpace
    expert: Positions
    crowd: Positions
    images: npt.NDArray[np.bool_]
    captions: npt.NDArray[np.bool_]
    seed: int

    @classmethod
    def whole(cls, space: RatedSpace, seed: int) -> TrainingSplit:
        """All pairs."""
        return cls(
            space,
            np.arange(len(space.expert)),
            np.arange(len(space.crowd)),
            np.ones(len(space.image_joint), np.bool_),
            np.ones(len(space.text_joint), np.bool_),
            seed,
        )

    @property
    def targets(self) -> Floats:
        """Of the expert pairs."""
        found: Floats = self.space.expert.target[self.expert]
        return found

    def without(self, images: npt.NDArray[np.bool_], captions: npt.NDArray[np.bool_]) -> TrainingSplit:
        """Without the pairs of these images (N,) and captions (M,)."""
        allowed_images, allowed_captions = self.images & ~images, self.captions & ~captions
        expert, crowd = self.space.expert, self.space.crowd
        return TrainingSplit(
            self.space,
            self.expert[(allowed_images[expert.image] & allowed_captions[expert.caption])[self.expert]],
            self.crowd[(allowed_images[crowd.image] & allowed_captions[crowd.caption])[self.crowd]],
            allowed_images,
            allowed_captions,
            self.seed,
        )

    def part(self, share: float) -> TrainingSplit:
        """A part of the rated images, drawn by the seed, with all their expert ratings; crowd labels likewise."""
        rng = np.random.default_rng((self.seed, round(1e6 * share)))
        rated = np.unique(self.space.expert.image[self.expert])
        kept = np.zeros(len(self.images), np.bool_)
        kept[rng.permutation(rated)[: max(1, round(share * len(rated)))]] = True
        return self.without(~kept, np.zeros(len(self.captions), np.bool_))


Doubles = npt.NDArray[np.float64]

# A column that varies less, beside its size, counts as constant and is left at 0.
_LEAST_VARIATION = 1e-3


@dataclass(frozen=True)
class Columns:
    """Inputs side by side, and how their columns are scaled: (x - mean) / deviation.

    Attributes:
        widths: by input, in order.
        mean, deviation: (C,); the deviation of a constant column is infinite.
        parts: (D, P), what ``parts`` are of the product; see `sceneseek_export.alignment.Alignment.parts`.
    """

    widths: Mapping[str, int]
    mean: Doubles
    deviation: Doubles
    parts: Floats

    @classmethod
    def of(cls, inputs: Mapping[str, Floats], parts: Floats, standardise: bool = True) -> Columns:
        """From inputs (P, width) each; not standardised, columns are taken as they are."""
        columns = joined(inputs).astype(np.float64)
        widths = {name: values.shape[1] for name, values in inputs.items()}
        if not standardise:
            return cls(widths, np.zeros(columns.shape[1]), np.ones(columns.shape[1]), parts)
        mean, deviation = columns.mean(axis=0), columns.std(axis=0)
        constant = deviation <= _LEAST_VARIATION * np.sqrt((columns**2).mean(axis=0))
        return cls(widths, mean, np.where(constant, np.inf, deviation), parts)

    def scale(self, inputs: Mapping[str, Floats]) -> Floats:
        """Inputs (P, width) each to (P, C)."""
        scaled: Floats = ((joined(inputs) - self.mean) / self.deviation).astype(np.float32)
        return scaled

    def first_layer(self, weight: npt.NDArray[np.floating], bias: npt.NDArray[np.floating]) -> FirstLayer:
        """Weights (H, C) and bias (H,) over scaled columns, as a first layer over the inputs themselves."""
        raw = weight / self.deviation
        shifted = bias - raw @ self.mean
        weights: dict[str, Doubles] = {}
        start = 0
        for name, width in self.widths.items():
            of_input = raw[:, start : start + width]
            if name == "parts":
                name, of_input = "product", of_input @ self.parts.T  # noqa: PLW2901 - it is the product's part
            weights[name] = weights[name] + of_input if name in weights else of_input
            start += width
        return FirstLayer({n: w.astype(np.float32) for n, w in weights.items()}, shifted.astype(np.float32))


def joined(inputs: Mapping[str, Floats]) -> Floats:
    """(P, C): the inputs side by side."""
    return np.concatenate(list(inputs.values()), axis=1)


def read_inputs(recipe: HeadRecipe, split: TrainingSplit) -> tuple[dict[str, Floats], Floats]:
    """The inputs of the split's expert pairs, without those of no width, and the targets (P,)."""
    pairs = split.space.expert.take(split.expert)
    inputs = split.space.inputs(recipe.inputs, pairs)
    return {name: values for name, values in inputs.items() if values.shape[1]}, pairs.target


def towers_read(recipe: HeadRecipe, split: TrainingSplit) -> tuple[str, ...]:
    """The towers whose features and vectors the head reads."""
    images = split.space.towers if "image" in recipe.inputs else ()
    return (*images, *(split.space.text_towers if "text" in recipe.inputs else ()))
