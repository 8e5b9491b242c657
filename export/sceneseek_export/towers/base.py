"""Loaded towers: their input, their graph, and a reference that the graph must reproduce."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from sceneseek.bundle import ImageInput, TextInput, Tower, tokenizer_file
from sceneseek.preprocess import Pixels
from sceneseek.vectors import Floats
from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec

Tokens: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageTower:
    """A loaded image tower.

    Attributes:
        spec: the recipe.
        input: the preprocessing of pictures.
        features: F, the number of features.
        classes: C; 0 if it does not classify the 1,000 classes of ImageNet-1k.
        sha256: hex sha256 of the weights file; see `pretrained.Checkpoint.sha256` for several files.
        to_onnx: exports the graph: normalised ``pixels`` (N, 3, H, W) float32 to ``features`` (N, F) and, for a
            classifier, ``logits`` (N, C).
        reference: computes features and logits from normalised pixels independently of the bundle's graph.
    """

    spec: ImageTowerSpec
    input: ImageInput
    features: int
    classes: int
    sha256: str
    to_onnx: Callable[[], onnx.ModelProto]
    reference: Callable[[Floats], tuple[Floats, Floats]]

    def provenance(self) -> Tower:
        """Its entry in the manifest."""
        return _provenance(self.spec, "image", self.sha256)

    def normalised(self, pictures: Sequence[Pixels]) -> Floats:
        """Normalise N pictures (H, W, 3) uint8 to the (N, 3, H, W) that the graph and `reference` take."""
        levels = (np.stack(pictures) - np.array(self.input.mean)) / np.array(self.input.std)
        return np.ascontiguousarray(levels.transpose(0, 3, 1, 2), np.float32)


@dataclass(frozen=True)
class TextTower:
    """A loaded text tower.

    Attributes:
        spec: the recipe.
        input: the tokenization of texts.
        tokenizer: content of the tokenizer's file in the bundle.
        tokenize: the reference tokenizer: one text to ids by the checkpoint's own tokenizer, truncated to
            `input.max_tokens` and, if `input.padding` is ``max_tokens``, padded to it.
        width: T, the width of the vectors.
        sha256: as for image towers.
        curve: scale and bias of the cosines, if the checkpoint was trained with them; else None.
        to_onnx: exports the graph: ``input_ids`` and, if it reads one, ``attention_mask`` (N, L) int64 to ``text``
            (N, T) float32.
        reference: computes vectors from ids and mask independently of the bundle's graph.
        rounds: whether the graph rounds activations to few bits, so that its vectors differ slightly between CPUs.
    """

    spec: TextTowerSpec
    input: TextInput
    tokenizer: bytes
    tokenize: Callable[[str], list[int]]
    width: int
    sha256: str
    to_onnx: Callable[[], onnx.ModelProto]
    reference: Callable[[Tokens, Tokens], Floats]
    curve: tuple[float, float] | None = None
    rounds: bool = False

    def provenance(self) -> Tower:
        """Its entry in the manifest."""
        return _provenance(self.spec, "text", self.sha256)

    def prepared(self, text: str) -> tuple[Tokens, Tokens]:
        """``input_ids`` and ``attention_mask``, int64 (1, L), of one text for the reference."""
        ids = self.tokenize(text)
        padding = self.input.max_tokens - len(ids) if self.input.padding == "max_tokens" else 0
        mask = [1] * len(ids) + [0] * padding
        return np.array([ids + [self.input.pad_id] * padding]), np.array([mask])


def text_input(
    spec: TextTowerSpec, max_tokens: int, pad_id: int, kind: Literal["json", "npz"] = "json", **others: Any
) -> TextInput:
    """The tokenization of a tower's texts according to its recipe; `kind` is the suffix of the tokenizer's file."""
    return TextInput(
        name=spec.name,
        tokenizer=tokenizer_file(spec.name, kind),
        max_tokens=max_tokens,
        pad_id=pad_id,
        articles=spec.articles,
        **{"multilingual": spec.multilingual, **others},
    )


def _provenance(spec: ImageTowerSpec | TextTowerSpec, modality: Literal["image", "text"], sha256: str) -> Tower:
    return Tower(
        name=spec.name,
        modality=modality,
        architecture=spec.architecture,
        source=spec.source,
        sha256=sha256,
    )


def image_reference(model: onnx.ModelProto) -> Callable[[Floats], tuple[Floats, Floats]]:
    """An `ImageTower.reference` that runs a graph from ``pixels`` to ``features`` and ``logits``."""
    session = cache(lambda: _session(model))

    def run(pixels: Floats) -> tuple[Floats, Floats]:
        features, logits = session().run(["features", "logits"], {"pixels": pixels})
        return features, logits

    return run


def text_reference(model: onnx.ModelProto, optimised: bool = False) -> Callable[[Tokens, Tokens], Floats]:
    """A `TextTower.reference` that runs a graph from ``input_ids`` and ``attention_mask`` to ``text``.

    Args:
        model: the graph.
        optimised: whether to optimise the graph as in production, for a tower that `rounds`.
    """
    session = cache(lambda: _session(model, optimised))

    def run(input_ids: Tokens, attention_mask: Tokens) -> Floats:
        vectors: Floats = session().run(["text"], {"input_ids": input_ids, "attention_mask": attention_mask})[0]
        return vectors

    return run


def _session(model: onnx.ModelProto, optimised: bool = False) -> Any:
    options, levels = onnxruntime.SessionOptions(), onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
