"""Packs: named recipes for a bundle.

A recipe says which towers a bundle is made of, how their inputs are prepared, and in which space images and
texts are compared. Where a tower's weights come from is its `source`; how a source of that kind is loaded is
`sceneseek_export.towers`' business.
"""

from sceneseek_export.packs.files import find_pack, pack_names, read_pack
from sceneseek_export.packs.pack import ImageTowerSpec, OwnSpace, Pack, TextTowerSpec, hub_name

__all__ = [
    "ImageTowerSpec",
    "OwnSpace",
    "Pack",
    "TextTowerSpec",
    "find_pack",
    "hub_name",
    "pack_names",
    "read_pack",
]
