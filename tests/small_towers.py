"""Small towers for unit tests: graphs with random weights, and numpy reference implementations."""

from __future__ import annotations

import zlib

import numpy as np
from onnx import TensorProto

from sceneseek.bundle import ImageInput, TextInput
from sceneseek.vectors import Floats
from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec
from sceneseek_export.subgraphs import GraphBuilder
from sceneseek_export.towers import ImageTower, TextTower
from sceneseek_export.towers.base import Tokens

VOCABULARY = 30


def image_tower(name: str, side: int, features: int, classes: int) -> ImageTower:
    """A classifier over pictures of `side` x `side` pixels; the same name gives the same weights.

    Features are a linear map of the pixels; logits are a linear map of the ReLU of the features.
    """
    spec = ImageInput(
        name=name,
        height=side,
        width=side,
        fit="squash",
        fit_transparent="squash",
        mean=(100, 110, 120),
        std=(20, 30, 40),
    )
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    first, first_bias = _linear(rng, 3 * side * side, features)
    second, second_bias = _linear(rng, features, classes)

    def reference(pixels: Floats) -> tuple[Floats, Floats]:
        values: Floats = pixels.reshape(len(pixels), -1) @ first + first_bias
        return values, np.maximum(values, 0) @ second + second_bias

    graph = GraphBuilder()
    seen = graph.op("Gemm", graph.op("Flatten", "pixels"), first, first_bias)
    logits = graph.op("Gemm", graph.op("Relu", seen), second, second_bias)
    model = graph.build(
        "small",
        {"pixels": (TensorProto.FLOAT, ["N", 3, side, side])},
        {"features": (seen, ["N", features]), "logits": (logits, ["N", classes])},
    )
    return ImageTower(
        ImageTowerSpec(name, "small", "dir:drawn", input=spec),
        spec,
        features=features,
        classes=classes,
        sha256="5" * 64,
        to_onnx=lambda: model,
        reference=reference,
    )


def text_tower(name: str, width: int) -> TextTower:
    """A masked mean over the vectors of 30 tokens; the same name gives the same weights."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    vectors = rng.normal(size=(VOCABULARY, width)).astype(np.float32)

    def reference(input_ids: Tokens, attention_mask: Tokens) -> Floats:
        mask = attention_mask[:, :, None].astype(np.float32)
        mean: Floats = (vectors[input_ids] * mask).sum(1) / mask.sum(1)
        return mean

    graph = GraphBuilder()
    mask = graph.op("Unsqueeze", graph.op("Cast", "attention_mask", to=TensorProto.FLOAT), np.array([2]))
    counted = graph.op("Mul", graph.op("Gather", vectors, "input_ids"), mask)
    mean = graph.op("Div", *(graph.op("ReduceSum", x, np.array([1]), keepdims=0) for x in (counted, mask)))
    tokens = (TensorProto.INT64, ["N", "L"])
    model = graph.build("small", {"input_ids": tokens, "attention_mask": tokens}, {"text": (mean, ["N", width])})
    return TextTower(
        TextTowerSpec(name, "small", "dir:drawn"),
        TextInput(name=name, tokenizer=f"{name}.tokenizer.json", max_tokens=8, pad_id=0),
        tokenizer=b"",
        tokenize=lambda _: [],
        width=width,
        sha256="5" * 64,
        to_onnx=lambda: model,
        reference=reference,
    )


def features_and_logits(tower: ImageTower, pixels: np.ndarray) -> tuple[Floats, Floats]:
    """Features and logits of uint8 (N, H, W, 3) pixels, computed by the tower's reference."""
    levels = ((pixels - np.array(tower.input.mean)) / np.array(tower.input.std)).astype(np.float32)
    return tower.reference(levels.transpose(0, 3, 1, 2))


def _linear(rng: np.random.Generator, inputs: int, outputs: int) -> tuple[Floats, Floats]:
    """Weights (inputs, outputs) and a bias that keep the magnitude of the input."""
    weight = (inputs**-0.5 * rng.normal(size=(inputs, outputs))).astype(np.float32)
    return weight, (0.1 * rng.normal(size=outputs)).astype(np.float32)
