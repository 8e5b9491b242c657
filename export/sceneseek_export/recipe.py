"""What goes into a graph, as one hash that is equal on every machine.

The graphs of packaged towers have equal bytes everywhere, but those that torch traces or that were calibrated on
pictures may differ in last digits from processor to processor. So a tower counts by where it comes from (architecture,
weights, precision), and what is composed around it (preparation, alignment, head) by its operators and numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx

from sceneseek.files import sha256_of
from sceneseek_export.packs import TextTowerSpec
from sceneseek_export.towers import ImageTower, TextTower

# Raise it with every change to the exporter after which the same towers give other vectors; a test compares the compact
# pack's graphs with those that this number stands for.
EXPORTER = 1


def calibrated_on(pictures: Iterable[Path]) -> str:
    """Hex sha256 of what a list of pictures holds, in their order."""
    return hashlib.sha256("".join(map(sha256_of, pictures)).encode()).hexdigest()


def graph_recipe(model: onnx.ModelProto, towers: Sequence[ImageTower | TextTower], precision: str) -> str:
    """Hex sha256 of what a composed graph is made from.

    Args:
        model: of `sceneseek_export.compose`, where all that belongs to a tower has its name and a slash before its own.
        towers: those that are in it.
        precision: how their graphs were converted, and on what they were calibrated.
    """
    inside = tuple(f"{tower.spec.name}/" for tower in towers)
    made_from = {
        tower.spec.name: {
            "architecture": tower.spec.architecture,
            "pooling": tower.spec.pooling if isinstance(tower.spec, TextTowerSpec) else "",
            "weights": tower.sha256,
            "precision": precision,
        }
        for tower in towers
    }
    graph, digest = model.graph, hashlib.sha256()
    digest.update(json.dumps([EXPORTER, made_from], sort_keys=True).encode())
    parts = [
        *graph.input,
        *graph.output,
        *(node for node in graph.node if not node.output[0].startswith(inside)),
        *(weight for weight in graph.initializer if not weight.name.startswith(inside)),
    ]
    for part in parts:
        content = part.SerializeToString(deterministic=True)
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
