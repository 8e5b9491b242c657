"""Heads: what turns a pair of an image and a text into a score in [0, 1].

A head is data, in numpy: what `training` writes, what `export` splits into the three graphs, and the
unsplit reference that the split is checked against.

- `CosineHead`: score = sigmoid(slope * cosine + intercept). Reads the joint space only (H_i = 0).
- `MlpHead`: the same logit plus a correction by a small network over [cosine, product of the joint
  vectors, image features, text features]. Its first layer is a sum of a part that sees the image alone, a
  part that sees the text alone, and a part that sees both; the first two move into the towers' graphs, so
  rescoring a candidate costs one small matrix product.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sceneseek.errors import DataError
from sceneseek.files import write_atomic
from sceneseek.vectors import Floats

WEIGHTS, CARD = "head.npz", "head.json"
SCHEMA = 1


@dataclass(frozen=True)
class Calibration:
    """A logistic curve from joint-space cosine to score (Platt 1999), and where it was learned.

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
        return _sigmoid(self.logit(similarity))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "figures": dict(self.figures)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_json`."""
        return cls(float(raw["slope"]), float(raw["intercept"]), str(raw["source"]), raw.get("figures", {}))


@dataclass(frozen=True)
class CosineHead:
    """The calibrated cosine."""

    calibration: Calibration
    kind: ClassVar[str] = "cosine"

    @property
    def validation(self) -> Mapping[str, Any]:
        """Its figures and how they were obtained."""
        return {"source": self.calibration.source, **self.calibration.figures}


@dataclass(frozen=True)
class MlpHead:
    """A network that corrects the calibrated cosine's logit.

    The input is [cosine (1), product (D), image features (F), text features (T)]; the first layer's
    weights are kept by these four parts. All layers but the last are followed by a ReLU.

    Attributes:
        calibration: the curve whose logit is corrected.
        towers: the image towers whose features are the image part, in order.
        cosine: (H,) first-layer weights of the cosine.
        product: (H, D) of the elementwise product of the joint vectors.
        image: (H, F) of the image towers' features.
        text: (H, T) of the text tower's output, scaled to length 1.
        bias: (H,) of the first layer.
        layers: (weight (out, in), bias (out,)) of the layers after the first; the last has one output.
        validation: figures and how they were obtained, JSON values.
    """

    calibration: Calibration
    towers: tuple[str, ...]
    cosine: Floats
    product: Floats
    image: Floats
    text: Floats
    bias: Floats
    layers: tuple[tuple[Floats, Floats], ...]
    validation: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "mlp"

    def score(self, image_joint: Floats, image_features: Floats, text_joint: Floats, text: Floats) -> Floats:
        """The unsplit head: scores (N,) of N images for one text.

        Args:
            image_joint: (N, D).
            image_features: (N, F), the towers' features side by side.
            text_joint: (D,).
            text: (T,), the text tower's output scaled to length 1.
        """
        similarity = image_joint @ text_joint
        pairs = np.concatenate(
            [
                similarity[:, None],
                image_joint * text_joint,
                image_features,
                np.broadcast_to(text, (len(image_joint), len(text))),
            ],
            axis=1,
        )
        first = np.concatenate([self.cosine[:, None], self.product, self.image, self.text], axis=1)
        hidden = pairs @ first.T + self.bias
        for weight, bias in self.layers:
            hidden = np.maximum(hidden, 0) @ weight.T + bias
        return _sigmoid(self.calibration.logit(similarity) + hidden[:, 0])

    def save(self, directory: Path) -> None:
        """Write `head.npz` (float32) and `head.json`."""
        arrays = {name: getattr(self, name) for name in ("cosine", "product", "image", "text", "bias")}
        for i, (weight, bias) in enumerate(self.layers):
            arrays |= {f"layer{i}.weight": weight, f"layer{i}.bias": bias}
        structure = {
            "schema_version": SCHEMA,
            "kind": self.kind,
            "towers": list(self.towers),
            "layers": len(self.layers),
            "calibration": self.calibration.to_json(),
            "validation": dict(self.validation),
        }
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        write_atomic(directory / WEIGHTS, content.getvalue())
        write_atomic(directory / CARD, (json.dumps(structure, indent=2) + "\n").encode("utf-8"))

    @classmethod
    def load(cls, directory: Path) -> MlpHead:
        """Read what `save` wrote.

        Raises:
            DataError: the files are missing, broken or of another schema.
        """
        try:
            raw = json.loads((directory / CARD).read_text(encoding="utf-8"))
            if (raw["schema_version"], raw["kind"]) != (SCHEMA, cls.kind):
                raise DataError(f"{directory / CARD} is not an MLP head that this program reads")
            with np.load(directory / WEIGHTS, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return cls(
                calibration=Calibration.from_json(raw["calibration"]),
                towers=tuple(raw["towers"]),
                **{name: arrays[name] for name in ("cosine", "product", "image", "text", "bias")},
                layers=tuple((arrays[f"layer{i}.weight"], arrays[f"layer{i}.bias"]) for i in range(raw["layers"])),
                validation=raw["validation"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"no head can be read in {directory} ({error!r})") from error


Head = CosineHead | MlpHead


def _sigmoid(logits: Floats) -> Floats:
    """Numerically stable at both ends."""
    half: Floats = np.tanh(logits * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5)
    return half
