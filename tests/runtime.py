"""ONNX models run as a bundle's are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

from sceneseek_export.composition import finish


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> Any:
    """The first output of a piece or a whole graph, by ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(finish(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]
