"""The reference of a tower whose graph is written here: that graph alone, operator by operator.

ONNX Runtime fuses and reorders what it serves; with its optimisations off each operator runs as it stands. That the
graph is the published network is not shown here: the tests compare it with the original in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import onnx
import onnxruntime

from sceneseek.vectors import Floats
from sceneseek_export.towers.base import Tokens


def image_reference(model: onnx.ModelProto) -> Callable[[Floats], tuple[Floats, Floats]]:
    """See `ImageTower.reference`; of a graph from ``pixels`` to ``features`` and ``logits``."""
    session = cache(lambda: _plain_session(model))

    def run(pixels: Floats) -> tuple[Floats, Floats]:
        features, logits = session().run(["features", "logits"], {"pixels": pixels})
        return features, logits

    return run


def text_reference(model: onnx.ModelProto) -> Callable[[Tokens, Tokens], Floats]:
    """See `TextTower.reference`; of a graph from ``input_ids`` and ``attention_mask`` to ``text``."""
    session = cache(lambda: _plain_session(model))

    def run(input_ids: Tokens, attention_mask: Tokens) -> Floats:
        vectors: Floats = session().run(["text"], {"input_ids": input_ids, "attention_mask": attention_mask})[0]
        return vectors

    return run


def _plain_session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
