"""A small ONNX model from ONNX's own textual syntax (onnx.parser), with its weights attached."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper, parser

OPSET = 17
IR_VERSION = 10

_HEADER = f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>'


def piece(text: str, **weights: np.ndarray | np.generic) -> onnx.ModelProto:
    """A model of ONNX's textual syntax, with its weights by name."""
    model = parser.parse_model(f"{_HEADER}\n{text}")
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model
