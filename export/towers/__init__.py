"""Pretrained towers: from their pinned source to a torch module and to ONNX.

| architecture | is | from |
|---|---|---|
| ``efficientnet-lite0``, ``efficientnet-lite2`` | image tower and classifier | a package |
| ``minilm-l6`` | text tower | a package |
| ``resnet`` | image tower, and classifier where it is ImageNet's | a checkpoint |
| ``bert`` | text tower | a checkpoint |
| ``clip-image``, ``clip-text`` | image tower and text tower of one space | a checkpoint |
| ``siglip-image``, ``siglip-text`` | image tower and text tower of one space | a checkpoint |

A checkpoint is a model of the transformers library, from the model hub or in a local directory of the hub's layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from export.towers.base import OPSET, ImageTower, TextTower
from export.towers.bert import bert
from export.towers.clip import clip_image, clip_text
from export.towers.packaged import efficientnet_lite, minilm_l6
from export.towers.resnet import resnet
from export.towers.siglip import siglip_image, siglip_text
from sceneseek.errors import ExportError
from sceneseek.manifest import Tower
from sceneseek.packs import ImageTowerSpec, Pack, TextTowerSpec

__all__ = [
    "OPSET",
    "ImageTower",
    "TextTower",
    "Towers",
    "load_image_tower",
    "load_text_tower",
    "load_towers",
]

_IMAGE_LOADERS: dict[str, Callable[[ImageTowerSpec], ImageTower]] = {
    "efficientnet-lite0": efficientnet_lite,
    "efficientnet-lite2": efficientnet_lite,
    "resnet": resnet,
    "clip-image": clip_image,
    "siglip-image": siglip_image,
}
_TEXT_LOADERS: dict[str, Callable[[TextTowerSpec], TextTower]] = {
    "minilm-l6": minilm_l6,
    "bert": bert,
    "clip-text": clip_text,
    "siglip-text": siglip_text,
}

Loader = TypeVar("Loader")


@dataclass(frozen=True)
class Towers:
    """The loaded towers of a pack, in its order."""

    images: tuple[ImageTower, ...]
    texts: tuple[TextTower, ...]

    def provenance(self) -> tuple[Tower, ...]:
        """Their entries in the manifest."""
        return (*(tower.provenance() for tower in self.images), *(tower.provenance() for tower in self.texts))

    def only(self, names: frozenset[str] | None) -> Towers:
        """Those of these names; all of them for None."""
        if names is None:
            return self
        return Towers(
            tuple(tower for tower in self.images if tower.spec.name in names),
            tuple(tower for tower in self.texts if tower.spec.name in names),
        )


def load_towers(pack: Pack) -> Towers:
    """All towers of a pack.

    Raises:
        ExportError: see `load_image_tower`.
    """
    return Towers(
        tuple(load_image_tower(spec) for spec in pack.image_towers),
        tuple(load_text_tower(spec) for spec in pack.text_towers),
    )


def load_image_tower(spec: ImageTowerSpec) -> ImageTower:
    """The image tower of a recipe, with its pretrained weights, in evaluation mode.

    Raises:
        ExportError: the architecture is unknown, or its source is missing, broken or of another kind.
    """
    return _find(_IMAGE_LOADERS, spec)(spec)


def load_text_tower(spec: TextTowerSpec) -> TextTower:
    """The text tower of a recipe, with its pretrained weights, in evaluation mode.

    Raises:
        ExportError: the architecture is unknown, or its source is missing, broken or of another kind.
    """
    return _find(_TEXT_LOADERS, spec)(spec)


def _find(loaders: dict[str, Loader], spec: ImageTowerSpec | TextTowerSpec) -> Loader:
    try:
        return loaders[spec.architecture]
    except KeyError:
        known = ", ".join(sorted(loaders))
        raise ExportError(
            f"tower {spec.name!r} has the unknown architecture {spec.architecture!r}", f"known here: {known}"
        ) from None
