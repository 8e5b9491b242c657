"""What all heads have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from sceneseek.match import MatchThreshold
from sceneseek.vectors import Floats


class Head(Protocol):
    """A regressor in [0, 1].

    Attributes:
        kind: its name in files and manifests.
        reads: those of `inputs.INPUTS` that it looks at.
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
