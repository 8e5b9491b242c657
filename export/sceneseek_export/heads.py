"""Heads: models that score a pair of an image and a text in [0, 1].

A head is data, in numpy: `training` writes it, and `export` splits it into the three graphs and compares these with the
unsplit head. A head may read these inputs of a pair:

| input | width | meaning |
|---|---|---|
| ``similarity`` | 1 | the joint-space cosine |
| ``product`` | D | the elementwise product of the joint vectors |
| ``image`` | F | the image towers' features side by side, each clipped to its range |
| ``text`` | T | the text towers' outputs side by side, each scaled to length 1 |
| ``spread`` | S | distribution of the text's similarities to typical images (`Alignment.text_spread`) |

A first layer is a sum over these inputs and is split between the graphs: the terms of the image alone move to the image
graph, those of the text alone, with the bias, to the text graph; the others remain in the score graph. A head that does
not read ``image`` stores nothing in addition to the joint vectors (H_i = 0), so it can be replaced without indexing
again.

On disk, a head is `head.json` (kind, parameters, metrics, and `match` if there is a threshold) and `head.npz` (arrays).
"""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sceneseek.bundle import MatchThreshold
from sceneseek.errors import DataError
from sceneseek.files import UNREADABLE, write_atomic
from sceneseek.vectors import Floats
from sceneseek_export.curves import Calibration, IsotonicCurve, cut, sigmoid

INPUTS = ("similarity", "product", "image", "text", "spread")
OF_TEXT = ("text", "spread")


def pair_inputs(
    image_joint: Floats, image: Floats, text_joint: Floats, text: Floats, spread: Floats
) -> dict[str, Floats]:
    """The inputs of N images paired with one text.

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


def _check_readable(inputs: Iterable[str]) -> None:
    """Reject inputs that no head can read, or that do not depend on the image."""
    read = set(inputs)
    if read - set(INPUTS):
        raise ValueError(f"a head cannot read {sorted(read - set(INPUTS))}")
    if read <= set(OF_TEXT):
        raise ValueError("a head that does not read the image gives every image the same score")


@dataclass(frozen=True)
class FirstLayer:
    """A linear layer of H outputs over the inputs that a head reads.

    Attributes:
        weights: (H, width) for each input.
        bias: (H,).

    Raises:
        ValueError: no head can read these inputs, or they do not depend on the image.
    """

    weights: Mapping[str, Floats]
    bias: Floats

    def __post_init__(self) -> None:
        _check_readable(self.weights)

    def __call__(self, inputs: Mapping[str, Floats]) -> Floats:
        """The outputs (P, H) for inputs (P, width) each."""
        total: Floats = self.bias[None, :]
        for name, weight in self.weights.items():
            total = total + inputs[name] @ weight.T
        return total


@dataclass(frozen=True, kw_only=True)
class Head(ABC):
    """A regressor of scores in [0, 1].

    Attributes:
        kind: name of the type of head in files and manifests.
        towers: names of the towers whose features are its ``image`` input and whose vectors are its ``text`` input, in
            order; optional for the only text tower of a pack.
        alignment: fingerprint of the joint space that it was trained on; empty if it fits any.
        validation: its metrics and how they were measured, JSON values.
        match: the score from which a pair counts as a match; None if not set.
    """

    kind: ClassVar[str]
    towers: tuple[str, ...] = ()
    alignment: str = ""
    validation: Mapping[str, Any] = field(default_factory=dict)
    match: MatchThreshold | None = None

    @property
    def reads(self) -> frozenset[str]:
        """The names of its inputs, out of `INPUTS`."""
        return frozenset({"similarity"})

    @property
    def image_width(self) -> int:
        """H_i, the width of its share of an image."""
        return 0

    @property
    def text_width(self) -> int:
        """H_t, the width of its share of a text."""
        return 0

    @abstractmethod
    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """Scores (P,) of P pairs by the unsplit head, from inputs (P, width) each."""

    @abstractmethod
    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The parameters of its kind: JSON values, and arrays by name."""

    @classmethod
    @abstractmethod
    def of_parameters(cls, raw: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Head:
        """The inverse of `parameters`."""


@dataclass(frozen=True)
class ConstantHead(Head):
    """The same score for every pair, as a baseline for other heads.

    It reads the similarity only to determine the number of candidates.
    """

    value: float
    kind: ClassVar[str] = "constant"

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        return np.full(len(inputs["similarity"]), self.value, np.float32)

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        return {"value": self.value}, {}

    @classmethod
    def of_parameters(cls, raw: Mapping[str, Any], _: Mapping[str, np.ndarray]) -> ConstantHead:
        """The inverse of `parameters`."""
        return cls(float(raw["value"]))


@dataclass(frozen=True)
class CosineHead(Head):
    """The joint-space cosine, calibrated by a curve."""

    curve: Calibration | IsotonicCurve
    kind: ClassVar[str] = "cosine"

    @classmethod
    def of_calibration(cls, calibration: Calibration) -> CosineHead:
        """A head from the calibration of a joint space, with its metrics."""
        return cls(calibration, validation={"source": calibration.source, **calibration.figures})

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        return self.curve.score(inputs["similarity"][:, 0])

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        if isinstance(self.curve, IsotonicCurve):
            return {"curve": "isotonic"}, {"at": self.curve.at, "scores": self.curve.scores}
        return {"curve": "logistic", "calibration": self.curve.to_json()}, {}

    @classmethod
    def of_parameters(cls, raw: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> CosineHead:
        """The inverse of `parameters`."""
        if raw["curve"] == "isotonic":
            return cls(IsotonicCurve(arrays["at"], arrays["scores"]))
        return cls(Calibration.from_json(raw["calibration"]))


@dataclass(frozen=True)
class _LayeredHead(Head):
    """Base of the heads with a first layer over the inputs."""

    first: FirstLayer

    @property
    def reads(self) -> frozenset[str]:
        """See `Head`."""
        return frozenset(self.first.weights)

    @property
    def image_width(self) -> int:
        """See `Head`."""
        return len(self.first.bias) if "image" in self.reads else 0

    @property
    def text_width(self) -> int:
        """See `Head`."""
        return len(self.first.bias) if self.reads & set(OF_TEXT) else 0

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        weights = {f"first.{name}": weight for name, weight in self.first.weights.items()}
        return {}, {**weights, "first.bias": self.first.bias}


def _first(arrays: Mapping[str, np.ndarray]) -> FirstLayer:
    weights = {name.removeprefix("first."): array for name, array in arrays.items() if name.startswith("first.")}
    bias = weights.pop("bias")
    return FirstLayer(weights, bias)


@dataclass(frozen=True)
class LinearHead(_LayeredHead):
    """A weighted sum, clipped to [0, 1]: `first` has one output."""

    kind: ClassVar[str] = "linear"

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        return cut(self.first(inputs)[:, 0])

    @classmethod
    def of_parameters(cls, _: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> LinearHead:
        """The inverse of `parameters`."""
        return cls(_first(arrays))


@dataclass(frozen=True)
class MlpHead(_LayeredHead):
    """A network that corrects the calibrated cosine's logit.

    Each layer except the last is followed by a ReLU; the last has one output. Batch normalisation of the training is
    folded into the weights; dropout is not applied.

    Attributes:
        layers: (weight (out, in), bias (out,)) of the layers after the first.
        calibration: the curve whose logit is corrected; slope 0 leaves the network alone.
    """

    layers: tuple[tuple[Floats, Floats], ...]
    calibration: Calibration
    kind: ClassVar[str] = "mlp"

    @property
    def reads(self) -> frozenset[str]:
        """See `Head`."""
        return super().reads | {"similarity"}

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        hidden = self.first(inputs)
        for weight, bias in self.layers:
            hidden = np.maximum(hidden, 0) @ weight.T + bias
        return sigmoid(self.calibration.logit(inputs["similarity"][:, 0]) + hidden[:, 0])

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        _, arrays = super().parameters()
        for i, (weight, bias) in enumerate(self.layers):
            arrays |= {f"layer{i}.weight": weight, f"layer{i}.bias": bias}
        return {"layers": len(self.layers), "calibration": self.calibration.to_json()}, arrays

    @classmethod
    def of_parameters(cls, raw: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> MlpHead:
        """The inverse of `parameters`."""
        layers = tuple((arrays[f"layer{i}.weight"], arrays[f"layer{i}.bias"]) for i in range(raw["layers"]))
        return cls(_first(arrays), layers, Calibration.from_json(raw["calibration"]))


@dataclass(frozen=True)
class TreesHead(Head):
    """The sum of a pair's leaf values in oblivious decision trees (CatBoost), clipped to [0, 1].

    Attributes:
        widths: number of columns of each input, in the order of `INPUTS`.
        feature: int64 (trees, depth), the column that is compared.
        border: (trees, depth); the comparison is true if the column's value is greater.
        leaves: (trees, 2^depth); the first comparison is the lowest bit.
        bias: added to the sum.
    """

    widths: Mapping[str, int]
    feature: npt.NDArray[np.int64]
    border: Floats
    leaves: Floats
    bias: float
    kind: ClassVar[str] = "catboost"

    def __post_init__(self) -> None:
        _check_readable(self.widths)

    @property
    def reads(self) -> frozenset[str]:
        """See `Head`."""
        return frozenset(self.widths)

    @property
    def image_width(self) -> int:
        """See `Head`; trees need the unchanged features."""
        return self.widths.get("image", 0)

    @property
    def text_width(self) -> int:
        """See `Head`."""
        return sum(self.widths.get(name, 0) for name in OF_TEXT)

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        columns = np.concatenate([inputs[name] for name in INPUTS if name in self.widths], axis=1)
        bits = columns[:, self.feature] > self.border
        leaf = (bits << np.arange(self.feature.shape[1])).sum(axis=2)
        values = self.leaves[np.arange(len(self.leaves)), leaf]
        return cut(values.sum(axis=1, dtype=np.float32) + np.float32(self.bias))

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        arrays: dict[str, np.ndarray] = {"feature": self.feature, "border": self.border, "leaves": self.leaves}
        return {"widths": dict(self.widths), "bias": self.bias}, arrays

    @classmethod
    def of_parameters(cls, raw: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TreesHead:
        """The inverse of `parameters`."""
        return cls(
            widths={name: int(raw["widths"][name]) for name in INPUTS if name in raw["widths"]},
            feature=arrays["feature"].astype(np.int64),
            border=arrays["border"],
            leaves=arrays["leaves"],
            bias=float(raw["bias"]),
        )


WEIGHTS, CARD = "head.npz", "head.json"
SCHEMA = 2
_KINDS: dict[str, type[Head]] = {head.kind: head for head in (ConstantHead, CosineHead, LinearHead, MlpHead, TreesHead)}


def save_head(head: Head, directory: Path) -> None:
    """Write a head's two files, deterministically."""
    values, arrays = head.parameters()
    structure = {
        "schema_version": SCHEMA,
        "kind": head.kind,
        "towers": list(head.towers),
        "alignment": head.alignment,
        **values,
        "validation": dict(head.validation),
    }
    if head.match is not None:
        structure["match"] = asdict(head.match)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomic(directory / WEIGHTS, content.getvalue())
    write_atomic(directory / CARD, (json.dumps(structure, indent=2) + "\n").encode("utf-8"))


def load_head(directory: Path) -> Head:
    """Read a head that `save_head` wrote.

    Raises:
        DataError: the files are missing, broken, or of another schema or kind.
    """
    advice = "write it with `sceneseek train heads --out DIR`"
    try:
        raw = json.loads((directory / CARD).read_text(encoding="utf-8"))
        if raw["schema_version"] != SCHEMA or raw["kind"] not in _KINDS:
            raise DataError(f"{directory / CARD} is not a head that this version can read", advice)
        with (directory / WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return replace(
            _KINDS[raw["kind"]].of_parameters(raw, arrays),
            towers=tuple(raw["towers"]),
            alignment=raw["alignment"],
            validation=raw["validation"],
            match=MatchThreshold(**raw["match"]) if "match" in raw else None,
        )
    except FileNotFoundError as error:
        raise DataError(f"no head in {directory} ({Path(error.filename).name} is missing)", advice) from error
    except UNREADABLE as error:
        raise DataError(f"the head in {directory} cannot be read ({error!r})", advice) from error
