"""The alignment: linear maps that bring independent towers into one joint space.

    image:  c = normalise(sum_k p_k e_k)                 class names, where the image tower is a classifier
            u = normalise(A [features ; c] + a)          learned block
            joint = [sqrt(s) u ; sqrt(1 - s) c]
    text:   t = normalise(text tower)
            joint = [sqrt(s) normalise(B t + b) ; sqrt(1 - s) t]

`c` is the convex combination of the class names' embeddings under the classifier's most probable
classes (ConSE: Norouzi et al., Zero-Shot Learning by Convex Combination of Semantic Embeddings, ICLR
2014). It carries what the classifier knows beyond the captions that the maps were learned from.

This module holds the maps as data, in numpy: what `training` writes and `export` turns into graphs, and
the reference that the graphs are checked against. Weights are kept as float16; they are rounded when
an alignment is made, so that what was evaluated is what is stored.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sceneseek.errors import DataError
from sceneseek.files import write_atomic
from sceneseek.heads import Calibration
from sceneseek.vectors import Floats

WEIGHTS, CARD = "alignment.npz", "alignment.json"
SCHEMA = 1


@dataclass(frozen=True)
class ClassNames:
    """What turns a classifier's logits (N, C) into a text vector (N, T).

    Attributes:
        tower: the image tower whose logits are read.
        embeddings: (C, T), a vector of length 1 for each class, in the text tower's space.
        temperature: divides the logits before the softmax.
        top: how many of the most probable classes are combined.
    """

    tower: str
    embeddings: Floats
    temperature: float
    top: int

    def combine(self, logits: Floats) -> Floats:
        """(N, C) logits to (N, T) vectors of length 1."""
        scaled = logits / np.float32(self.temperature)
        p = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        rest = np.argpartition(-p, self.top - 1, axis=1)[:, self.top :]
        np.put_along_axis(p, rest, 0.0, axis=1)
        return normalise(p @ self.embeddings)


@dataclass(frozen=True)
class LearnedBlock:
    """A pair of learned maps into a common space of d dimensions.

    Attributes:
        towers: the image towers whose features are the map's input, in order; the class-name vector
            follows them where the alignment has one.
        image_weight, image_bias: (d, sum of widths), (d,).
        text_weight, text_bias: (d, T), (d,).
        share: of the joint similarity; all shares of an alignment and `Alignment.names_share` sum to 1.
    """

    towers: tuple[str, ...]
    image_weight: Floats
    image_bias: Floats
    text_weight: Floats
    text_bias: Floats
    share: float


@dataclass(frozen=True)
class Alignment:
    """Everything that `export` needs to compose a joint space, and the card that says where it is from.

    Attributes:
        pack: the pack whose towers it fits.
        blocks: the learned maps, in the order of their dimensions in the joint vector.
        names: the class-name block, or None; it is also an input of the learned maps.
        names_share: its share of the joint similarity, 0 where it is an input only.
        calibration: from joint-space cosine to score.
        card: how it was made (data, command, seed, figures), JSON values.
    """

    pack: str
    blocks: tuple[LearnedBlock, ...]
    names: ClassNames | None
    names_share: float
    calibration: Calibration
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        total = self.names_share + sum(block.share for block in self.blocks)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of an alignment sum to {total}, not to 1")

    @property
    def joint(self) -> int:
        """Width of the joint vectors."""
        named = self.names.embeddings.shape[1] if self.names is not None and self.names_share > 0 else 0
        return named + sum(len(block.image_bias) for block in self.blocks)

    def image_joint(self, features: Mapping[str, Floats], logits: Mapping[str, Floats]) -> Floats:
        """Joint vectors (N, D) of images, from each tower's features (N, F) and logits (N, C)."""
        names = [] if self.names is None else [self.names.combine(logits[self.names.tower])]
        parts = []
        for block in self.blocks:
            inputs = np.concatenate([*(features[tower] for tower in block.towers), *names], axis=1)
            learned = normalise(inputs @ block.image_weight.T + block.image_bias)
            parts.append(np.sqrt(np.float32(block.share)) * learned)
        if self.names_share > 0:
            parts.append(np.sqrt(np.float32(self.names_share)) * names[0])
        return np.concatenate(parts, axis=1)

    def text_joint(self, text: Floats) -> Floats:
        """Joint vectors (N, D) of texts, from the text tower's output (N, T)."""
        unit = normalise(text)
        parts = [
            np.sqrt(np.float32(block.share)) * normalise(unit @ block.text_weight.T + block.text_bias)
            for block in self.blocks
        ]
        if self.names_share > 0:
            parts.append(np.sqrt(np.float32(self.names_share)) * unit)
        return np.concatenate(parts, axis=1)

    def save(self, directory: Path) -> None:
        """Write `alignment.npz` (float16) and `alignment.json` (structure, calibration and card)."""
        arrays: dict[str, np.ndarray] = {}
        structure: dict[str, Any] = {
            "schema_version": SCHEMA,
            "pack": self.pack,
            "names_share": self.names_share,
            "calibration": self.calibration.to_json(),
            "blocks": [],
            "card": dict(self.card),
        }
        for i, block in enumerate(self.blocks):
            structure["blocks"].append({"towers": list(block.towers), "share": block.share})
            for name in ("image_weight", "image_bias", "text_weight", "text_bias"):
                arrays[f"block{i}.{name}"] = getattr(block, name).astype(np.float16)
        if self.names is not None:
            arrays["names.embeddings"] = self.names.embeddings.astype(np.float16)
            structure["names"] = {
                "tower": self.names.tower,
                "temperature": self.names.temperature,
                "top": self.names.top,
            }
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        write_atomic(directory / WEIGHTS, content.getvalue())
        write_atomic(directory / CARD, (json.dumps(structure, indent=2) + "\n").encode("utf-8"))

    @classmethod
    def load(cls, directory: Path) -> Alignment:
        """Read what `save` wrote; weights come as float32.

        Raises:
            DataError: the files are missing, broken or of another schema.
        """
        advice = "write it with `sceneseek train alignment --out DIR`"
        try:
            raw = json.loads((directory / CARD).read_text(encoding="utf-8"))
            if raw["schema_version"] != SCHEMA:
                raise DataError(f"{directory / CARD} has schema version {raw['schema_version']}", advice)
            with np.load(directory / WEIGHTS, allow_pickle=False) as stored:
                arrays = {name: stored[name].astype(np.float32) for name in stored.files}
            blocks = tuple(
                LearnedBlock(
                    towers=tuple(block["towers"]),
                    share=block["share"],
                    **{
                        name: arrays[f"block{i}.{name}"]
                        for name in ("image_weight", "image_bias", "text_weight", "text_bias")
                    },
                )
                for i, block in enumerate(raw["blocks"])
            )
            names = None
            if "names" in raw:
                names = ClassNames(embeddings=arrays["names.embeddings"], **raw["names"])
            return cls(
                pack=raw["pack"],
                blocks=blocks,
                names=names,
                names_share=raw["names_share"],
                calibration=Calibration.from_json(raw["calibration"]),
                card=raw["card"],
            )
        except FileNotFoundError as error:
            raise DataError(f"no alignment in {directory} ({error.filename} is missing)", advice) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"the alignment in {directory} cannot be read ({error!r})", advice) from error


def normalise(vectors: Floats) -> Floats:
    """Rows scaled to length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = vectors / np.maximum(lengths, 1e-12, dtype=np.float32)
    return scaled


def rounded(weights: Floats) -> Floats:
    """The weights as they come back from an alignment's float16 file."""
    return weights.astype(np.float16).astype(np.float32)
