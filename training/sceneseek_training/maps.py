"""The parameters of a joint space while they are learned, over scaled inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sceneseek_training.affine import AffinePair
from sceneseek_training.recipe import BlockRecipe, Recipe

# A feature that varies less, beside its size, counts as constant: divided by its deviation and multiplied by
# its mean it would drown the others' bits in float16.
_LEAST_VARIATION = 1e-3


@dataclass(frozen=True)
class Scaling:
    """How inputs are scaled: features by their `mean` and `deviation` (F,), the others by a number."""

    mean: Tensor
    deviation: Tensor
    names: float
    text: float

    @classmethod
    def of(cls, features: Tensor, recipe: Recipe) -> Scaling:
        """Features (N, F) are brought to mean 0 and deviation 1; those that do not vary, to 0."""
        mean, deviation = features.mean(0), features.std(0)
        constant = deviation <= _LEAST_VARIATION * features.square().mean(0).sqrt()
        return cls(mean, deviation.masked_fill(constant, torch.inf), recipe.names_scale, recipe.text_scale)

    def image(self, features: Tensor, names: Tensor) -> Tensor:
        """The image map's input (..., F + T)."""
        return torch.cat([(features - self.mean) / self.deviation, self.names * names], -1)


@dataclass(frozen=True)
class Maps:
    """Image weight (d, F + T) and bias (d,), text weight (d, T) and bias (d,), log of the inverse temperature."""

    image_weight: Tensor
    image_bias: Tensor
    text_weight: Tensor
    text_bias: Tensor
    scale: Tensor

    @classmethod
    def first(cls, features: int, texts: int, block: BlockRecipe, recipe: Recipe, dice: torch.Generator) -> Maps:
        """Class names and texts begin with the same rotation, so that they compare well from the start."""
        d, named = block.width, texts if recipe.names else 0
        rotation = torch.linalg.qr(torch.randn(max(d, texts), min(d, texts), generator=dice))[0]
        rotation = rotation if d >= texts else rotation.T
        bound = (features + named) ** -0.5
        weights = _uniform((d, features), bound, dice) * recipe.first_features
        start = cls(
            torch.cat([weights, 2 * rotation[:, :named] / recipe.names_scale], 1),
            _uniform((d,), bound, dice),
            2 * rotation / recipe.text_scale,
            _uniform((d,), texts**-0.5, dice),
            torch.tensor(recipe.first_scale),
        )
        for parameter in (*start.of_images, *start.of_texts):
            parameter.requires_grad_()
        return start

    @property
    def of_images(self) -> list[Tensor]:
        """The image map's parameters, and the temperature."""
        return [self.image_weight, self.image_bias, self.scale]

    @property
    def of_texts(self) -> list[Tensor]:
        """The text map's parameters."""
        return [self.text_weight, self.text_bias]

    def image(self, inputs: Tensor) -> Tensor:
        """(N, F + T) scaled inputs to (N, d) of length 1."""
        return normalize(inputs @ self.image_weight.T + self.image_bias, dim=-1)

    def text(self, inputs: Tensor) -> Tensor:
        """(N, T) scaled inputs to (N, d) of length 1."""
        return normalize(inputs @ self.text_weight.T + self.text_bias, dim=-1)

    def contrast(self, images: Tensor, texts: Tensor) -> Tensor:
        """The symmetric contrastive loss of N pairs of vectors of length 1."""
        logits, own = self.scale.exp() * images @ texts.T, torch.arange(len(images))
        return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2

    def folded(self, scaling: Scaling) -> AffinePair:
        """The same maps over unscaled inputs."""
        with torch.no_grad():
            features = len(scaling.mean)
            of_features = self.image_weight[:, :features] / scaling.deviation
            of_names = self.image_weight[:, features:] * scaling.names
            return AffinePair(
                image_weight=torch.cat([of_features, of_names], 1).numpy(),
                image_bias=(self.image_bias - of_features @ scaling.mean).numpy(),
                text_weight=(self.text_weight * scaling.text).numpy(),
                text_bias=self.text_bias.numpy(),
            )


def _uniform(shape: tuple[int, ...], bound: float, dice: torch.Generator) -> Tensor:
    return (2 * torch.rand(shape, generator=dice) - 1) * bound
