"""An ONNX graph written operator by operator, with its weights.

`sceneseek_export.piece` is for formulas that read best as text; this is for networks, which are loops over layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sceneseek_export.piece import IR_VERSION, OPSET


class GraphBuilder:
    """A graph under construction. Names are numbered in the order of the calls, so equal calls give equal bytes."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, value: np.ndarray | np.generic) -> str:
        """Add an array that several operators share; the name of its tensor."""
        name = f"weight.{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def op(self, kind: str, *inputs: str | np.ndarray | np.generic, outputs: int = 1, **attributes: Any) -> str:
        """Add an operator; arrays among its inputs become weights. Returns the name of its first output.

        The others are named like it, with ``.1``, ``.2``, ... behind.
        """
        first = f"{kind}.{len(self._nodes)}"
        names = [first, *(f"{first}.{i}" for i in range(1, outputs))]
        wired = [value if isinstance(value, str) else self.weight(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, wired, names, name=first, **attributes))
        return first

    def build(
        self,
        name: str,
        inputs: dict[str, tuple[int, Sequence[int | str]]],
        outputs: dict[str, tuple[str, Sequence[int | str]]],
    ) -> onnx.ModelProto:
        """The checked model.

        Args:
            name: the graph's.
            inputs: by name an element type of `onnx.TensorProto` and a shape.
            outputs: by name the tensor that it is, and its shape; float32.
        """
        ends = [helper.make_node("Identity", [tensor], [out], name=out) for out, (tensor, _) in outputs.items()]
        graph = helper.make_graph(
            [*self._nodes, *ends],
            name,
            [helper.make_tensor_value_info(given, kind, shape) for given, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, shape) for out, (_, shape) in outputs.items()],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = model.producer_version = ""
        onnx.checker.check_model(model, full_check=True)
        return model
