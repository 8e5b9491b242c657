"""The pieces around the towers, each a small ONNX graph written out as text, with its weights attached.

ONNX's own textual syntax (onnx.parser) is used so that a reader sees the formula; `alignment` and `heads`
hold the same formulas in numpy, and `verify` compares the two.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper, parser

from export.towers import OPSET
from sceneseek.alignment import ClassNames, LearnedBlock
from sceneseek.heads import Calibration, MlpHead
from sceneseek.manifest import ImageInput

IR_VERSION = 10
_HEADER = f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>'


def pixels_to_tower(spec: ImageInput) -> onnx.ModelProto:
    """``pixels`` uint8 (N, H, W, 3) to ``normalised`` float32 (N, 3, H, W)."""
    shape = f"N,{spec.height},{spec.width},3"
    return _piece(
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
    """``logits`` (N, C) to ``names`` (N, T): ConSE, of length 1."""
    return _piece(
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


def unit(source: str, result: str) -> onnx.ModelProto:
    """Rows of `source` (N, K) scaled to length 1."""
    return _piece(
        f"""
        unit (float[N,K] {source}) => (float[N,K] {result}) {{
            length = ReduceL2<axes = [1], keepdims = 1>({source})
            safe = Max(length, tiny)
            {result} = Div({source}, safe)
        }}""",
        tiny=np.float32(1e-12),
    )


def linear_unit(weight: np.ndarray, bias: np.ndarray, share: float) -> onnx.ModelProto:
    """``x`` (N, K) to ``y`` (N, d): sqrt(share) * normalise(weight x + bias)."""
    return _piece(
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


def image_block(block: LearnedBlock) -> onnx.ModelProto:
    """The image side of a learned block: ``x`` (N, sum of widths) to ``y`` (N, d)."""
    return linear_unit(block.image_weight, block.image_bias, block.share)


def text_block(block: LearnedBlock) -> onnx.ModelProto:
    """The text side of a learned block: ``x`` (N, T) of length 1 to ``y`` (N, d)."""
    return linear_unit(block.text_weight, block.text_bias, block.share)


def scaled(share: float) -> onnx.ModelProto:
    """``x`` (N, K) times sqrt(share), as ``y``."""
    return _piece("scaled (float[N,K] x) => (float[N,K] y) { y = Mul(x, scale) }", scale=np.sqrt(np.float32(share)))


def side_by_side(count: int) -> onnx.ModelProto:
    """``x0`` ... to ``y``: columns joined."""
    names = [f"x{i}" for i in range(count)]
    inputs = ", ".join(f"float[N,K{i}] {name}" for i, name in enumerate(names))
    return _piece(f"side_by_side ({inputs}) => (float[N,K] y) {{ y = Concat<axis = 1>({', '.join(names)}) }}")


def no_head() -> onnx.ModelProto:
    """``x`` (N, K) to ``head`` (N, 0): the share of a head that reads the joint space only."""
    return _piece(
        "no_head (float[N,K] x) => (float[N,Z] head) { head = Slice(x, start, end, axis) }",
        start=np.array([0], np.int64),
        end=np.array([0], np.int64),
        axis=np.array([1], np.int64),
    )


def image_share(head: MlpHead) -> onnx.ModelProto:
    """``x`` (N, F) to ``head`` (N, H): the image's part of the first layer."""
    return _piece(
        "image_share (float[N,F] x) => (float[N,H] head) { head = Gemm<transB = 1>(x, weight) }",
        weight=head.image,
    )


def text_share(head: MlpHead) -> onnx.ModelProto:
    """``x`` (N, T) of length 1 to ``head`` (N, H): the text's part of the first layer, with the bias."""
    return _piece(
        "text_share (float[N,T] x) => (float[N,H] head) { head = Gemm<transB = 1>(x, weight, bias) }",
        weight=head.text,
        bias=head.bias,
    )


def cosine_score(calibration: Calibration) -> onnx.ModelProto:
    """`score.onnx` of the calibrated cosine: ``similarity`` (N) to ``score`` (N)."""
    return _piece(
        """
        score (float[N] similarity) => (float[N] score) {
            scaled = Mul(similarity, slope)
            logit = Add(scaled, intercept)
            score = Sigmoid(logit)
        }""",
        slope=np.float32(calibration.slope),
        intercept=np.float32(calibration.intercept),
    )


def mlp_score(head: MlpHead) -> onnx.ModelProto:
    """`score.onnx` of an MLP: candidates (see `scorer.Scorer.reads`) to ``score`` (N)."""
    width, joint = head.product.shape
    layers, hidden = "", "first"
    weights: dict[str, np.ndarray] = {}
    for i, (weight, bias) in enumerate(head.layers):
        layers += f"""
            active{i} = Relu({hidden})
            hidden{i} = Gemm<transB = 1>(active{i}, weight{i}, bias{i})"""
        hidden = f"hidden{i}"
        weights |= {f"weight{i}": weight, f"bias{i}": bias}
    return _piece(
        f"""
        score (float[N] similarity, float[N,{joint}] image_joint, float[N,{width}] image_head,
               float[{joint}] text_joint, float[{width}] text_head) => (float[N] score) {{
            column = Unsqueeze(similarity, last)
            of_cosine = Mul(column, cosine)
            product = Mul(image_joint, text_joint)
            of_product = MatMul(product, product_weight)
            alone = Add(image_head, text_head)
            together = Add(of_cosine, of_product)
            first = Add(alone, together){layers}
            correction = Squeeze({hidden}, last)
            scaled = Mul(similarity, slope)
            baseline = Add(scaled, intercept)
            logit = Add(baseline, correction)
            score = Sigmoid(logit)
        }}""",
        last=np.array([1], np.int64),
        cosine=head.cosine,
        product_weight=np.ascontiguousarray(head.product.T),
        slope=np.float32(head.calibration.slope),
        intercept=np.float32(head.calibration.intercept),
        **weights,
    )


def _piece(text: str, **weights: np.ndarray | np.generic) -> onnx.ModelProto:
    model = parser.parse_model(f"{_HEADER}\n{text}")
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model
