"""Exports transformers models to ONNX with optimum, with the inputs and the output of a tower.

The configurations differ from optimum's own in three points: one output, with a tower's name for it; inputs whose only
dynamic axes are the batch and, for texts, the length; and their own example to trace with. Importing this module takes
seconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import onnx
import torch
from optimum.exporters.onnx import export
from optimum.exporters.onnx.model_configs import (
    BertOnnxConfig,
    CLIPTextWithProjectionOnnxConfig,
    CLIPVisionModelOnnxConfig,
    ResNetOnnxConfig,
    SiglipTextOnnxConfig,
    SiglipVisionModelOnnxConfig,
)

from sceneseek.errors import ExportError
from sceneseek_export.subgraphs import IR_VERSION, OPSET, strip
from sceneseek_export.towers.pretrained import quiet

Axes = dict[str, dict[int, str]]  # the dynamic axes by the name of an input or output


class _OfPixels:
    """``pixels`` (N, 3, H, W) to one output; H and W are fixed by the example."""

    height: int
    width: int
    inputs: ClassVar[Axes] = {"pixel_values": {0: "N"}}
    outputs: ClassVar[Axes] = {"features": {0: "N"}}
    torch_to_onnx_input_map: ClassVar = {"pixel_values": "pixels"}

    def generate_dummy_inputs(self, **_: Any) -> dict[str, torch.Tensor]:
        """The example to trace with: a batch of 2, since a batch of 1 could become a constant in the graph."""
        return {"pixel_values": torch.zeros(2, 3, self.height, self.width)}


class _OfTokens:
    """``input_ids`` (N, L) and, if the model reads it, ``attention_mask``, to one output."""

    inputs: ClassVar[Axes] = {"input_ids": {0: "N", 1: "L"}}
    outputs: ClassVar[Axes] = {"text": {0: "N"}}

    def generate_dummy_inputs(self, **_: Any) -> dict[str, torch.Tensor]:
        """The example to trace with: 2 texts of 7 tokens, since a size of 1 could become a constant in the graph."""
        return {name: torch.ones(2, 7, dtype=torch.int64) for name in self.inputs}


class ResNet(_OfPixels, ResNetOnnxConfig):  # type: ignore[misc]
    """ResNetModel: ``pooled`` is its ``pooler_output`` (N, F, 1, 1)."""

    outputs: ClassVar[Axes] = {"pooled": {0: "N"}}
    torch_to_onnx_output_map: ClassVar = {"pooler_output": "pooled"}


class ClipImage(_OfPixels, CLIPVisionModelOnnxConfig):  # type: ignore[misc]
    """CLIPVisionModelWithProjection: ``features`` is its ``image_embeds``."""

    torch_to_onnx_output_map: ClassVar = {"image_embeds": "features"}


class SiglipImage(_OfPixels, SiglipVisionModelOnnxConfig):  # type: ignore[misc]
    """SiglipVisionModel: ``features`` is its ``pooler_output``."""

    torch_to_onnx_output_map: ClassVar = {"pooler_output": "features"}


class Bert(_OfTokens, BertOnnxConfig):  # type: ignore[misc]
    """BertModel without its pooler: ``tokens`` is its ``last_hidden_state`` (N, L, T)."""

    inputs: ClassVar[Axes] = {name: {0: "N", 1: "L"} for name in ("input_ids", "attention_mask")}
    outputs: ClassVar[Axes] = {"tokens": {0: "N", 1: "L"}}
    torch_to_onnx_output_map: ClassVar = {"last_hidden_state": "tokens"}


class ClipText(_OfTokens, CLIPTextWithProjectionOnnxConfig):  # type: ignore[misc]
    """CLIPTextModelWithProjection: ``text`` is its ``text_embeds``.

    It needs no mask: each token attends only to those before it, and the text's vector is that of its end token.
    """

    torch_to_onnx_output_map: ClassVar = {"text_embeds": "text"}


class SiglipText(_OfTokens, SiglipTextOnnxConfig):  # type: ignore[misc]
    """SiglipTextModel: ``text`` is its ``pooler_output``; its padding is part of the text."""

    torch_to_onnx_output_map: ClassVar = {"pooler_output": "text"}


def exported(model: Any, config: Any) -> onnx.ModelProto:
    """Export a model's graph.

    Raises:
        ExportError: the graph cannot be written to a temporary file.
    """
    try:
        with tempfile.TemporaryDirectory() as folder, quiet(), torch.no_grad():
            path = Path(folder) / "model.onnx"
            export(model, config, path, opset=OPSET, disable_dynamic_axes_fix=True)
            graph = onnx.load(path)
    except OSError as error:
        raise ExportError(
            f"a graph cannot be written to {tempfile.gettempdir()} ({error.strerror})", "free some space or set TMPDIR"
        ) from error
    graph.ir_version = IR_VERSION
    return strip(graph)
