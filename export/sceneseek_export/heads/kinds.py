"""The kinds of heads: constant, calibrated cosine, linear, network, trees; see the package.

On disk a head is `head.json` (kind, parameters, figures, and where one was found a `match`) and `head.npz` (arrays).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sceneseek.bundle import MatchThreshold
from sceneseek.errors import DataError
from sceneseek.files import UNREADABLE, write_atomic
from sceneseek.vectors import Floats
from sceneseek_export.heads.base import INPUTS, OF_TEXT, FirstLayer, Head, check_readable, cut, sigmoid


@dataclass(frozen=True)
class Calibration:
    """A logistic curve (Platt, Probabilistic Outputs for Support Vector Machines, 1999), and where it is from.

    Attributes:
        slope, intercept: score = 1 / (1 + exp(-(slope * cosine + intercept))).
        source: what it was fitted to, such as ``captions`` or ``human ratings``.
        figures: how good it is and how that was found, JSON values.
    """

    slope: float
    intercept: float
    source: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def logit(self, similarity: Floats) -> Floats:
        """(N,) cosines to (N,) logits."""
        return (similarity * np.float32(self.slope) + np.float32(self.intercept)).astype(np.float32)

    def score(self, similarity: Floats) -> Floats:
        """(N,) cosines to (N,) scores in [0, 1]."""
        return sigmoid(self.logit(similarity))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "figures": dict(self.figures)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_json`."""
        return cls(float(raw["slope"]), float(raw["intercept"]), str(raw["source"]), raw.get("figures", {}))


@dataclass(frozen=True)
class IsotonicCurve:
    """A rising curve of straight pieces between knots, level beyond them (Zadrozny and Elkan, KDD 2002).

    Attributes:
        at: (K,) cosines, ascending, no two alike, K at least 2.
        scores: (K,) in [0, 1], ascending.
    """

    at: Floats
    scores: Floats

    def __post_init__(self) -> None:
        if len(self.at) < 2 or not (np.diff(self.at) > 0).all() or not (np.diff(self.scores) >= 0).all():
            raise ValueError("the knots of an isotonic curve must rise, and be two at least")

    def score(self, similarity: Floats) -> Floats:
        """(N,) cosines to (N,) scores in [0, 1], as the graph computes it: a sum of ramps."""
        ramps = np.clip((similarity[:, None] - self.at[:-1]) / np.diff(self.at), np.float32(0), np.float32(1))
        return cut(ramps @ np.diff(self.scores) + self.scores[0])


@dataclass(frozen=True)
class CosineHead:
    """The joint-space cosine through a curve. It reads the similarity alone."""

    curve: Calibration | IsotonicCurve
    alignment: str = ""
    validation: Mapping[str, Any] = field(default_factory=dict)
    match: MatchThreshold | None = None
    kind: ClassVar[str] = "cosine"

    reads: ClassVar[frozenset[str]] = frozenset({"similarity"})
    towers: ClassVar[tuple[str, ...]] = ()
    image_width: ClassVar[int] = 0
    text_width: ClassVar[int] = 0

    @classmethod
    def of_calibration(cls, calibration: Calibration) -> CosineHead:
        """The curve that comes with a joint space, with its own figures."""
        return cls(calibration, "", {"source": calibration.source, **calibration.figures})

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        return self.curve.score(inputs["similarity"][:, 0])

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        if isinstance(self.curve, IsotonicCurve):
            return {"curve": "isotonic"}, {"at": self.curve.at, "scores": self.curve.scores}
        return {"curve": "logistic", "calibration": self.curve.to_json()}, {}

    @classmethod
    def of_files(cls, raw: Mapping[str, Any], arrays: Mapping[str, Floats]) -> CosineHead:
        """The inverse of `parameters`."""
        curve: Calibration | IsotonicCurve = (
            IsotonicCurve(arrays["at"], arrays["scores"])
            if raw["curve"] == "isotonic"
            else Calibration.from_json(raw["calibration"])
        )
        return cls(curve, raw["alignment"], raw["validation"])


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


@dataclass(frozen=True)
class TreesHead:
    """The sum of the leaves that a pair reaches, cut to [0, 1].

    Attributes:
        widths: by input, in the order of `INPUTS`, how many columns of the features it is.
        feature: int64 (trees, depth), a column each.
        border: (trees, depth); the answer is yes where the column's number is greater.
        leaves: (trees, 2^depth); the first question is the lowest bit.
        bias: added to the sum.
    """

    widths: Mapping[str, int]
    feature: npt.NDArray[np.int64]
    border: Floats
    leaves: Floats
    bias: float
    towers: tuple[str, ...] = ()
    alignment: str = ""
    validation: Mapping[str, Any] = field(default_factory=dict)
    match: MatchThreshold | None = None
    kind: ClassVar[str] = "catboost"

    def __post_init__(self) -> None:
        check_readable(self.widths)

    @property
    def reads(self) -> frozenset[str]:
        """See `Head`."""
        return frozenset(self.widths)

    @property
    def image_width(self) -> int:
        """See `Head`; trees need the features themselves."""
        return self.widths.get("image", 0)

    @property
    def text_width(self) -> int:
        """See `Head`."""
        return sum(self.widths.get(name, 0) for name in OF_TEXT)

    def score(self, inputs: Mapping[str, Floats]) -> Floats:
        """See `Head.score`."""
        columns = np.concatenate([inputs[name] for name in INPUTS if name in self.widths], axis=1)
        yes = columns[:, self.feature] > self.border
        leaf = (yes << np.arange(self.feature.shape[1])).sum(axis=2)
        values = self.leaves[np.arange(len(self.leaves)), leaf]
        return cut(values.sum(axis=1, dtype=np.float32) + np.float32(self.bias))

    def parameters(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """See `Head.parameters`."""
        arrays: dict[str, np.ndarray] = {"feature": self.feature, "border": self.border, "leaves": self.leaves}
        return {"widths": dict(self.widths), "bias": self.bias}, arrays

    @classmethod
    def of_files(cls, raw: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TreesHead:
        """The inverse of `parameters`."""
        return cls(
            widths={name: int(raw["widths"][name]) for name in INPUTS if name in raw["widths"]},
            feature=arrays["feature"].astype(np.int64),
            border=arrays["border"],
            leaves=arrays["leaves"],
            bias=float(raw["bias"]),
            towers=tuple(raw["towers"]),
            alignment=raw["alignment"],
            validation=raw["validation"],
        )


WEIGHTS, CARD = "head.npz", "head.json"
SCHEMA = 2
_KINDS: dict[str, Any] = {head.kind: head for head in (ConstantHead, CosineHead, LinearHead, MlpHead, TreesHead)}


def save_head(head: Head, directory: Path) -> None:
    """Write a head's two files; the same head gives the same bytes."""
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
    """Read what `save_head` wrote.

    Raises:
        DataError: the files are missing, broken, or of another schema or kind.
    """
    advice = "write it with `sceneseek train heads --out DIR`"
    try:
        raw = json.loads((directory / CARD).read_text(encoding="utf-8"))
        if raw["schema_version"] != SCHEMA or raw["kind"] not in _KINDS:
            raise DataError(f"{directory / CARD} is not a head that this program reads", advice)
        with (directory / WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        found = _KINDS[raw["kind"]].of_files(raw, arrays)
        match = MatchThreshold(**raw["match"]) if "match" in raw else None
        head: Head = replace(found, match=match)
    except FileNotFoundError as error:
        raise DataError(f"no head in {directory} ({Path(error.filename).name} is missing)", advice) from error
    except UNREADABLE as error:
        raise DataError(f"the head in {directory} cannot be read ({error!r})", advice) from error
    return head
