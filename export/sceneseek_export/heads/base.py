"""What all heads have in common: the inputs that they may read of a pair, and the first layer over them.

| input | width | what |
|---|---|---|
| ``similarity`` | 1 | the joint-space cosine |
| ``product`` | D | the elementwise product of the joint vectors |
| ``image`` | F | the image towers' features side by side, each in its range |
| ``text`` | T | the text towers' outputs side by side, each scaled to length 1 |
| ``spread`` | S | how the text's similarities to typical images lie (`Alignment.text_spread`) |

The first layer is a sum that is split between the graphs: what sees the image alone moves into the image graph and what
sees the text alone, with the bias, into the text graph; the rest is left for the pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from sceneseek.bundle import MatchThreshold
from sceneseek.vectors import Floats

INPUTS = ("similarity", "product", "image", "text", "spread")
OF_TEXT = ("text", "spread")


@dataclass(frozen=True)
class FirstLayer:
    """H sums over the inputs that a head reads.

    Attributes:
        weights: by input, (H, width).
        bias: (H,).
    """

    weights: Mapping[str, Floats]
    bias: Floats

    def __post_init__(self) -> None:
        check_readable(self.weights)

    @property
    def image_width(self) -> int:
        """H where it reads the image alone, else 0."""
        return len(self.bias) if "image" in self.weights else 0

    @property
    def text_width(self) -> int:
        """H where it reads the text alone, else 0."""
        return len(self.bias) if set(OF_TEXT) & set(self.weights) else 0

    def __call__(self, inputs: Mapping[str, Floats]) -> Floats:
        """Inputs (P, width) each to (P, H)."""
        total: Floats = self.bias[None, :]
        for name, weight in self.weights.items():
            total = total + inputs[name] @ weight.T
        return total


def check_readable(inputs: Iterable[str]) -> None:
    """Refuse inputs that no head can read, or that tell images apart by nothing.

    Raises:
        ValueError: they are such.
    """
    read = set(inputs)
    if read - set(INPUTS):
        raise ValueError(f"a head cannot read {sorted(read - set(INPUTS))}")
    if read <= set(OF_TEXT):
        raise ValueError("a head that sees no image gives every image the same score")


def pair_inputs(
    image_joint: Floats, image: Floats, text_joint: Floats, text: Floats, spread: Floats
) -> dict[str, Floats]:
    """The inputs of N images beside one text.

    Args:
        image_joint: (N, D).
        image: (N, F).
        text_joint: (D,).
        text: (T,).
        spread: (S,).
    """
    count = len(image_joint)
    return {
        "similarity": (image_joint @ text_joint)[:, None],
        "product": image_joint * text_joint,
        "image": image,
        "text": np.broadcast_to(text, (count, len(text))),
        "spread": np.broadcast_to(spread, (count, len(spread))),
    }


class Head(Protocol):
    """A regressor in [0, 1].

    Attributes:
        kind: its name in files and manifests.
        reads: those of `INPUTS` that it looks at.
        towers: those whose features are its ``image`` input and whose vectors are its ``text`` input, in order;
            no text tower need be named where the pack has only one.
        alignment: fingerprint of the joint space that it was trained on; empty for one that fits any.
        image_width, text_width: H_i and H_t, the widths of its share of an image and of a text.
        validation: its figures and how they were obtained, JSON values.
        match: the score from which a pair counts as a match, where one was found.
    """

    kind: ClassVar[str]

    @property
    def reads(self) -> frozenset[str]: ...  # noqa: D102 - see the class

    @property
    def towers(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def alignment(self) -> str: ...  # noqa: D102

    @property
    def image_width(self) -> int: ...  # noqa: D102

    @property
    def text_width(self) -> int: ...  # noqa: D102

    @property
    def validation(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def match(self) -> MatchThreshold | None: ...  # noqa: D102

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """The unsplit head: scores (P,) of P pairs, whose inputs are (P, width) each."""

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `files` writes: JSON values, and arrays by name."""


def sigmoid(logits: Floats) -> Floats:
    """Numerically stable at both ends."""
    half: Floats = np.tanh(logits * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5)
    return half


def cut(scores: Floats) -> Floats:
    """Brought into [0, 1]."""
    inside: Floats = np.clip(scores, np.float32(0), np.float32(1))
    return inside
