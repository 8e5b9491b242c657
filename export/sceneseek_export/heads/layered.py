"""Heads that begin with a sum over their inputs: the constant, the linear model, the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sceneseek.match import MatchThreshold
from sceneseek.vectors import Floats
from sceneseek_export.heads.base import cut, sigmoid
from sceneseek_export.heads.cosine import Calibration
from sceneseek_export.heads.inputs import FirstLayer


@dataclass(frozen=True)
class ConstantHead:
    """The same score for every pair."""

    value: float
    alignment: str = ""
    validation: Mapping[str, Any] = field(default_factory=dict)
    match: MatchThreshold | None = None
    kind: ClassVar[str] = "constant"

    # How many candidates there are must come from somewhere.
    reads: ClassVar[frozenset[str]] = frozenset({"similarity"})
    towers: ClassVar[tuple[str, ...]] = ()
    image_width: ClassVar[int] = 0
    text_width: ClassVar[int] = 0

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        return np.full(len(inputs["similarity"]), self.value, np.float32)

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        return {"value": self.value}, {}

    @classmethod
    def of_files(cls, raw: Mapping[str, Any], _: Mapping[str, Floats]) -> ConstantHead:
        """The inverse of `parameters`."""
        return cls(float(raw["value"]), raw["alignment"], raw["validation"])


class _Layered:
    """What follows from having a first layer."""

    first: FirstLayer

    @property
    def image_width(self) -> int:
        """See `Head`."""
        return self.first.image_width

    @property
    def text_width(self) -> int:
        """See `Head`."""
        return self.first.text_width


@dataclass(frozen=True)
class LinearHead(_Layered):
    """One weighted sum, cut to [0, 1]: `first` has one output."""

    first: FirstLayer
    towers: tuple[str, ...] = ()
    alignment: str = ""
    validation: Mapping[str, Any] = field(default_factory=dict)
    match: MatchThreshold | None = None
    kind: ClassVar[str] = "linear"

    @property
    def reads(self) -> frozenset[str]:
        """See `Head`."""
        return frozenset(self.first.weights)

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        return cut(self.first(inputs)[:, 0])

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        return {}, _first_arrays(self.first)

    @classmethod
    def of_files(cls, raw: Mapping[str, Any], arrays: Mapping[str, Floats]) -> LinearHead:
        """The inverse of `parameters`."""
        return cls(_first(arrays), tuple(raw["towers"]), raw["alignment"], raw["validation"])


@dataclass(frozen=True)
class MlpHead(_Layered):
    """A network that corrects the calibrated cosine's logit.

    All layers but the last are followed by a ReLU; the last has one output. Batch normalisation and dropout
    are training's: the one is folded into the weights, the other is gone.

    Attributes:
        calibration: the curve whose logit is corrected; slope 0 leaves the network alone.
        first: over the inputs.
        layers: (weight (out, in), bias (out,)) of the layers after the first.
    """

    calibration: Calibration
    first: FirstLayer
    layers: tuple[tuple[Floats, Floats], ...]
    towers: tuple[str, ...] = ()
    alignment: str = ""
    validation: Mapping[str, Any] = field(default_factory=dict)
    match: MatchThreshold | None = None
    kind: ClassVar[str] = "mlp"

    @property
    def reads(self) -> frozenset[str]:
        """See `Head`."""
        return frozenset(self.first.weights) | {"similarity"}

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        hidden = self.first(inputs)
        for weight, bias in self.layers:
            hidden = np.maximum(hidden, 0) @ weight.T + bias
        return sigmoid(self.calibration.logit(inputs["similarity"][:, 0]) + hidden[:, 0])

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        arrays = _first_arrays(self.first)
        for i, (weight, bias) in enumerate(self.layers):
            arrays |= {f"layer{i}.weight": weight, f"layer{i}.bias": bias}
        return {"layers": len(self.layers), "calibration": self.calibration.to_json()}, arrays

    @classmethod
    def of_files(cls, raw: Mapping[str, Any], arrays: Mapping[str, Floats]) -> MlpHead:
        """The inverse of `parameters`."""
        layers = tuple((arrays[f"layer{i}.weight"], arrays[f"layer{i}.bias"]) for i in range(raw["layers"]))
        calibration = Calibration.from_json(raw["calibration"])
        return cls(calibration, _first(arrays), layers, tuple(raw["towers"]), raw["alignment"], raw["validation"])


def _first_arrays(first: FirstLayer) -> dict[str, np.ndarray]:
    return {**{f"first.{name}": weight for name, weight in first.weights.items()}, "first.bias": first.bias}


def _first(arrays: Mapping[str, Floats]) -> FirstLayer:
    weights = {name.removeprefix("first."): array for name, array in arrays.items() if name.startswith("first.")}
    return FirstLayer({name: weight for name, weight in weights.items() if name != "bias"}, weights["bias"])
