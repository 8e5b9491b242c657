"""Quantization and float16 conversion of tower graphs, on small networks with every affected kind of layer."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from sceneseek.bundle import Precision
from sceneseek.errors import ExportError
from sceneseek.runtime import open_session
from sceneseek.sample_queries import QUERIES
from sceneseek.vectors import Floats
from sceneseek_export.accuracy_loss import AccuracyData
from sceneseek_export.composition import Composition, Output
from sceneseek_export.quantization import (
    CALIBRATION_IMAGES,
    COMPARED_IMAGES,
    COMPARED_TEXTS,
    Feed,
    Quantization,
    compared_texts,
    dynamic_int8,
    half,
    quantized,
    static_int8,
)
from sceneseek_export.subgraphs import EightBit, FourBit, GraphBuilder, subgraph
from sceneseek_export.towers import Towers
from tests.small_towers import image_tower, text_tower

ROOT = Path(__file__).parents[2]
FEATURES = 16


def convolutional(seed: int = 0) -> onnx.ModelProto:
    """``pixels`` (N, 3, 16, 16) to ``features`` (N, 16): convolutions, one depthwise, a residual, global means."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> Floats:
        values: Floats = rng.normal(size=shape).astype(np.float32)
        return values / np.float32(np.sqrt(np.prod(shape[1:])))

    return subgraph(
        """
        net (float[N,3,16,16] pixels) => (float[N,F] features) {
            a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(pixels, stem, bias)
            b = Clip(a, zero, six)
            c = Conv<group = 16, pads = [1, 1, 1, 1]>(b, each)
            d = Relu(c)
            e = Conv(d, mix)
            f = Add(b, e)
            g = ReduceMean<axes = [2, 3], keepdims = 0>(f)
            features = Gemm<transB = 1>(g, last)
        }""",
        stem=weight(FEATURES, 3, 3, 3),
        bias=rng.normal(size=FEATURES).astype(np.float32),
        each=weight(FEATURES, 1, 3, 3),
        # Channels of different magnitude: with a common scale, the small ones would be lost.
        mix=weight(FEATURES, FEATURES, 1, 1) * np.geomspace(0.01, 3, FEATURES, dtype="f4")[:, None, None, None],
        last=weight(FEATURES, FEATURES),
        zero=np.float32(0),
        six=np.float32(6),
    )


def transformer(seed: int = 0, width: int = 16) -> onnx.ModelProto:
    """``x`` (N, L, 16) float32 to ``y`` (N, L, 16): self-attention with a residual."""
    rng = np.random.default_rng(seed)
    q, k, v, o = ((rng.normal(size=(width, width)) / np.sqrt(width)).astype(np.float32) for _ in range(4))
    return subgraph(
        """
        net (float[N,L,16] x) => (float[N,L,16] y) {
            query = MatMul(x, q)
            key = MatMul(x, k)
            value = MatMul(x, v)
            turned = Transpose<perm = [0, 2, 1]>(key)
            fit = MatMul(query, turned)
            share = Softmax<axis = -1>(fit)
            mixed = MatMul(share, value)
            out = MatMul(mixed, o)
            y = Add(x, out)
        }""",
        q=q,
        k=k,
        v=v,
        o=o,
    )


def pictures(count: int, seed: int = 0) -> Feed:
    return {"pixels": np.random.default_rng(seed).uniform(-1, 1, (count, 3, 16, 16)).astype(np.float32)}


def batches(count: int = 8) -> Iterator[Feed]:
    return (pictures(4, seed) for seed in range(1, count + 1))


def run(model: onnx.ModelProto, feed: Feed) -> Floats:
    """The first output, computed as for a bundle's graph, also on CPUs without VNNI."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        session = open_session(path, "cpu", int8=True)
    (first, *_) = session.run(dict(feed)).values()
    return first


def min_cosine(ours: Floats, reference: Floats) -> float:
    a, b = (array.reshape(-1, array.shape[-1]).astype(np.float64) for array in (ours, reference))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def inputs_and_outputs(model: onnx.ModelProto) -> tuple[Any, Any]:
    return list(model.graph.input), list(model.graph.output)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


CONVERSIONS = {
    "half, convolutional": (convolutional, half),
    "half, transformer": (transformer, half),
    "static": (convolutional, lambda tower: static_int8(tower, batches())),
    "dynamic": (transformer, dynamic_int8),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversion_preserves_inputs_outputs_and_opset_and_removes_metadata(name: str) -> None:
    make, convert = CONVERSIONS[name]
    tower = make()
    before = tower.SerializeToString(deterministic=True)
    converted = convert(tower)
    assert inputs_and_outputs(converted) == inputs_and_outputs(tower)
    assert [(opset.domain, opset.version) for opset in converted.opset_import] == [("", 17)]
    assert not converted.producer_name
    assert not converted.metadata_props
    assert tower.SerializeToString(deterministic=True) == before, "the input model was modified"


@pytest.mark.parametrize("name", CONVERSIONS)
def test_converted_tower_composes_with_float32_graphs(name: str) -> None:
    make, convert = CONVERSIONS[name]
    tower = convert(make())
    (pixels,), (features,) = inputs_and_outputs(tower)
    composition = Composition()
    doubled = subgraph("doubled (float x) => (float y) { y = Mul(x, two) }", two=np.float32(2))
    output = composition.add("tower", tower, **{pixels.name: "input"})[features.name]
    output = composition.add("doubled", doubled, x=output)["y"]
    shape = [dim.dim_param or dim.dim_value for dim in pixels.type.tensor_type.shape.dim]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    # Composition checks the model; ONNX Runtime checks its result.
    outputs: dict[str, Output] = {"output": (output, ["N", FEATURES] if len(shape) == 4 else shape)}
    composed = composition.build("whole", inputs, outputs)
    values = np.random.default_rng(0).normal(size=[dim if isinstance(dim, int) else 2 for dim in shape])
    array = values.astype(np.float32)
    np.testing.assert_allclose(run(composed, {"input": array}), 2 * run(tower, {pixels.name: array}), rtol=1e-5)


def test_conversion_is_reproducible_across_processes() -> None:
    program = (
        "import hashlib, tests.unit.test_quantization as t\n"
        "for make, convert in t.CONVERSIONS.values():\n"
        "    print(hashlib.sha256(convert(make()).SerializeToString(deterministic=True)).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1
    assert len(hashes.pop().split()) == len(CONVERSIONS)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_static_int8_approximates_the_float_network_on_unseen_images(seed: int) -> None:
    tower, feed = convolutional(seed), pictures(8, seed=seed + 5_000)
    converted = static_int8(tower, batches())
    assert min_cosine(run(converted, feed), run(tower, feed)) > 0.995


def test_static_int8_uses_per_channel_scales() -> None:
    converted = static_int8(convolutional(), batches())
    weights = {w.name: w for w in converted.graph.initializer}
    scales = [
        weights[name] for node in converted.graph.node if node.op_type == "DequantizeLinear" for name in node.input[1:2]
    ]
    assert sum(list(scale.dims) == [FEATURES] for scale in scales) >= 4


def test_static_int8_folds_relu_and_clip_into_quantization_ranges() -> None:
    assert not {"Relu", "Clip"} & set(operators(static_int8(convolutional(), batches())))


def test_static_int8_does_not_quantize_the_output() -> None:
    converted = static_int8(convolutional(), batches())
    assert operators(converted)[-1] == "Gemm"


def test_static_int8_keeps_attention_and_residuals_in_float32() -> None:
    rng = np.random.default_rng(0)
    feed = {"x": rng.normal(size=(4, 6, 16)).astype(np.float32)}
    tower = transformer()
    converted = static_int8(tower, [feed])
    makers = {output: node.op_type for node in converted.graph.node for output in node.output}
    sides = [[makers.get(name) for name in n.input] for n in converted.graph.node if n.op_type in ("MatMul", "Add")]
    # Four products with weights are quantized; the two attention products and the residual sum are not.
    assert sum(side == ["DequantizeLinear", "DequantizeLinear"] for side in sides) == 4
    assert min_cosine(run(converted, feed), run(tower, feed)) > 0.999


def test_static_int8_rejects_a_graph_without_quantizable_nodes() -> None:
    nothing = subgraph("net (float[N,3,16,16] pixels) => (float[N,3,16,16] y) { y = Sigmoid(pixels) }")
    with pytest.raises(ExportError, match="nothing to quantise"):
        static_int8(nothing, batches(1))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_dynamic_int8_approximates_the_float_transformer(seed: int) -> None:
    tower = transformer(seed)
    feed = {"x": np.random.default_rng(seed).normal(size=(2, 5, 16)).astype(np.float32)}
    assert min_cosine(run(dynamic_int8(tower), feed), run(tower, feed)) > 0.995


def test_dynamic_int8_converts_only_products_with_weights() -> None:
    converted = operators(dynamic_int8(transformer()))
    assert converted.count("MatMulInteger") == 4
    assert converted.count("MatMul") == 2


@pytest.mark.parametrize("make", [convolutional, transformer])
def test_half_computes_in_float16_with_float32_inputs_and_outputs(make: Any) -> None:
    tower = make()
    converted = half(tower)
    kinds = {weight.data_type for weight in converted.graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    assert {end.type.tensor_type.elem_type for values in inputs_and_outputs(converted) for end in values} == {
        TensorProto.FLOAT
    }
    shape = (3, 3, 16, 16) if make is convolutional else (3, 4, 16)
    feed = {tower.graph.input[0].name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    assert min_cosine(run(converted, feed), run(tower, feed)) > 0.9999


def test_half_keeps_masks_of_the_lowest_float_finite() -> None:
    lowest = np.finfo(np.float32).min
    masked = subgraph(
        """
        masked (float[N,L] keep) => (float[N,L] share) {
            away = Sub(one, keep)
            added = Mul(away, lowest)
            share = Softmax<axis = 1>(added)
        }""",
        one=np.float32(1),
        lowest=np.float32(lowest),
    )
    share = run(half(masked), {"keep": np.array([[1, 1, 0]], np.float32)})
    np.testing.assert_allclose(share, [[0.5, 0.5, 0]], atol=1e-3)


def write_images(folder: Path, count: int) -> Path:
    for i in range(count):
        path = folder / f"{i % 3}" / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i % 256, 40, 200 - i % 200)).save(path)
    return folder


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_already_quantized_text_tower_is_unchanged(precision: Precision) -> None:
    rng, graph = np.random.default_rng(0), GraphBuilder()
    words = FourBit(rng.integers(0, 16, (30, 32), np.uint8), rng.random((30, 1), np.float32))
    vectors = graph.times(graph.rows(words, "input_ids"), EightBit.of(words.to_float()))
    model = graph.build("four", {"input_ids": (TensorProto.INT64, ["N", "L"])}, {"text": (vectors, ["N", "L", 30])})
    four = replace(text_tower("four", 30), to_onnx=lambda: model, rounds=True)
    plain = text_tower("plain", 6)
    converted = quantized(Towers((), (four,)), precision, [])["four"]
    assert converted.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    if precision == "fp16":
        assert quantized(Towers((), (plain,)), precision, [])["plain"] != plain.to_onnx()


def test_sample_separates_calibration_and_comparison_images_and_skips_broken_ones(tmp_path: Path) -> None:
    write_images(tmp_path, 12)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture by its name")
    sample = Quantization("int8", tmp_path).sample()
    assert (len(sample.calibrated_on), len(sample.compared_on)) == (8, 4)
    assert not set(sample.calibrated_on) & set(sample.compared_on)


def test_sample_is_bounded_and_spread_over_the_folder(tmp_path: Path) -> None:
    write_images(tmp_path, 400)
    sample = Quantization("int8", tmp_path).sample()
    used = (*sample.calibrated_on, *sample.compared_on)
    assert len(used) == CALIBRATION_IMAGES + COMPARED_IMAGES
    assert {path.parent.name for path in used} == {"0", "1", "2"}


def test_calibration_excludes_images_of_the_accuracy_split(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 30)
    measured = [f"{i % 3}/{i:03d}.png" for i in range(0, 30, 2)]
    (tmp_path / "split.txt").write_text("\n".join(measured))
    data = AccuracyData(tmp_path / "images", tmp_path / "captions.tsv", tmp_path / "split.txt")
    sample = Quantization("int8", tmp_path / "images", data).sample()
    used = {str(p.relative_to(tmp_path / "images")) for p in (*sample.calibrated_on, *sample.compared_on)}
    assert len(used) == 15
    assert not used & set(measured)


def test_too_few_images_error_states_how_many_are_enough(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has 5 pictures .* needs at least 9 .*192 are enough"):
        Quantization("int8", write_images(tmp_path, 5)).sample()


def test_compared_texts_are_captions_or_sample_queries(tmp_path: Path) -> None:
    assert compared_texts(None) == list(QUERIES)
    captions = tmp_path / "captions.tsv"
    rows = [f"{i}.png\t{i}#0\tcaption {i}" for i in range(300)]
    captions.write_text("\n".join(["image\tcaption_id\tcaption", *rows]) + "\n")
    texts = compared_texts(AccuracyData(tmp_path, captions))
    assert len(texts) == COMPARED_TEXTS
    assert (texts[0], texts[-1]) == ("caption 0", "caption 299")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_each_kind_of_tower_is_converted(precision: str, tmp_path: Path) -> None:
    towers = Towers((image_tower("eye", 8, 6, 3),), (text_tower("ear", 6),))
    pictures = sorted(write_images(tmp_path, 6).rglob("*.png"))
    if precision == "int8":  # this text tower has no matrix product to quantise
        with pytest.raises(ExportError, match="nothing to quantise"):
            quantized(towers, "int8", pictures)
        towers = Towers(towers.images, ())
    pieces = quantized(towers, precision, pictures)  # type: ignore[arg-type]
    kinds = {node.op_type for node in pieces["eye"].graph.node}
    assert ("QuantizeLinear" in kinds) == (precision == "int8")
    weights = [w for w in pieces["eye"].graph.initializer if np.prod(w.dims) > 100]
    assert weights
    # In ONNX, data type 10 is float16 and 3 is int8.
    assert {w.data_type for w in weights} == {10 if precision == "fp16" else 3}
