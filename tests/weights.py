"""Heads and alignments with random weights, for tests of storing and splitting them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sceneseek.vectors import Floats
from sceneseek_export.alignment import Alignment, image_key
from sceneseek_export.alignment_maps import (
    ClassNames,
    FeatureRange,
    Hubness,
    LearnedBlock,
    Mixing,
    Space,
    Typical,
    normalise,
    rounded,
)
from sceneseek_export.curves import Calibration, IsotonicCurve
from sceneseek_export.heads import INPUTS, ConstantHead, CosineHead, FirstLayer, Head, LinearHead, MlpHead, TreesHead

# Of the random alignment: features per image tower; number of classes; width of a text's features.
TOWERS = {"a": 5, "b": 4}
CLASSES, TEXT = 10, 6
CALIBRATION = Calibration(7.5, -2.5, "test", {"rmse": 0.2})
CURVE = IsotonicCurve(np.array([-0.5, 0.1, 0.4], np.float32), np.array([0.1, 0.2, 0.9], np.float32))


def numbers(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Floats:
    """Normally distributed numbers of this shape."""
    return (scale * rng.normal(size=shape)).astype(np.float32)


def drawn_block(rng: np.random.Generator, towers: tuple[str, ...], dimensions: int, share: float) -> LearnedBlock:
    """A block of the random alignment, which also reads class names."""
    width = sum(TOWERS[tower] for tower in towers) + TEXT
    return LearnedBlock(
        towers=towers,
        image_weight=rounded(numbers(rng, dimensions, width)),
        image_bias=rounded(numbers(rng, dimensions)),
        text_weight=rounded(numbers(rng, dimensions, TEXT)),
        text_bias=rounded(numbers(rng, dimensions)),
        share=share,
    )


def drawn_alignment(seed: int = 0) -> Alignment:
    """An alignment named `compact`, with two small image towers and every optional part that one text tower allows."""
    return Alignment(
        pack="compact",
        spaces=(drawn_space_of("words", seed),),
        names={"words": drawn_names(seed)},
        calibration=CALIBRATION,
        ranges={"a": FeatureRange(np.linspace(-2, -1, 5, dtype=np.float32), np.linspace(1, 2, 5, dtype=np.float32))},
        learned_images=np.sort(np.array([image_key(b"one"), image_key(b"two"), 2**64 - 1], np.uint64)),
        card={"seed": seed},
    )


def drawn_names(seed: int) -> ClassNames:
    """Class names for both image towers."""
    rng = np.random.default_rng((seed, 3))
    return ClassNames(("a", "b"), rounded(normalise(numbers(rng, CLASSES, TEXT))), temperature=1.5, top=3)


def drawn_space_of(text: str, seed: int) -> Space:
    """A space of two blocks, with hubness correction and typical images."""
    rng = np.random.default_rng(seed)
    plain = Space(text, (drawn_block(rng, ("a", "b"), 8, 0.75), drawn_block(rng, ("b",), 5, 0.25)))
    bank = rounded(plain.text_blocks(numbers(rng, 20, TEXT)))
    typical = Typical(
        means=tuple(rounded(numbers(rng, d, scale=0.1)) for d in (8, 5)),
        roots=tuple(rounded(numbers(rng, k, d, scale=0.2)) for k, d in ((4, 8), (5, 5))),
    )
    return replace(plain, hubness=Hubness(bank, neighbours=3, weight=0.2), typical=typical)


def with_space(alignment: Alignment, **changes: Any) -> Alignment:
    """Return the alignment with changes to its last space."""
    *others, last = alignment.spaces
    return replace(alignment, spaces=(*others, replace(last, **changes)))


def with_two_texts(alignment: Alignment, second: str = "sentences", seed: int = 0) -> Alignment:
    """Return the alignment with a second text tower that has two spaces, and a mixing."""
    rng = np.random.default_rng((seed, 2))
    weight, bias = rounded(numbers(rng, TEXT, TEXT)), rounded(numbers(rng, TEXT))
    return replace(
        alignment,
        spaces=(*alignment.spaces, drawn_space_of(second, seed + 1), drawn_space_of(second, seed + 2)),
        names={**alignment.names, second: replace(drawn_names(seed + 1), top=4)},
        mixing=Mixing(alignment.spaces[0].text, second, weight, bias, 3.0, 0.25, (0.6, 0.4, 0.1), (0.0, 0.3, 0.7)),
    )


def drawn_head(kind: str, widths: Mapping[str, int], seed: int = 0, towers: tuple[str, ...] = tuple(TOWERS)) -> Head:
    """A random head.

    Args:
        kind: see `Head.kind`; ``isotonic`` is the cosine with the other curve.
        widths: width of each input that it reads, in any order.
        seed: of the weights.
        towers: see `Head.towers`; ignored if the head does not read ``image``.
    """
    rng = np.random.default_rng((seed, 1))
    towers = towers if "image" in widths else ()
    if kind == "constant":
        return ConstantHead(0.4)
    if kind in ("cosine", "isotonic"):
        return CosineHead(CALIBRATION if kind == "cosine" else CURVE)
    if kind == "linear":
        first = drawn_first_layer(rng, 1, widths, 0.1)
        return LinearHead(replace(first, bias=first.bias + np.float32(0.5)), towers=towers)
    if kind == "mlp":
        layers = tuple((numbers(rng, o, i, scale=i**-0.5), numbers(rng, o)) for o, i in ((7, 9), (1, 7)))
        return MlpHead(drawn_first_layer(rng, 9, widths, 1.0), layers, CALIBRATION, towers=towers)
    if kind == "catboost":
        trees, depth, total = 20, 4, sum(widths.values())
        scales = np.concatenate([np.full(widths[name], _TYPICAL[name]) for name in INPUTS if name in widths])
        feature = rng.integers(0, total, (trees, depth))
        border = (scales[feature] * rng.normal(size=(trees, depth))).astype(np.float32)
        return TreesHead(widths, feature, border, numbers(rng, trees, 2**depth, scale=0.05), 0.5, towers=towers)
    raise ValueError(kind)


# Typical magnitude of each input.
_TYPICAL = {"similarity": 0.3, "product": 0.05, "image": 1.0, "text": 0.4, "spread": 0.2}


def drawn_inputs(rng: np.random.Generator, count: int, widths: Mapping[str, int]) -> tuple[Floats, ...]:
    """The arguments of `pair_inputs`: `count` images and one text, with inputs of these widths."""
    images, text = normalise(numbers(rng, count, widths["product"])), normalise(numbers(rng, 1, widths["product"]))[0]
    shares = [numbers(rng, widths[name], scale=_TYPICAL[name]) for name in ("text", "spread")]
    return images, numbers(rng, count, widths["image"]), text, *shares


def drawn_first_layer(rng: np.random.Generator, outputs: int, widths: Mapping[str, int], scale: float) -> FirstLayer:
    """A first layer to whose sums each input contributes about equally."""
    weights = {
        name: numbers(rng, outputs, width, scale=scale * width**-0.5 / _TYPICAL[name]) for name, width in widths.items()
    }
    return FirstLayer(weights, numbers(rng, outputs, scale=scale))
