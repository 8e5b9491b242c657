"""The parts of an alignment in numpy: spaces, their blocks, hubness and mixing. `alignment` has the formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sceneseek.vectors import Floats

_MAPS = ("image_weight", "image_bias", "text_weight", "text_bias")


@dataclass(frozen=True)
class ClassNames:
    """Converts the logits (N, C) of classifiers to text vectors (N, T).

    Attributes:
        towers: the image towers whose logits are read; all classify the same C classes.
        embeddings: (C, T), a vector of length 1 for each class, in the text tower's space.
        temperature: divides the logits before the softmax.
        top: number of most probable classes to combine.
    """

    towers: tuple[str, ...]
    embeddings: Floats
    temperature: float
    top: int

    def combine(self, logits: Mapping[str, Floats]) -> Floats:
        """Vectors (N, T) of length 1 from each classifier's logits (N, C), by tower."""
        total = np.zeros((1, self.embeddings.shape[1]), np.float32)
        for tower in self.towers:
            total = total + self.combine_one(logits[tower])
        return normalise(total)

    def combine_one(self, logits: Floats) -> Floats:
        """Vectors (N, T) of length 1 from the logits (N, C) of one classifier."""
        scaled = logits / np.float32(self.temperature)
        p = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        rest = np.argpartition(-p, self.top - 1, axis=1)[:, self.top :]
        np.put_along_axis(p, rest, 0.0, axis=1)
        return normalise(p @ self.embeddings)


@dataclass(frozen=True)
class FeatureRange:
    """The range of a tower's features in the training images, `low` and `high` (F,); both may be infinite.

    Features outside are clipped, since maps learned from photographs would extrapolate on drawings.
    """

    low: Floats
    high: Floats

    def clip(self, features: Floats) -> Floats:
        """Features (N, F), clipped to the range."""
        clipped: Floats = np.maximum(np.minimum(features, self.high), self.low)
        return clipped


@dataclass(frozen=True)
class LearnedBlock:
    """A pair of affine maps into a common space of d dimensions.

    Attributes:
        towers: the image towers whose features are the map's input, in order; the class-name vector follows them if
            the space has one.
        image_weight, image_bias: (d, sum of widths), (d,).
        text_weight, text_bias: (d, T), (d,).
        share: share of the similarity; all shares of a space sum to 1.
    """

    towers: tuple[str, ...]
    image_weight: Floats
    image_bias: Floats
    text_weight: Floats
    text_bias: Floats
    share: float


@dataclass(frozen=True)
class Mixing:
    """The weight of each space for a text, by how well the first of two text towers understands it.

    The first tower's vector is predicted from the second's; a is the agreement of vector and prediction:

        a = t_1 . normalise(W t_2 + b)
        s = 1 / (1 + exp(-slope (a - middle)))
        w = s known + (1 - s) unknown

    so a text in a language that only the second tower supports has the weights `unknown`.

    Attributes:
        first, second: the text towers.
        weight, bias: W (T_1, T_2) and b (T_1,).
        slope, middle: parameters of the logistic curve over a.
        known, unknown: a weight for each space.
    """

    first: str
    second: str
    weight: Floats
    bias: Floats
    slope: float
    middle: float
    known: tuple[float, ...]
    unknown: tuple[float, ...]

    def understood(self, texts: Mapping[str, Floats]) -> Floats:
        """The s of the class, (N, 1), from each tower's vectors (N, T) of length 1."""
        expected = normalise(texts[self.second] @ self.weight.T + self.bias)
        agreement = (texts[self.first] * expected).sum(axis=1, keepdims=True)
        understood: Floats = 1 / (1 + np.exp(-np.float32(self.slope) * (agreement - np.float32(self.middle))))
        return understood

    def weights(self, understood: Floats) -> Floats:
        """The weights w of the class, (N, spaces), from s (N, 1)."""
        known, unknown = np.array(self.known, np.float32), np.array(self.unknown, np.float32)
        weights: Floats = unknown + understood * (known - unknown)
        return weights


@dataclass(frozen=True)
class Hubness:
    """A penalty for images that are near to every text.

    Attributes:
        bank: (K, D), the blocks' vectors z of a fixed set of texts.
        neighbours: number of nearest texts whose mean similarity to an image is its hubness.
        weight: g, the share of the hubness that is subtracted.
    """

    bank: Floats
    neighbours: int
    weight: float

    def __post_init__(self) -> None:
        if not 1 <= self.neighbours <= len(self.bank) or not self.weight > 0:
            raise ValueError("hubness needs a positive weight, and at most as many neighbours as its bank has texts")

    def of(self, images: Floats) -> Floats:
        """Mean similarities (N,) of images, from their vectors z (N, D)."""
        similarity = images @ self.bank.T
        nearest = np.partition(similarity, -self.neighbours, axis=1)[:, -self.neighbours :]
        mean: Floats = nearest.mean(axis=1)
        return mean


@dataclass(frozen=True)
class Typical:
    """The distribution of the training images in each block, with which a similarity to a text is compared.

    Attributes:
        means: the mean (d,) of the images' u, for each block.
        roots: (k, d) for each block; root.T @ root is the covariance of the images' u, reduced to its k largest
            eigenvalues.
    """

    means: tuple[Floats, ...]
    roots: tuple[Floats, ...]

    def spread(self, blocks: Sequence[Floats]) -> Floats:
        """Mean and standard deviation of a text's cosine with a typical image, for each block.

        The blocks' u of M texts, each (M, d), become (M, 2 x blocks).
        """
        columns = []
        for u, mean, root in zip(blocks, self.means, self.roots, strict=True):
            columns += [u @ mean, np.linalg.norm(u @ root.T, axis=1)]
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Space:
    """A joint space of the image towers and one text tower.

    Attributes:
        text: the text tower.
        blocks: the learned maps, in the order of their dimensions in the joint vector.
        hubness: penalty for images that are near to every text, or None.
        typical: distribution of images in the blocks, or None if unknown.
    """

    text: str
    blocks: tuple[LearnedBlock, ...]
    hubness: Hubness | None = None
    typical: Typical | None = None

    def __post_init__(self) -> None:
        total = sum(block.share for block in self.blocks)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of the blocks of a space sum to {total}, not to 1")

    @property
    def joint(self) -> int:
        """Width of the joint vectors."""
        return sum(len(block.image_bias) for block in self.blocks) + (2 if self.hubness else 0)

    @property
    def spread(self) -> int:
        """Width of a text's `Typical.spread`; 0 without one."""
        return 2 * len(self.blocks) if self.typical else 0

    @property
    def parts(self) -> Floats:
        """A matrix (D, P) that splits the elementwise product of an image's and a text's joint vectors into parts.

        The parts are each block's own cosine and, with hubness, the image's r.
        """
        weight = self.hubness.weight if self.hubness else 0.0
        matrix = np.zeros((self.joint, len(self.blocks) + bool(self.hubness)), np.float32)
        start = 0
        for i, block in enumerate(self.blocks):
            stop = start + len(block.image_bias)
            matrix[start:stop, i] = (1 + weight) / block.share
            start = stop
        if self.hubness:
            matrix[start:, -1] = -(1 + weight) / weight
        return matrix

    def image_joint(self, features: Mapping[str, Floats], names: Floats | None) -> Floats:
        """Joint vectors (N, D) of images.

        Args:
            features: each tower's features (N, F), clipped.
            names: the class-name vectors (N, T) in the space of the text tower; None if the space has none.
        """
        parts = []
        for block in self.blocks:
            inputs = [*(features[tower] for tower in block.towers), *([] if names is None else [names])]
            u = normalise(np.concatenate(inputs, axis=1) @ block.image_weight.T + block.image_bias)
            parts.append(np.sqrt(np.float32(block.share)) * u)
        z: Floats = np.concatenate(parts, axis=1)
        if self.hubness is None:
            return z
        r = self.hubness.of(z)[:, None]
        g = np.float32(self.hubness.weight)
        rest = np.sqrt(np.maximum(1 - r * r, 0))
        joint: Floats = np.concatenate([z, -np.sqrt(g) * r, np.sqrt(g) * rest], axis=1) / np.sqrt(1 + g)
        return joint

    def text_joint(self, texts: Floats) -> Floats:
        """Joint vectors (N, D) of texts, from the tower's output (N, T)."""
        z = self.text_blocks(texts)
        if self.hubness is None:
            return z
        g = np.float32(self.hubness.weight)
        constant = np.broadcast_to(np.array([np.sqrt(g), 0], np.float32), (len(z), 2))
        joint: Floats = np.concatenate([z, constant], axis=1) / np.sqrt(1 + g)
        return joint

    def text_blocks(self, texts: Floats) -> Floats:
        """The blocks' vectors z (N, D) of texts, as in a bank, from the tower's output (N, T)."""
        parts = [
            np.sqrt(np.float32(block.share)) * u for block, u in zip(self.blocks, self._mapped(texts), strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def text_spread(self, texts: Floats) -> Floats:
        """`Typical.spread` of texts, from the tower's output (N, T); (N, 0) without `typical`."""
        if self.typical is None:
            return np.zeros((len(texts), 0), np.float32)
        return self.typical.spread(self._mapped(texts))

    def _mapped(self, texts: Floats) -> list[Floats]:
        unit = normalise(texts)
        return [normalise(unit @ block.text_weight.T + block.text_bias) for block in self.blocks]

    def structure(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON values."""
        structure: dict[str, Any] = {
            "text": self.text,
            "blocks": [{"towers": list(block.towers), "share": block.share} for block in self.blocks],
        }
        if self.hubness is not None:
            structure["hubness"] = {"neighbours": self.hubness.neighbours, "weight": self.hubness.weight}
        return structure

    def arrays(self) -> dict[str, Floats]:
        """The weights, by name."""
        arrays = {f"block{i}.{name}": getattr(block, name) for i, block in enumerate(self.blocks) for name in _MAPS}
        if self.hubness is not None:
            arrays["hubness.bank"] = self.hubness.bank
        if self.typical is not None:
            for i, (mean, root) in enumerate(zip(self.typical.means, self.typical.roots, strict=True)):
                arrays |= {f"typical{i}.mean": mean, f"typical{i}.root": root}
        return arrays

    @classmethod
    def of(cls, structure: Mapping[str, Any], weights: Mapping[str, Floats], prefix: str) -> Space:
        """The inverse of `structure` and `arrays`; the names of the arrays have a prefix."""
        arrays = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
        blocks = tuple(
            LearnedBlock(
                towers=tuple(block["towers"]),
                share=block["share"],
                **{name: arrays[f"block{i}.{name}"] for name in _MAPS},
            )
            for i, block in enumerate(structure["blocks"])
        )
        hubness = typical = None
        if options := structure.get("hubness"):
            hubness = Hubness(arrays["hubness.bank"], options["neighbours"], options["weight"])
        if "typical0.mean" in arrays:
            typical = Typical(
                tuple(arrays[f"typical{i}.mean"] for i in range(len(blocks))),
                tuple(arrays[f"typical{i}.root"] for i in range(len(blocks))),
            )
        return cls(structure["text"], blocks, hubness, typical)


def normalise(vectors: Floats) -> Floats:
    """Rows scaled to length 1; a row of zeros is unchanged."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = vectors / np.maximum(lengths, 1e-12, dtype=np.float32)
    return scaled


def rounded(weights: Floats) -> Floats:
    """The weights rounded to float16, as in an alignment's file."""
    return weights.astype(np.float16).astype(np.float32)
