"""Run ONNX models as the models of a bundle are run."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

from sceneseek_export.composition import finish


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> Any:
    """Run a graph or subgraph with ONNX Runtime on the CPU, and return its first output."""
    session = onnxruntime.InferenceSession(finish(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]
