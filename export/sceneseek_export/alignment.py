"""The alignment: affine maps of independent towers into one joint space.

    image:  f = the image towers' features side by side, each clipped to its range
            c = normalise(sum_k p_k e_k)                 class names, if image towers are classifiers
            u_b = normalise(A_b [f_b ; c] + a_b)         for each block b, of share s_b
            z = [sqrt(s_1) u_1 ; sqrt(s_2) u_2 ; ...]
            r = mean similarity of z to its k nearest texts of a fixed bank
            joint = [z ; -sqrt(g) r ; sqrt(g) sqrt(1 - r^2)] / sqrt(1 + g)
    text:   t = normalise(text tower)
            z = [sqrt(s_b) normalise(B_b t + b_b) ; ...]
            joint = [z ; sqrt(g) ; 0] / sqrt(1 + g)

so that the cosine of an image and a text is (z . z' - g r) / (1 + g).

That is one space (`alignment_maps.Space`). A pack with two text towers has several side by side, each for one tower:

    image:  joint = normalise([joint_1 ; joint_2 ; ...])
    text:   joint = normalise([w_1 joint_1 ; w_2 joint_2 ; ...])

where the weights depend on the text (`alignment_maps.Mixing`), so an index holds one vector for all languages.

Towers that were trained to share a space have one block whose maps are identities (`Alignment.own`).

`c` is the convex combination of the class names' embeddings under a classifier's most probable classes
(ConSE: Norouzi et al., Zero-Shot Learning by Convex Combination of Semantic Embeddings, ICLR 2014), averaged over the
classifiers. It adds their knowledge to that of the captions from which the maps were learned.

`r` is the image's hubness: an image that is near to every text is found too often. Subtracting a part of it is one half
of CSLS (Conneau et al., Word Translation Without Parallel Data, ICLR 2018). Since it depends only on the image, it is
stored as two more dimensions of the vector, and the engine needs no change.

An alignment is data, in numpy: `training` writes it, `export` turns it into graphs and checks the graphs against it.
Weights are stored as float16; they are rounded when an alignment is created, so that the stored weights are those that
were evaluated. The parts of an alignment are in `alignment_maps`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sceneseek.errors import DataError
from sceneseek.files import UNREADABLE, write_atomic
from sceneseek.vectors import Floats
from sceneseek_export.alignment_maps import ClassNames, FeatureRange, LearnedBlock, Mixing, Space, normalise
from sceneseek_export.curves import Calibration

WEIGHTS, CARD = "alignment.npz", "alignment.json"
SCHEMA = 3
_MIXING = ("first", "second", "slope", "middle", "known", "unknown")


@dataclass(frozen=True)
class Alignment:
    """The weights of a joint space, and a card that describes their origin.

    Attributes:
        pack: name of the pack whose towers it fits.
        spaces: in the order of their dimensions in the joint vector.
        names: by text tower, the class-name vectors that its spaces' maps take as input.
        calibration: the curve from joint-space cosine to score.
        ranges: by tower, the range to which its features are clipped; other towers are not clipped.
        mixing: weights of several spaces for a text; None if there is only one space.
        learned_images: uint64 (n,), ascending: the `image_key` of each image that the maps were learned from.
        card: data, command, seed and metrics of the training, JSON values.
    """

    pack: str
    spaces: tuple[Space, ...]
    names: Mapping[str, ClassNames]
    calibration: Calibration
    ranges: Mapping[str, FeatureRange] = field(default_factory=dict)
    mixing: Mixing | None = None
    learned_images: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.spaces) != (len(self.mixing.known) if self.mixing else 1):
            raise ValueError("an alignment has one space, or as many as its mixing has weights")

    @classmethod
    def own(cls, pack: str, towers: tuple[str, str], width: int, calibration: Calibration) -> Alignment:
        """The joint space that an image tower and a text tower of the same width were trained to share."""
        same, nothing = np.eye(width, dtype=np.float32), np.zeros(width, np.float32)
        block = LearnedBlock(towers[:1], same, nothing, same, nothing, share=1.0)
        return cls(pack, (Space(towers[1], (block,)),), {}, calibration)

    @property
    def joint(self) -> int:
        """Width of the joint vectors."""
        return sum(space.joint for space in self.spaces)

    @property
    def spread(self) -> int:
        """Width of a text's `text_spread`."""
        return sum(space.spread for space in self.spaces) + bool(self.mixing)

    @property
    def towers(self) -> set[str]:
        """The names of all towers that it reads."""
        of_names = (tower for names in self.names.values() for tower in names.towers)
        of_blocks = (tower for space in self.spaces for block in space.blocks for tower in block.towers)
        return {*(space.text for space in self.spaces), *of_names, *of_blocks}

    @property
    def parts(self) -> Floats:
        """(D, P), see `Space.parts`; with several spaces, each part is scaled by its space's weight for the text."""
        of_spaces = [space.parts for space in self.spaces]
        matrix = np.zeros((self.joint, sum(parts.shape[1] for parts in of_spaces)), np.float32)
        row = column = 0
        for parts in of_spaces:
            rows, columns = parts.shape
            # All spaces have the same share of an image's vector.
            matrix[row : row + rows, column : column + columns] = np.sqrt(np.float32(len(of_spaces))) * parts
            row, column = row + rows, column + columns
        return matrix

    def clipped(self, features: Mapping[str, Floats]) -> dict[str, Floats]:
        """Each tower's features (N, F), clipped to its range."""
        return {tower: self.ranges[tower].clip(f) if tower in self.ranges else f for tower, f in features.items()}

    def image_joint(self, features: Mapping[str, Floats], logits: Mapping[str, Floats]) -> Floats:
        """Joint vectors (N, D) of images, from each tower's features (N, F) and logits (N, C)."""
        clipped = self.clipped(features)
        names = {text: names.combine(logits) for text, names in self.names.items()}
        parts = [space.image_joint(clipped, names.get(space.text)) for space in self.spaces]
        return parts[0] if self.mixing is None else normalise(np.concatenate(parts, axis=1))

    def text_joint(self, texts: Mapping[str, Floats], unknown: bool = False) -> Floats:
        """Joint vectors (N, D) of texts, from each text tower's output (N, T).

        Args:
            texts: by tower.
            unknown: weight the spaces as for texts in a language that the first tower does not support.
        """
        parts = [space.text_joint(texts[space.text]) for space in self.spaces]
        if self.mixing is None:
            return parts[0]
        weights = self.mixing.weights(self._understood(self.mixing, texts, unknown))
        mixed = [weights[:, [i]] * part for i, part in enumerate(parts)]
        return normalise(np.concatenate(mixed, axis=1))

    def text_spread(self, texts: Mapping[str, Floats], unknown: bool = False) -> Floats:
        """The `Space.text_spread` of all spaces, then the s of the mixing if there is one; see `text_joint`."""
        parts = [space.text_spread(texts[space.text]) for space in self.spaces]
        if self.mixing is not None:
            parts.append(self._understood(self.mixing, texts, unknown))
        return np.concatenate(parts, axis=1)

    @staticmethod
    def _understood(mixing: Mixing, texts: Mapping[str, Floats], unknown: bool) -> Floats:
        understood = mixing.understood({tower: normalise(vectors) for tower, vectors in texts.items()})
        return np.zeros_like(understood) if unknown else understood

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the weights; identifies the joint space that a head was trained on."""
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            digest.update(f"{name} {array.shape}\n".encode() + np.ascontiguousarray(array).tobytes())
        digest.update(json.dumps(self._structure(), sort_keys=True).encode())
        return digest.hexdigest()

    def _structure(self) -> dict[str, Any]:
        structure: dict[str, Any] = {
            "pack": self.pack,
            "spaces": [space.structure() for space in self.spaces],
            "names": {
                text: {"towers": list(names.towers), "temperature": names.temperature, "top": names.top}
                for text, names in self.names.items()
            },
            "ranges": sorted(self.ranges),
        }
        if self.mixing is not None:
            options = {name: getattr(self.mixing, name) for name in _MIXING}
            structure["mixing"] = {n: list(v) if isinstance(v, tuple) else v for n, v in options.items()}
        return structure

    def _arrays(self) -> dict[str, np.ndarray]:
        weights = {f"space{i}.{name}": a for i, space in enumerate(self.spaces) for name, a in space.arrays().items()}
        weights |= {f"names.{text}": names.embeddings for text, names in self.names.items()}
        if self.mixing is not None:
            weights |= {"mixing.weight": self.mixing.weight, "mixing.bias": self.mixing.bias}
        arrays: dict[str, np.ndarray] = {name: array.astype(np.float16) for name, array in weights.items()}
        for tower, limits in self.ranges.items():
            arrays[f"range.{tower}.low"] = limits.low.astype(np.float32)
            arrays[f"range.{tower}.high"] = limits.high.astype(np.float32)
        return arrays

    def save(self, directory: Path) -> None:
        """Write `alignment.npz` (float16) and `alignment.json` (structure, calibration and card)."""
        structure = {
            "schema_version": SCHEMA,
            **self._structure(),
            "calibration": self.calibration.to_json(),
            "card": dict(self.card),
        }
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **self._arrays(), learned_images=self.learned_images)
        write_atomic(directory / WEIGHTS, content.getvalue())
        write_atomic(directory / CARD, (json.dumps(structure, indent=2) + "\n").encode("utf-8"))

    @classmethod
    def load(cls, directory: Path) -> Alignment:
        """Read the files that `save` wrote; weights are converted to float32.

        Raises:
            DataError: the files are missing, broken or of another schema.
        """
        advice = "write it with `sceneseek train alignment --out DIR`"
        try:
            raw = json.loads((directory / CARD).read_text(encoding="utf-8"))
            if raw["schema_version"] != SCHEMA:
                raise DataError(f"{directory / CARD} has schema version {raw['schema_version']}", advice)
            with (directory / WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return cls._of_files(raw, arrays)
        except FileNotFoundError as error:
            raise DataError(f"no alignment in {directory} ({error.filename} is missing)", advice) from error
        except UNREADABLE as error:
            raise DataError(f"the alignment in {directory} cannot be read ({error!r})", advice) from error

    @classmethod
    def _of_files(cls, raw: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Alignment:
        learned = arrays["learned_images"].astype(np.uint64)
        weights: dict[str, Floats] = {name: array.astype(np.float32) for name, array in arrays.items()}
        mixing = None
        if "mixing" in raw:
            options: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in raw["mixing"].items()
            }
            mixing = Mixing(weight=weights["mixing.weight"], bias=weights["mixing.bias"], **options)
        return cls(
            pack=raw["pack"],
            spaces=tuple(Space.of(structure, weights, f"space{i}.") for i, structure in enumerate(raw["spaces"])),
            names={
                text: ClassNames(tuple(o["towers"]), weights[f"names.{text}"], o["temperature"], o["top"])
                for text, o in raw["names"].items()
            },
            calibration=Calibration.from_json(raw["calibration"]),
            ranges={
                tower: FeatureRange(weights[f"range.{tower}.low"], weights[f"range.{tower}.high"])
                for tower in raw["ranges"]
            },
            mixing=mixing,
            learned_images=learned,
            card=raw["card"],
        )


def image_key(content: bytes) -> int:
    """The key of an image file in `Alignment.learned_images`: the first 8 bytes of its sha256."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
