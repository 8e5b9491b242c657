"""The subgraphs around the towers, and two ways to write subgraphs.

`subgraph` parses ONNX's textual syntax (onnx.parser), for formulas: `alignment` and `heads` implement the same formulas
in numpy, and `parity` compares the two. `GraphBuilder` adds single operators, for networks, which are loops over
layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, parser

from sceneseek.bundle import ImageInput
from sceneseek_export.alignment_maps import ClassNames, FeatureRange, Hubness, Mixing, Typical

OPSET = 17
# The domain of ONNX Runtime's own operators.
MICROSOFT = "com.microsoft"
IR_VERSION = 10
_LARGEST_LEVEL = 63  # of `EightBit`
_ZERO_LEVEL = 128  # the level of 0 in vectors: products with unsigned vectors are fast

_HEADER = f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>'


def subgraph(text: str, **weights: np.ndarray | np.generic) -> onnx.ModelProto:
    """Parse a model in ONNX's textual syntax and add its weights by name."""
    model = parser.parse_model(f"{_HEADER}\n{text}")
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


@dataclass(frozen=True)
class FourBit:
    """A matrix (N, K) of 4-bit levels with a scale for each block of 32 in a row; level 8 represents 0.

    Attributes:
        levels: uint8 (N, K), each below 16.
        scales: float32 (N, K / 32).
    """

    levels: np.ndarray
    scales: np.ndarray

    def to_float(self) -> np.ndarray:
        """The matrix in float32."""
        blocks = self.levels.reshape(*self.scales.shape, -1).astype(np.float32) - 8
        matrix: np.ndarray = (blocks * self.scales[..., None]).reshape(self.levels.shape)
        return matrix

    @property
    def packed(self) -> np.ndarray:
        """The levels as uint8 (N, K / 2): two per byte, the first in the low half."""
        packed: np.ndarray = self.levels[:, 0::2] | self.levels[:, 1::2] << 4
        return packed


@dataclass(frozen=True)
class EightBit:
    """A matrix (N, K) of signed 8-bit levels with a scale for each row.

    `GraphBuilder.times` rounds vectors to 8 bits with a scale for each vector, the token-wise quantization of ZeroQuant
    (Yao et al. 2022), and multiplies them with the matrix. With one range for all, a text's vector would depend on the
    other texts of its batch.

    Attributes:
        levels: int8 (N, K), from -63 to 63: CPUs without VNNI instructions add pairs of products in 16 bits, which
            overflow with larger levels.
        scales: float32 (N,).
    """

    levels: np.ndarray
    scales: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray) -> EightBit:
        """Round a matrix (N, K) of floats."""
        scales = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny) / _LARGEST_LEVEL
        return cls(np.rint(weight / scales[:, None]).astype(np.int8), scales.astype(np.float32))


class GraphBuilder:
    """A graph under construction. Names are numbered in the order of the calls, so the result is deterministic."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._roundings: dict[str, tuple[str, str]] = {}

    def weight(self, value: np.ndarray | np.generic) -> str:
        """Add an array that several operators share. Returns the name of its tensor."""
        name = f"weight.{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def op(self, kind: str, *inputs: str | np.ndarray | np.generic, **attributes: Any) -> str:
        """Add an operator; arrays among its inputs become weights. Returns the name of its output."""
        name = f"{kind}.{len(self._nodes)}"
        wired = [value if isinstance(value, str) else self.weight(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, wired, [name], name=name, **attributes))
        return name

    def times(self, x: str, weight: np.ndarray | EightBit) -> str:
        """Multiply ``x`` (..., K) by the transpose of a matrix (N, K), in float32 even if it is stored in float16."""
        if not isinstance(weight, EightBit):
            matrix = self.op("Cast", weight.T, to=TensorProto.FLOAT) if weight.dtype == np.float16 else weight.T
            return self.op("MatMul", x, matrix)
        levels, scale = self._rounded(x)
        sums = self.op("MatMulInteger", levels, weight.levels.T, np.uint8(_ZERO_LEVEL))
        by_vector = self.op("Mul", self.op("Cast", sums, to=TensorProto.FLOAT), scale)
        return self.op("Mul", by_vector, weight.scales)

    def _rounded(self, x: str) -> tuple[str, str]:
        """The uint8 levels of ``x`` (..., K) and their scales (..., 1), shared by all products that read ``x``."""
        if x not in self._roundings:
            largest = self.op("ReduceMax", self.op("Abs", x), axes=[-1], keepdims=1)
            scale = self.op("Mul", self.op("Max", largest, np.float32(1e-12)), np.float32(1 / 127))
            levels = self.op("Add", self.op("Round", self.op("Div", x, scale)), np.float32(_ZERO_LEVEL))
            self._roundings[x] = self.op("Cast", levels, to=TensorProto.UINT8), scale
        return self._roundings[x]

    def rows(self, weight: np.ndarray | FourBit, indices: str) -> str:
        """The rows of a matrix at these indices, in float32; of a matrix in float16, only these rows are converted."""
        if not isinstance(weight, FourBit):
            rows = self.op("Gather", weight, indices)
            return self.op("Cast", rows, to=TensorProto.FLOAT) if weight.dtype == np.float16 else rows
        sizes = {"bits": 4, "block_size": weight.levels.shape[1] // weight.scales.shape[1]}
        axes = {"gather_axis": 0, "quantize_axis": 1}
        return self.op("GatherBlockQuantized", weight.packed, indices, weight.scales, **sizes, **axes, domain=MICROSOFT)

    def build(
        self,
        name: str,
        inputs: dict[str, tuple[int, Sequence[int | str]]],
        outputs: dict[str, tuple[str, Sequence[int | str]]],
    ) -> onnx.ModelProto:
        """Return the model, which is checked when it is composed into a bundle's graph.

        Args:
            name: name of the graph.
            inputs: element type of `onnx.TensorProto` and shape, by name.
            outputs: tensor and shape, by name; float32.
        """
        ends = [helper.make_node("Identity", [tensor], [out], name=out) for out, (tensor, _) in outputs.items()]
        graph = helper.make_graph(
            [*self._nodes, *ends],
            name,
            [helper.make_tensor_value_info(source, kind, shape) for source, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, shape) for out, (_, shape) in outputs.items()],
            self._weights,
        )
        return strip(helper.make_model(graph, opset_imports=opsets(graph.node), ir_version=IR_VERSION))


def followed_by(model: onnx.ModelProto, piece: onnx.ModelProto, wires: Mapping[str, str]) -> onnx.ModelProto:
    """Append a subgraph to a model; its outputs become those of the model.

    Args:
        model: a model of the subgraph's opset; modified in place.
        piece: the subgraph, see `subgraph`.
        wires: the tensor of the model that feeds each input of the subgraph.
    """
    named = compose.add_prefix(piece, "end/")
    graph = model.graph
    graph.node.extend(helper.make_node("Identity", [tensor], [f"end/{name}"]) for name, tensor in wires.items())
    graph.node.extend(named.graph.node)
    graph.initializer.extend(named.graph.initializer)
    graph.node.extend(helper.make_node("Identity", [f"end/{out.name}"], [out.name]) for out in piece.graph.output)
    del graph.output[:]
    graph.output.extend(piece.graph.output)
    return model


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove metadata such as the names of tools, in place, so that exports are deterministic."""
    model.producer_name = model.producer_version = model.doc_string = ""
    del model.metadata_props[:], model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    return model


def opsets(nodes: Iterable[onnx.NodeProto]) -> list[onnx.OperatorSetIdProto]:
    """The operator sets of a model with these nodes."""
    ours = [helper.make_opsetid("", OPSET)]
    return [*ours, helper.make_opsetid(MICROSOFT, 1)] if any(node.domain == MICROSOFT for node in nodes) else ours


def pixels_to_tower(spec: ImageInput) -> onnx.ModelProto:
    """``pixels`` uint8 (N, H, W, 3) to ``normalised`` float32 (N, 3, H, W)."""
    shape = f"N,{spec.height},{spec.width},3"
    return subgraph(
        f"""
        pixels (uint8[{shape}] pixels) => (float[N,3,{spec.height},{spec.width}] normalised) {{
            levels = Cast<to = 1>(pixels)
            centred = Sub(levels, mean)
            scaled = Div(centred, std)
            normalised = Transpose<perm = [0, 3, 1, 2]>(scaled)
        }}""",
        mean=np.array(spec.mean, np.float32),
        std=np.array(spec.std, np.float32),
    )


def class_names(names: ClassNames) -> onnx.ModelProto:
    """``logits`` (N, C) to ``names`` (N, T): class-name vectors by ConSE, scaled to length 1."""
    return subgraph(
        """
        names (float[N,C] logits) => (float[N,T] names) {
            scaled = Div(logits, temperature)
            p = Softmax<axis = 1>(scaled)
            best, where = TopK<axis = 1>(p, top)
            nothing = Mul(p, zero)
            kept = ScatterElements<axis = 1>(nothing, where, best)
            sum = MatMul(kept, embeddings)
            length = ReduceL2<axes = [1], keepdims = 1>(sum)
            safe = Max(length, tiny)
            names = Div(sum, safe)
        }""",
        temperature=np.float32(names.temperature),
        top=np.array([names.top], np.int64),
        zero=np.float32(0),
        tiny=np.float32(1e-12),
        embeddings=names.embeddings,
    )


def mean_direction(count: int) -> onnx.ModelProto:
    """``x0`` ... (N, T) each to ``y`` (N, T): their sum, scaled to length 1."""
    names = [f"x{i}" for i in range(count)]
    inputs = ", ".join(f"float[N,T] {name}" for name in names)
    return subgraph(
        f"""
        mean_direction ({inputs}) => (float[N,T] y) {{
            sum = Sum({", ".join(names)})
            length = ReduceL2<axes = [1], keepdims = 1>(sum)
            safe = Max(length, tiny)
            y = Div(sum, safe)
        }}""",
        tiny=np.float32(1e-12),
    )


def clipped(limits: FeatureRange) -> onnx.ModelProto:
    """``x`` (N, F) clipped to a range, as ``y``."""
    return subgraph(
        """
        clipped (float[N,F] x) => (float[N,F] y) {
            below = Min(x, high)
            y = Max(below, low)
        }""",
        low=limits.low,
        high=limits.high,
    )


def image_hubness(hubness: Hubness) -> onnx.ModelProto:
    """``z`` (N, D) of images to ``joint`` (N, D + 2)."""
    weight = np.float32(hubness.weight)
    return subgraph(
        """
        image_hubness (float[N,D] z) => (float[N,J] joint) {
            similarity = MatMul(z, bank)
            nearest, where = TopK<axis = 1>(similarity, neighbours)
            r = ReduceMean<axes = [1], keepdims = 1>(nearest)
            taken = Mul(r, minus_root)
            square = Mul(r, r)
            left = Sub(one, square)
            positive = Max(left, zero)
            rest = Sqrt(positive)
            kept = Mul(rest, root)
            together = Concat<axis = 1>(z, taken, kept)
            joint = Div(together, length)
        }""",
        bank=np.ascontiguousarray(hubness.bank.T),
        neighbours=np.array([hubness.neighbours], np.int64),
        root=np.sqrt(weight),
        minus_root=-np.sqrt(weight),
        one=np.float32(1),
        zero=np.float32(0),
        length=np.sqrt(1 + weight),
    )


def text_hubness(hubness: Hubness) -> onnx.ModelProto:
    """``z`` (N, D) of texts to ``joint`` (N, D + 2)."""
    weight = np.float32(hubness.weight)
    return subgraph(
        """
        text_hubness (float[N,D] z) => (float[N,J] joint) {
            rows = Slice(z, start, end, axis)
            nothing = Mul(rows, zero)
            constant = Add(nothing, last)
            together = Concat<axis = 1>(z, constant)
            joint = Div(together, length)
        }""",
        start=np.array([0], np.int64),
        end=np.array([1], np.int64),
        axis=np.array([1], np.int64),
        zero=np.float32(0),
        last=np.array([np.sqrt(weight), 0], np.float32),
        length=np.sqrt(1 + weight),
    )


def text_spread(typical: Typical, block: int, share: float) -> onnx.ModelProto:
    """``z`` (N, d), a block of this share for texts, to ``spread`` (N, 2): mean and deviation of its cosines."""
    scale = np.sqrt(np.float32(share))
    return subgraph(
        """
        text_spread (float[N,D] z) => (float[N,2] spread) {
            mean = MatMul(z, centre)
            along = MatMul(z, root)
            deviation = ReduceL2<axes = [1], keepdims = 1>(along)
            spread = Concat<axis = 1>(mean, deviation)
        }""",
        centre=(typical.means[block] / scale)[:, None],
        root=np.ascontiguousarray(typical.roots[block].T / scale),
    )


def unit(source: str, result: str) -> onnx.ModelProto:
    """Rows of `source` (N, K) scaled to length 1."""
    return subgraph(
        f"""
        unit (float[N,K] {source}) => (float[N,K] {result}) {{
            length = ReduceL2<axes = [1], keepdims = 1>({source})
            safe = Max(length, tiny)
            {result} = Div({source}, safe)
        }}""",
        tiny=np.float32(1e-12),
    )


def linear_unit(weight: np.ndarray, bias: np.ndarray, share: float) -> onnx.ModelProto:
    """One side of a learned block: ``x`` (N, K) to ``y`` (N, d), sqrt(share) * normalise(weight x + bias)."""
    return subgraph(
        """
        linear_unit (float[N,K] x) => (float[N,D] y) {
            mapped = Gemm<transB = 1>(x, weight, bias)
            length = ReduceL2<axes = [1], keepdims = 1>(mapped)
            safe = Max(length, tiny)
            direction = Div(mapped, safe)
            y = Mul(direction, scale)
        }""",
        weight=weight,
        bias=bias,
        tiny=np.float32(1e-12),
        scale=np.sqrt(np.float32(share)),
    )


def mixing(options: Mixing) -> onnx.ModelProto:
    """Vectors of length 1 by two text towers, ``first`` (N, T_1) and ``second`` (N, T_2), to the weights of spaces.

    The weights are ``w0`` ... (N, 1); the output ``understood`` (N, 1) is the s of `Mixing`.
    """
    weights = [f"w{i}" for i in range(len(options.known))]
    return subgraph(
        f"""
        mixing (float[N,A] first, float[N,B] second)
            => (float[N,1] understood, {", ".join(f"float[N,1] {name}" for name in weights)}) {{
            mapped = Gemm<transB = 1>(second, weight, bias)
            length = ReduceL2<axes = [1], keepdims = 1>(mapped)
            safe = Max(length, tiny)
            expected = Div(mapped, safe)
            product = Mul(first, expected)
            agreement = ReduceSum<keepdims = 1>(product, axis)
            above = Sub(agreement, middle)
            steep = Mul(above, slope)
            understood = Sigmoid(steep)
            more = Mul(understood, reach)
            all = Add(more, unknown)
            {", ".join(weights)} = Split<axis = 1>(all)
        }}""",
        weight=options.weight,
        bias=options.bias,
        tiny=np.float32(1e-12),
        axis=np.array([1], np.int64),
        middle=np.float32(options.middle),
        slope=np.float32(options.slope),
        reach=np.array(options.known, np.float32) - np.array(options.unknown, np.float32),
        unknown=np.array(options.unknown, np.float32),
    )


def weighted() -> onnx.ModelProto:
    """``x`` (N, d) times ``weight`` (N, 1), as ``y``."""
    return subgraph("weighted (float[N,D] x, float[N,1] weight) => (float[N,D] y) { y = Mul(x, weight) }")


def side_by_side(count: int) -> onnx.ModelProto:
    """``x0`` ... to ``y``: the columns concatenated."""
    names = [f"x{i}" for i in range(count)]
    inputs = ", ".join(f"float[N,K{i}] {name}" for i, name in enumerate(names))
    return subgraph(f"side_by_side ({inputs}) => (float[N,K] y) {{ y = Concat<axis = 1>({', '.join(names)}) }}")
