"""What graphs are fed in benchmarks: photographs, noise, queries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.texts import own_queries
from sceneseek.bundle import Bundle
from sceneseek.manifest import ImageInput
from sceneseek.tokenizer import Tokenizer
from sceneseek_indexer.load import Loaded, load
from sceneseek_indexer.walk import list_images

Feed = Mapping[str, np.ndarray[Any, Any]]


def photographs(folder: Path, inputs: tuple[ImageInput, ...], count: int) -> Feed:
    """The first photographs of a folder as the image graph reads them."""
    loaded: list[Loaded] = []
    for file in list_images(folder).files:
        found = load(file, inputs)
        if isinstance(found, Loaded):
            loaded.append(found)
        if len(loaded) == count:
            break
    return {spec.name: np.stack([image.pixels[i] for image in loaded]) for i, spec in enumerate(inputs)}


def noise(graph: Path, count: int) -> Feed:
    """Coarse coloured noise, or normal numbers, in the shapes that a graph reads."""
    draw = np.random.default_rng(0)
    feed: dict[str, np.ndarray[Any, Any]] = {}
    for node in _inputs(graph):
        shape = [count, *node.shape[1:]]
        if node.type == "tensor(uint8)":
            coarse = draw.integers(0, 256, (count, -(-shape[1] // 8), -(-shape[2] // 8), 3), np.uint8)
            feed[node.name] = np.ascontiguousarray(coarse.repeat(8, 1).repeat(8, 2)[:, : shape[1], : shape[2]])
        else:
            feed[node.name] = draw.standard_normal(shape, np.float32)
    return feed


def queries(bundle: Bundle, count: int) -> Feed:
    """Sentences of our own as the text graph reads them, padded together."""
    texts = (own_queries() * (count // len(own_queries()) + 1))[:count]
    offered: dict[str, np.ndarray[Any, Any]] = {}
    for spec in bundle.manifest.text_inputs:
        tokens = Tokenizer(bundle.tokenizer(spec), spec)(texts)
        offered |= {f"{spec.name}.input_ids": tokens.ids, f"{spec.name}.attention_mask": tokens.mask}
    return {node.name: offered[node.name] for node in _inputs(bundle.text_graph)}


def first(feed: Feed, rows: int) -> Feed:
    """The first rows of every array."""
    return {name: array[:rows] for name, array in feed.items()}


def _inputs(graph: Path) -> list[Any]:
    import onnxruntime  # noqa: PLC0415 - optional: which of the runtimes is installed is the user's choice

    inputs: list[Any] = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"]).get_inputs()
    return inputs
