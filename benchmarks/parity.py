"""The reference towers at their true sizes, graph beside transformers: every batch size from 1 to 64, every length.

    python -m benchmarks.parity

Weights are drawn at random, since no hub is needed for the question whether a graph computes what its model
computes. Images are noise. Texts are of random tokens: each length alone in a batch of two with the second text
padded, and every batch size with texts of mixed lengths. Told are the largest differences of any number, as the
tower gives it and scaled to length 1, which is how an own joint space compares them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks import checkpoints
from benchmarks.machine import cores, describe, others
from sceneseek.alignment import normalise
from sceneseek.packs import ImageTowerSpec, TextTowerSpec
from sceneseek.runtime import open_session
from sceneseek.vectors import Floats
from sceneseek_export.towers import ImageTower, TextTower, load_image_tower, load_text_tower

GOAL = 1e-4
BATCHES = range(1, 65)

Writer = Callable[..., Path]

IMAGES: dict[str, Writer] = {
    "resnet": checkpoints.resnet,
    "clip-image": checkpoints.clip,
    "siglip-image": checkpoints.siglip,
}
TEXTS: dict[str, Writer] = {"bert": checkpoints.bert, "clip-text": checkpoints.clip, "siglip-text": checkpoints.siglip}


@dataclass
class Gap:
    """The largest differences so far: of the numbers themselves, and of the vectors at length 1."""

    plain: float = 0.0
    unit: float = 0.0

    def see(self, ours: Floats, reference: Floats) -> None:
        """Take rows (N, F) into account."""
        self.plain = max(self.plain, float(np.abs(ours - reference).max()))
        self.unit = max(self.unit, float(np.abs(normalise(ours) - normalise(reference)).max()))


def image_gap(tower: ImageTower, run: Callable[[dict[str, np.ndarray]], dict[str, Any]]) -> Iterator[Gap]:
    """The gap after each batch size."""
    gap, spec = Gap(), tower.input
    dice = np.random.default_rng(0)
    pixels = dice.normal(size=(BATCHES[-1], 3, spec.height, spec.width)).astype(np.float32)
    reference = np.concatenate([tower.reference(pixels[i : i + 8])[0] for i in range(0, len(pixels), 8)])
    for count in BATCHES:
        gap.see(run({"pixels": pixels[:count]})["features"], reference[:count])
        yield gap


def text_gap(tower: TextTower, run: Callable[[dict[str, np.ndarray]], dict[str, Any]]) -> Iterator[Gap]:
    """The gap after each length, then after each batch size."""
    gap, longest = Gap(), tower.input.max_tokens
    reads = {node.name for node in tower.to_onnx().graph.input}
    whole = tower.input.padding == "max_tokens"
    batches = [(2, longest if whole else length) for length in range(2, longest + 1)]
    batches += [(count, longest if whole else 16) for count in BATCHES]
    dice = np.random.default_rng(0)
    for count, length in batches:
        ids, mask = _tokens(tower, count, length, dice)
        reference = tower.reference(ids, mask)
        offered = {"input_ids": ids, "attention_mask": mask}
        gap.see(run({name: offered[name] for name in reads})["text"], reference)
        yield gap


def _tokens(tower: TextTower, count: int, length: int, dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens with a last one as the tower's own texts have it; the first text is whole, the others cut."""
    ends = tower.tokenize("word")
    ids = dice.integers(5, 400, (count, length))
    mask = np.zeros((count, length), np.int64)
    for row in range(count):
        used = length if row == 0 else int(dice.integers(2, length + 1))
        ids[row, 0], ids[row, used - 1] = ends[0], ends[-1]
        ids[row, used:], mask[row, :used] = tower.input.pad_id, 1
    return ids, mask


@click.command()
@click.option("--tower", "names", multiple=True, type=click.Choice([*IMAGES, *TEXTS]), help="Default: all.")
def parity(names: tuple[str, ...]) -> None:
    """Compare the towers' graphs with transformers at their true sizes."""
    torch.set_num_threads(cores())
    for what, value in describe().items():
        click.echo(f"{what}: {value}")
    missed = False
    for name in names or (*IMAGES, *TEXTS):
        with tempfile.TemporaryDirectory(prefix="sceneseek-parity-") as home, others(click.echo):
            folder = (IMAGES | TEXTS)[name](Path(home) / "model", true_size=True)
            start = time.monotonic()
            tower: ImageTower | TextTower = (
                load_image_tower(ImageTowerSpec("tower", name, f"dir:{folder}"))
                if name in IMAGES
                else load_text_tower(
                    TextTowerSpec("tower", name, f"dir:{folder}", max_tokens=128 if name == "bert" else None)
                )
            )
            graph = Path(home) / "tower.onnx"
            graph.write_bytes(tower.to_onnx().SerializeToString())
            exported = time.monotonic() - start
            run = open_session(graph, "cpu").run
            gaps = image_gap(tower, run) if isinstance(tower, ImageTower) else text_gap(tower, run)
            gap, batches = Gap(), 0
            for gap in gaps:  # noqa: B007 - the last one is told
                batches += 1
            met = gap.unit <= GOAL
            missed |= not met
            click.echo(
                f"{name:<13} {graph.stat().st_size / 1e6:6.0f} MB, loaded and exported in {exported:.0f} s; "
                f"over {batches} batches numbers differ by {gap.plain:.1e}, at length 1 by {gap.unit:.1e} "
                f"(goal {GOAL:.0e}: {'met' if met else 'MISSED'})"
            )
    sys.exit(int(missed))


if __name__ == "__main__":
    parity()
