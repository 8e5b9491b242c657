"""A bundle's towers in a lower precision, on pictures of the user's: which are calibrated on, which are compared on.

`precision` converts one tower's graph, `fidelity` measures what that costs; this module chooses the conversion for
each tower and the pictures for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sceneseek.captions import read_captions, read_split
from sceneseek.decode import decode, extensions
from sceneseek.errors import ExportError, ImageError
from sceneseek.manifest import Precision
from sceneseek.preprocess import Pixels, enough_pixels, prepare
from sceneseek.sample_queries import QUERIES
from sceneseek_evaluation.pairs import searchable
from sceneseek_export.compose import Graphs
from sceneseek_export.fidelity import FidelityData
from sceneseek_export.precision import CALIBRATION_IMAGES, Feed, dynamic_int8, half, static_int8
from sceneseek_export.towers import ImageTower, Towers

COMPARED_IMAGES, COMPARED_TEXTS = 64, 100
# So many must be left to compare on, and twice as many to calibrate on.
_LEAST = 3
_BATCH = 8


@dataclass(frozen=True)
class Lowering:
    """What is asked for.

    Attributes:
        precision: ``fp16`` or ``int8``.
        images: a folder of the user's own, to calibrate and to compare on.
        data: captions and ratings to measure what is lost, or None.
        forced: whether a bundle that costs too much is written all the same.
    """

    precision: Precision
    images: Path
    data: FidelityData | None = None
    forced: bool = False

    def sample(self) -> Sample:
        """See `Sample.of`."""
        return Sample.of(self)


def lowering(
    precision: Precision, images: Path, measured_on: tuple[Path | None, Path | None, Path | None], forced: bool
) -> Lowering:
    """From the command line's words; `measured_on` are captions, split and ratings of the images."""
    captions, split, expert = measured_on
    return Lowering(precision, images, FidelityData(images, captions, split, expert) if captions else None, forced)


@dataclass(frozen=True)
class Sample:
    """Pictures of a folder: none is in both lists."""

    calibrated_on: tuple[Path, ...]
    compared_on: tuple[Path, ...]

    @classmethod
    def of(cls, lowering: Lowering) -> Sample:
        """Every third picture, evenly over the folder, is compared on; at most as many as help.

        Those of a split that losses are measured on are in neither list.

        Raises:
            ExportError: the folder holds too few pictures that can be decoded.
            DataError: the split cannot be read.
        """
        folder, data = lowering.images, lowering.data
        measured = {folder / name for name in read_split(data.split)} if data and data.split else set()
        found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in extensions()]
        found = [path for path in found if path not in measured]
        wanted = CALIBRATION_IMAGES + COMPARED_IMAGES
        # A little more than is wanted, since some may not decode.
        places = np.unique(np.linspace(0, len(found) - 1, min(len(found), wanted + wanted // 4)).astype(int))
        usable = [found[i] for i in places if found and _decodes(found[i])][:wanted]
        sample = cls(tuple(p for i, p in enumerate(usable) if i % 3 != 2), tuple(usable[2::3]))
        if len(sample.compared_on) < _LEAST:
            raise ExportError(
                f"{folder} holds {len(usable)} pictures that can be decoded, and a lower precision needs "
                f"{3 * _LEAST} at least to be calibrated and compared on",
                f"name a folder of your own pictures; {wanted} are enough",
            )
        return sample


def compared_texts(data: FidelityData | None) -> list[str]:
    """Captions, evenly over the file, or `QUERIES` where there are none."""
    if data is None:
        return list(QUERIES)
    captions = [row.text for row in read_captions(data.captions)]
    places = np.unique(np.linspace(0, len(captions) - 1, min(len(captions), COMPARED_TEXTS)).astype(int))
    return [searchable(captions[i]) for i in places] or list(QUERIES)


def lowered(towers: Towers, precision: Precision, pictures: Sequence[Path]) -> Graphs:
    """The towers' graphs in a lower precision.

    Args:
        towers: of the bundle.
        precision: ``fp16`` halves every tower; ``int8`` is static for images, dynamic for texts.
        pictures: what static int8 is calibrated on.

    Raises:
        ExportError: a tower cannot be converted.
    """
    if precision == "fp16":
        return Graphs(
            {tower.spec.name: half(tower.to_onnx()) for tower in towers.images},
            {tower.spec.name: half(tower.to_onnx()) for tower in towers.texts},
        )
    return Graphs(
        {tower.spec.name: static_int8(tower.to_onnx(), _feeds(tower, pictures)) for tower in towers.images},
        {tower.spec.name: dynamic_int8(tower.to_onnx()) for tower in towers.texts},
    )


def _feeds(tower: ImageTower, pictures: Sequence[Path]) -> Iterator[Feed]:
    """Normalised pixels (N, 3, H, W) float32, a few pictures at a time, as the tower sees them in a bundle."""
    mean, std = np.array(tower.input.mean, np.float32), np.array(tower.input.std, np.float32)
    for start in range(0, len(pictures), _BATCH):
        levels = np.stack([_pixels(path, tower) for path in pictures[start : start + _BATCH]]).astype(np.float32)
        yield {"pixels": np.ascontiguousarray(((levels - mean) / std).transpose(0, 3, 1, 2))}


def _pixels(path: Path, tower: ImageTower) -> Pixels:
    return prepare(decode(path.read_bytes(), enough_pixels((tower.input,))), (tower.input,))[0]


def _decodes(path: Path) -> bool:
    try:
        decode(path.read_bytes(), 64)
    except (ImageError, OSError):
        return False
    return True
