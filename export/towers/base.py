"""What a loaded tower is: a torch module as the reference, and a way to ONNX."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn

from export.piece import OPSET
from sceneseek.files import sha256_of
from sceneseek.manifest import ImageInput, TextInput, Tower
from sceneseek.packs import ImageTowerSpec, TextTowerSpec

__all__ = ["OPSET", "ImageTower", "TextTower", "traced"]


@dataclass(frozen=True)
class ImageTower:
    """A loaded image tower.

    Attributes:
        spec: the recipe.
        module: normalised pixels (N, 3, H, W) float32 to ``features`` (N, F) and, of a classifier, ``logits``
            (N, C); a pair in any case, with logits (N, 0) where it is none.
        input: how a picture becomes its pixels.
        features: F.
        classes: C, 0 where it is no classifier of the 1,000 classes of ImageNet-1k.
        weights: the file, or the shards, whose sha256 stands for it.
        to_onnx: gives ``pixels`` (N, 3, H, W) float32 to ``features`` and, of a classifier, ``logits``.
    """

    spec: ImageTowerSpec
    module: nn.Module
    input: ImageInput
    features: int
    classes: int
    weights: tuple[Path, ...]
    to_onnx: Callable[[], onnx.ModelProto]

    def provenance(self) -> Tower:
        """Its entry in the manifest."""
        return _provenance(self.spec, "image", self.weights)


@dataclass(frozen=True)
class TextTower:
    """A loaded text tower.

    Attributes:
        spec: the recipe.
        module: ``input_ids`` and ``attention_mask`` (N, L) int64 to ``text`` (N, T).
        input: how a text becomes its tokens.
        tokenizer: content of a file of the `tokenizers` library.
        tokenize: the reference: one text to its ids by transformers' own tokenizer, cut to `input.max_tokens` and,
            where `input.padding` is ``max_tokens``, padded to it.
        width: T.
        weights: the file, or the shards, whose sha256 stands for it.
        curve: the scale and bias that the checkpoint was trained to read its cosines with, if it was.
        to_onnx: gives ``input_ids`` and, if it reads one, ``attention_mask`` (N, L) int64 to ``text`` (N, T) float32.
    """

    spec: TextTowerSpec
    module: nn.Module
    input: TextInput
    tokenizer: bytes
    tokenize: Callable[[str], list[int]]
    width: int
    weights: tuple[Path, ...]
    to_onnx: Callable[[], onnx.ModelProto]
    curve: tuple[float, float] | None = None

    def provenance(self) -> Tower:
        """Its entry in the manifest."""
        return _provenance(self.spec, "text", self.weights)

    def prepared(self, text: str) -> tuple[Tensor, Tensor]:
        """The reference's ``input_ids`` and ``attention_mask``, int64 (1, L), of one text."""
        ids = self.tokenize(text)
        padding = self.input.max_tokens - len(ids) if self.input.padding == "max_tokens" else 0
        mask = [1] * len(ids) + [0] * padding
        return torch.tensor([ids + [self.input.pad_id] * padding]), torch.tensor([mask])


def _provenance(
    spec: ImageTowerSpec | TextTowerSpec, modality: Literal["image", "text"], weights: tuple[Path, ...]
) -> Tower:
    return Tower(
        name=spec.name,
        modality=modality,
        architecture=spec.architecture,
        source=spec.source,
        sha256=_fingerprint(weights),
    )


def _fingerprint(weights: tuple[Path, ...]) -> str:
    """The sha256 of one file; of several, that of what `sha256sum` prints for them, in their names' order."""
    sums = {path.name: sha256_of(path) for path in weights}
    if len(sums) == 1:
        return next(iter(sums.values()))
    listing = "".join(f"{value}  {name}\n" for name, value in sorted(sums.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def traced(
    module: nn.Module, example: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str], axes: dict[int, str]
) -> onnx.ModelProto:
    """A module's graph by torch's tracing exporter.

    Args:
        module: in evaluation mode.
        example: a batch of two, since a traced batch of one could be folded into the graph as a constant.
        inputs: their names.
        outputs: likewise.
        axes: names of the inputs' free axes; the outputs' first is ``N``.
    """
    content: Any = io.BytesIO()  # the exporter takes any binary file; its annotation names paths only
    with warnings.catch_warnings():
        # The tracing exporter is called legacy by its own warnings; it gives the smaller, cleaner graph
        # (no embedded stack traces with paths of the exporting machine) and folds batch normalisation.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            content,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={**dict.fromkeys(inputs, axes), **{name: {0: "N"} for name in outputs}},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(content.getvalue())
