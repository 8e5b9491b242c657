"""Subgraphs of heads: their shares of an image and of a text, and `score.onnx`; see `subgraphs`."""

from __future__ import annotations

import numpy as np
import onnx

from sceneseek_export.curves import Calibration, IsotonicCurve
from sceneseek_export.heads import (
    INPUTS,
    OF_TEXT,
    ConstantHead,
    CosineHead,
    FirstLayer,
    Head,
    LinearHead,
    MlpHead,
    TreesHead,
)
from sceneseek_export.subgraphs import subgraph


def no_head() -> onnx.ModelProto:
    """``x`` (N, K) to ``head`` (N, 0): the empty share of a head that does not read this side."""
    return subgraph(
        "no_head (float[N,K] x) => (float[N,Z] head) { head = Slice(x, start, end, axis) }",
        start=np.array([0], np.int64),
        end=np.array([0], np.int64),
        axis=np.array([1], np.int64),
    )


def image_share(head: Head) -> onnx.ModelProto:
    """``image`` (N, F) to ``head`` (N, H_i): the image's part of the first layer, or the unchanged features."""
    if isinstance(head, TreesHead):
        return subgraph("image_share (float[N,F] image) => (float[N,F] head) { head = Identity(image) }")
    return subgraph(
        "image_share (float[N,F] image) => (float[N,H] head) { head = MatMul(image, weight) }",
        weight=np.ascontiguousarray(_first(head).weights["image"].T),
    )


def text_share(head: Head) -> onnx.ModelProto:
    """``text`` (N, T) and ``spread`` (N, S), or the one that the head reads, to ``head`` (N, H_t).

    The output is the text's part of the first layer, with the bias, or the unchanged inputs.
    """
    read = [name for name in OF_TEXT if name in head.reads]
    inputs = ", ".join(f"float[N,W{i}] {name}" for i, name in enumerate(read))
    if isinstance(head, TreesHead):
        body = f"head = Concat<axis = 1>({', '.join(read)})"
        return subgraph(f"text_share ({inputs}) => (float[N,H] head) {{ {body} }}")
    first = _first(head)
    lines = [f"of_{name} = MatMul({name}, {name}_weight)" for name in read]
    terms = ", ".join([*(f"of_{name}" for name in read), "bias"])
    return subgraph(
        f"text_share ({inputs}) => (float[N,H] head) {{ {' '.join(lines)} head = Sum({terms}) }}",
        bias=first.bias,
        **{f"{name}_weight": np.ascontiguousarray(first.weights[name].T) for name in read},
    )


def score(head: Head, joint: int) -> onnx.ModelProto:
    """`score.onnx`: the head's inputs for the candidates (see `reranker.Reranker.reads`) to ``score`` (N).

    `joint` is the width of the joint vectors.
    """
    if isinstance(head, CosineHead):
        curve = head.curve
        return _isotonic_score(curve) if isinstance(curve, IsotonicCurve) else _logistic_score(curve)
    if isinstance(head, ConstantHead):
        text = (
            "score (float[N] similarity) => (float[N] score) { none = Mul(similarity, zero) score = Add(none, value) }"
        )
        return subgraph(text, zero=np.float32(0), value=np.float32(head.value))
    if isinstance(head, TreesHead):
        return _trees_score(head, joint)
    if isinstance(head, LinearHead | MlpHead):
        return _layered_score(head, joint)
    raise TypeError(f"there is no graph for a head of the kind {head.kind!r}")


def _first(head: Head) -> FirstLayer:
    if isinstance(head, LinearHead | MlpHead):
        return head.first
    raise TypeError(f"a head of the kind {head.kind!r} has no first layer")


def _logistic_score(calibration: Calibration) -> onnx.ModelProto:
    return subgraph(
        """
        score (float[N] similarity) => (float[N] score) {
            scaled = Mul(similarity, slope)
            logit = Add(scaled, intercept)
            score = Sigmoid(logit)
        }""",
        slope=np.float32(calibration.slope),
        intercept=np.float32(calibration.intercept),
    )


def _isotonic_score(curve: IsotonicCurve) -> onnx.ModelProto:
    return subgraph(
        """
        score (float[N] similarity) => (float[N] score) {
            column = Unsqueeze(similarity, last)
            over = Sub(column, start)
            share = Div(over, width)
            ramps = Clip(share, zero, one)
            sum = MatMul(ramps, rise)
            risen = Add(sum, first)
            score = Clip(risen, zero, one)
        }""",
        last=np.array([1], np.int64),
        start=curve.at[:-1],
        width=np.diff(curve.at),
        zero=np.float32(0),
        one=np.float32(1),
        rise=np.diff(curve.scores),
        first=np.float32(curve.scores[0]),
    )


def _candidates(head: Head, joint: int) -> tuple[str, str]:
    """The declarations of the graph inputs that a head needs, and the lines that compute `column` and `product`."""
    declared, lines = [], ""
    if "similarity" in head.reads:
        declared.append("float[N] similarity")
        lines += "column = Unsqueeze(similarity, last)\n"
    if "product" in head.reads:
        declared += [f"float[N,{joint}] image_joint", f"float[{joint}] text_joint"]
        lines += "product = Mul(image_joint, text_joint)\n"
    if head.image_width:
        declared.append(f"float[N,{head.image_width}] image_head")
    if head.text_width:
        declared.append(f"float[{head.text_width}] text_head")
    return ", ".join(declared), lines


def _layered_score(head: LinearHead | MlpHead, joint: int) -> onnx.ModelProto:
    declared, lines = _candidates(head, joint)
    weights: dict[str, np.ndarray | np.generic] = {"last": np.array([1], np.int64)}
    terms = ["image_head"] if head.image_width else []
    for name, tensor in (("similarity", "column"), ("product", "product")):
        if name in head.first.weights:
            lines += f"of_{name} = MatMul({tensor}, {name}_weight)\n"
            weights[f"{name}_weight"] = np.ascontiguousarray(head.first.weights[name].T)
            terms.append(f"of_{name}")
    if head.text_width:
        terms.append("text_head")  # includes the bias
    else:
        terms.append("bias")
        weights["bias"] = head.first.bias
    lines += f"first = Sum({', '.join(terms)})\n"
    if isinstance(head, LinearHead):
        lines += "flat = Squeeze(first, last)\nscore = Clip(flat, zero, one)"
        weights |= {"zero": np.float32(0), "one": np.float32(1)}
        return subgraph(f"score ({declared}) => (float[N] score) {{ {lines} }}", **weights)
    hidden = "first"
    for i, (weight, bias) in enumerate(head.layers):
        lines += f"active{i} = Relu({hidden})\nhidden{i} = Gemm<transB = 1>(active{i}, weight{i}, bias{i})\n"
        hidden = f"hidden{i}"
        weights |= {f"weight{i}": weight, f"bias{i}": bias}
    lines += f"""
        correction = Squeeze({hidden}, last)
        scaled = Mul(similarity, slope)
        baseline = Add(scaled, intercept)
        logit = Add(baseline, correction)
        score = Sigmoid(logit)"""
    weights |= {"slope": np.float32(head.calibration.slope), "intercept": np.float32(head.calibration.intercept)}
    return subgraph(f"score ({declared}) => (float[N] score) {{ {lines} }}", **weights)


def _trees_score(head: TreesHead, joint: int) -> onnx.ModelProto:
    declared, lines = _candidates(head, joint)
    trees, depth = head.feature.shape
    columns = [{"similarity": "column", "product": "product", "image": "image_head"}.get(name, "") for name in INPUTS]
    columns = [tensor for name, tensor in zip(INPUTS, columns, strict=True) if tensor and name in head.reads]
    if head.text_width:
        # Repeat the text's share for each candidate; the first column has one row per candidate.
        lines += f"""
            count = Shape<start = 0, end = 1>({columns[0]})
            shape = Concat<axis = 0>(count, text_width)
            text = Expand(text_head, shape)
        """
        columns.append("text")
    lines += f"""
        columns = Concat<axis = 1>({", ".join(columns)})
        asked = Gather<axis = 1>(columns, feature)
        over = Greater(asked, border)
        bits = Cast<to = 7>(over)
        three = Reshape(bits, by_tree)
        places = Mul(three, place)
        inside = ReduceSum<keepdims = 0>(places, axis)
        leaf = Add(inside, first_leaf)
        values = Gather<axis = 0>(leaves, leaf)
        sum = ReduceSum<keepdims = 0>(values, last)
        total = Add(sum, bias)
        score = Clip(total, zero, one)"""
    return subgraph(
        f"score ({declared}) => (float[N] score) {{ {lines} }}",
        last=np.array([1], np.int64),
        axis=np.array([2], np.int64),
        text_width=np.array([head.text_width], np.int64),
        feature=head.feature.ravel(),
        border=head.border.ravel(),
        by_tree=np.array([-1, trees, depth], np.int64),
        place=(1 << np.arange(depth)).astype(np.int64),
        first_leaf=np.arange(trees) * head.leaves.shape[1],
        leaves=head.leaves.ravel(),
        bias=np.float32(head.bias),
        zero=np.float32(0),
        one=np.float32(1),
    )
