"""Models of transformers to ONNX by optimum's exporter, with the outputs a tower has and no others.

The configurations differ from optimum's own in three points: one output, named as a tower names it; inputs whose
only free axes are the batch and, of texts, the length; and an example of our own to trace with. Importing this
module takes seconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

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

Axes = dict[int, str]


class _One:
    """A configuration's part that gives one output under another name; in front of one of optimum's classes."""

    SOURCE: str  # the model's name of it
    NAME: str  # a tower's
    OUTPUT: Axes

    @property
    def outputs(self) -> dict[str, Axes]:
        """The output's free axes."""
        return {self.NAME: self.OUTPUT}

    @property
    def torch_to_onnx_output_map(self) -> dict[str, str]:
        """Names in the model to names in the graph."""
        return {self.SOURCE: self.NAME}


class _OfPixels(_One):
    """``pixels`` (N, 3, H, W), H and W those of the example."""

    height: int
    width: int

    NAME = "features"
    OUTPUT: Axes = {0: "N"}  # noqa: RUF012 - optimum's own are written so, and none is changed

    @property
    def inputs(self) -> dict[str, Axes]:
        """The inputs' free axes, by the model's name."""
        return {"pixel_values": {0: "N"}}

    @property
    def torch_to_onnx_input_map(self) -> dict[str, str]:
        """Names in the model to names in the graph."""
        return {"pixel_values": "pixels"}

    def generate_dummy_inputs(self, **_: Any) -> dict[str, torch.Tensor]:
        """What to trace with: a batch of two, since one could be folded into the graph as a constant."""
        return {"pixel_values": torch.zeros(2, 3, self.height, self.width)}


class _OfTokens(_One):
    """``input_ids`` (N, L) and, where the model reads it, ``attention_mask``."""

    NAME = "text"
    OUTPUT: Axes = {0: "N"}  # noqa: RUF012
    MASK = False

    @property
    def inputs(self) -> dict[str, Axes]:
        """The inputs' free axes, by the model's name."""
        names = ("input_ids", "attention_mask") if self.MASK else ("input_ids",)
        return {name: {0: "N", 1: "L"} for name in names}

    def generate_dummy_inputs(self, **_: Any) -> dict[str, torch.Tensor]:
        """What to trace with: two texts of seven tokens, since ones could be folded into the graph."""
        return {name: torch.ones(2, 7, dtype=torch.int64) for name in self.inputs}


class ResNet(_OfPixels, ResNetOnnxConfig):  # type: ignore[misc]
    """ResNetModel: ``pooled`` is its ``pooler_output`` (N, F, 1, 1)."""

    SOURCE, NAME = "pooler_output", "pooled"


class ClipImage(_OfPixels, CLIPVisionModelOnnxConfig):  # type: ignore[misc]
    """CLIPVisionModelWithProjection: ``features`` is its ``image_embeds``."""

    SOURCE = "image_embeds"


class SiglipImage(_OfPixels, SiglipVisionModelOnnxConfig):  # type: ignore[misc]
    """SiglipVisionModel: ``features`` is its ``pooler_output``."""

    SOURCE = "pooler_output"


class Bert(_OfTokens, BertOnnxConfig):  # type: ignore[misc]
    """BertModel without its pooler: ``tokens`` is its ``last_hidden_state`` (N, L, T)."""

    SOURCE, NAME, MASK = "last_hidden_state", "tokens", True
    OUTPUT: Axes = {0: "N", 1: "L"}  # noqa: RUF012


class ClipText(_OfTokens, CLIPTextWithProjectionOnnxConfig):  # type: ignore[misc]
    """CLIPTextModelWithProjection: ``text`` is its ``text_embeds``.

    It needs no mask: each token sees those before it, and the text's vector is that of its end token.
    """

    SOURCE = "text_embeds"


class SiglipText(_OfTokens, SiglipTextOnnxConfig):  # type: ignore[misc]
    """SiglipTextModel: ``text`` is its ``pooler_output``; its padding is part of the text."""

    SOURCE = "pooler_output"


def exported(model: Any, config: Any) -> onnx.ModelProto:
    """A model's graph.

    Raises:
        ExportError: there is no room to write it.
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
