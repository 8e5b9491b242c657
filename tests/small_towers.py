"""Loaded towers that are small enough for unit tests: torch modules with weights drawn at random, and their graphs."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.towers import ImageTower, TextTower
from export.towers.base import traced
from sceneseek.manifest import ImageInput, TextInput
from sceneseek.packs import ImageTowerSpec, TextTowerSpec
from sceneseek.vectors import Floats

VOCABULARY = 30


class _ImageModule(nn.Module):
    """Normalised pixels (N, 3, H, W) to features and logits: a linear map of the pixels, and one of its ReLU."""

    def __init__(self, side: int, features: int, classes: int) -> None:
        super().__init__()
        self.seen, self.said = nn.Linear(3 * side * side, features), nn.Linear(features, classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.seen(pixels.flatten(1))
        return features, self.said(torch.relu(features))


class _TextModule(nn.Module):
    """The mean over the mask of the tokens' vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.unsqueeze(-1).float()
        mean: Tensor = (self.tokens(input_ids) * mask).sum(1) / mask.sum(1)
        return mean


def image_tower(name: str, side: int, features: int, classes: int) -> ImageTower:
    """A classifier over pictures of `side` x `side` pixels; the same name gives the same weights."""
    spec = ImageInput(
        name=name,
        height=side,
        width=side,
        fit="squash",
        fit_transparent="squash",
        mean=(100, 110, 120),
        std=(20, 30, 40),
    )
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(name.encode()))
        module = _ImageModule(side, features, classes).eval()
    example = torch.zeros(2, 3, side, side)
    outputs = ["features", "logits"]
    return ImageTower(
        ImageTowerSpec(name, "small", "dir:drawn", spec),
        module,
        spec,
        features=features,
        classes=classes,
        weights=(Path(__file__),),
        to_onnx=lambda: traced(module, (example,), ["pixels"], outputs, {0: "N"}),
    )


def text_tower(name: str, width: int) -> TextTower:
    """A tower over 30 tokens; the same name gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(name.encode()))
        module = _TextModule(width).eval()
    example = (torch.ones(2, 4, dtype=torch.int64), torch.ones(2, 4, dtype=torch.int64))
    return TextTower(
        TextTowerSpec(name, "small", "dir:drawn"),
        module,
        TextInput(name=name, tokenizer=f"{name}.tokenizer.json", max_tokens=8, pad_id=0),
        tokenizer=b"",
        tokenize=lambda _: [],
        width=width,
        weights=(Path(__file__),),
        to_onnx=lambda: traced(module, example, ["input_ids", "attention_mask"], ["text"], {0: "N", 1: "L"}),
    )


def images_in_torch(tower: ImageTower, pixels: np.ndarray) -> tuple[Floats, Floats]:
    """Features and logits of uint8 (N, H, W, 3) pixels, by the tower's module."""
    levels = ((pixels - np.array(tower.input.mean)) / np.array(tower.input.std)).astype(np.float32)
    with torch.inference_mode():
        features, logits = tower.module(torch.from_numpy(levels.transpose(0, 3, 1, 2).copy()))
    return features.numpy(), logits.numpy()


def texts_in_torch(tower: TextTower, ids: np.ndarray, mask: np.ndarray) -> Floats:
    """Vectors of int64 (N, L) tokens, by the tower's module."""
    with torch.inference_mode():
        vectors: Floats = tower.module(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    return vectors
