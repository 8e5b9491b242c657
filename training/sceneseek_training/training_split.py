"""The training data of a regressor: a split of the rated pairs, and its inputs as a standardised matrix.

`Columns` converts inputs to a matrix, and weights over that matrix to the first layer of a head.
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
    """The data that a head may be trained on.

    Attributes:
        space: images, captions and pairs.
        expert, crowd: positions in `space.expert` and `space.crowd`.
        images, captions: bool (N,), (M,): the allowed images and captions, rated or not.
        seed: seed of all randomness.
    """

    space: RatedSpace
    expert: Positions
    crowd: Positions
    images: npt.NDArray[np.bool_]
    captions: npt.NDArray[np.bool_]
    seed: int

    @classmethod
    def whole(cls, space: RatedSpace, seed: int) -> TrainingSplit:
        """Return the split with all pairs."""
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
        """The targets of the expert pairs."""
        targets: Floats = self.space.expert.target[self.expert]
        return targets

    def without(self, images: npt.NDArray[np.bool_], captions: npt.NDArray[np.bool_]) -> TrainingSplit:
        """Return the split without the pairs of these images (N,) and captions (M,)."""
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
        """Return the split with a random share of the rated images, and all expert ratings and crowd labels of them."""
        rng = np.random.default_rng((self.seed, round(1e6 * share)))
        rated = np.unique(self.space.expert.image[self.expert])
        kept = np.zeros(len(self.images), np.bool_)
        kept[rng.permutation(rated)[: max(1, round(share * len(rated)))]] = True
        return self.without(~kept, np.zeros(len(self.captions), np.bool_))


Doubles = npt.NDArray[np.float64]

# A column that varies less, relative to its size, counts as constant and becomes 0.
_MIN_VARIATION = 1e-3


@dataclass(frozen=True)
class Columns:
    """The columns of concatenated inputs, and their scaling: (x - mean) / deviation.

    Attributes:
        widths: the width of each input, in order.
        mean, deviation: (C,); the deviation of a constant column is infinite.
        parts: (D, P), from the product to ``parts``; see `sceneseek_export.alignment.Alignment.parts`.
    """

    widths: Mapping[str, int]
    mean: Doubles
    deviation: Doubles
    parts: Floats

    @classmethod
    def of(cls, inputs: Mapping[str, Floats], parts: Floats, standardise: bool = True) -> Columns:
        """Return the columns of inputs (P, width); without `standardise`, scaling does not change them."""
        columns = joined(inputs).astype(np.float64)
        widths = {name: values.shape[1] for name, values in inputs.items()}
        if not standardise:
            return cls(widths, np.zeros(columns.shape[1]), np.ones(columns.shape[1]), parts)
        mean, deviation = columns.mean(axis=0), columns.std(axis=0)
        constant = deviation <= _MIN_VARIATION * np.sqrt((columns**2).mean(axis=0))
        return cls(widths, mean, np.where(constant, np.inf, deviation), parts)

    def scale(self, inputs: Mapping[str, Floats]) -> Floats:
        """Concatenate and scale inputs (P, width) to (P, C)."""
        scaled: Floats = ((joined(inputs) - self.mean) / self.deviation).astype(np.float32)
        return scaled

    def first_layer(self, weight: npt.NDArray[np.floating], bias: npt.NDArray[np.floating]) -> FirstLayer:
        """Convert weights (H, C) and bias (H,) over scaled columns to a first layer over unscaled inputs."""
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
    """Concatenate the inputs to (P, C)."""
    return np.concatenate(list(inputs.values()), axis=1)


def read_inputs(recipe: HeadRecipe, split: TrainingSplit) -> tuple[dict[str, Floats], Floats]:
    """Return the inputs of the split's expert pairs, without empty ones, and the targets (P,)."""
    pairs = split.space.expert.take(split.expert)
    inputs = split.space.inputs(recipe.inputs, pairs)
    return {name: values for name, values in inputs.items() if values.shape[1]}, pairs.target


def towers_read(recipe: HeadRecipe, split: TrainingSplit) -> tuple[str, ...]:
    """Return the towers whose features and vectors the head reads."""
    images = split.space.towers if "image" in recipe.inputs else ()
    return (*images, *(split.space.text_towers if "text" in recipe.inputs else ()))
