"""A tower's graph to lower precision, on small nets of every kind of layer that the rules speak of."""

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
    """``pixels`` (N, 3, 16, 16) to ``features`` (N, 16): convolutions, one a channel, a residual, means."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> Floats:
        drawn: Floats = rng.normal(size=shape).astype(np.float32)
        return drawn / np.float32(np.sqrt(np.prod(shape[1:])))

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
        # A large channel among small ones: one scale for all of them would lose the small ones.
        mix=weight(FEATURES, FEATURES, 1, 1) * np.geomspace(0.01, 3, FEATURES, dtype="f4")[:, None, None, None],
        last=weight(FEATURES, FEATURES),
        zero=np.float32(0),
        six=np.float32(6),
    )


def transformer(seed: int = 0, width: int = 16) -> onnx.ModelProto:
    """``x`` (N, L, 16) float32 to ``y`` (N, L, 16): one attention with its residual."""
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
    """The first output, as a bundle's graph gives it, also on processors without VNNI instructions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        session = open_session(path, "cpu", int8=True)
    (first, *_) = session.run(dict(feed)).values()
    return first


def least_cosine(ours: Floats, reference: Floats) -> float:
    a, b = (array.reshape(-1, array.shape[-1]).astype(np.float64) for array in (ours, reference))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def ends(model: onnx.ModelProto) -> tuple[Any, Any]:
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
def test_a_conversion_preserves_inputs_outputs_and_opset_and_removes_traces_of_the_tool(name: str) -> None:
    make, convert = CONVERSIONS[name]
    tower = make()
    before = tower.SerializeToString(deterministic=True)
    converted = convert(tower)
    assert ends(converted) == ends(tower)
    assert [(opset.domain, opset.version) for opset in converted.opset_import] == [("", 17)]
    assert not converted.producer_name
    assert not converted.metadata_props
    assert tower.SerializeToString(deterministic=True) == before, "the tower itself was changed"


@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_converted_tower_composes_with_float32_pieces(name: str) -> None:
    make, convert = CONVERSIONS[name]
    tower = convert(make())
    (pixels,), (features,) = ends(tower)
    composition = Composition()
    doubled = subgraph("doubled (float x) => (float y) { y = Mul(x, two) }", two=np.float32(2))
    found = composition.add("tower", tower, **{pixels.name: "input"})[features.name]
    found = composition.add("doubled", doubled, x=found)["y"]
    shape = [dim.dim_param or dim.dim_value for dim in pixels.type.tensor_type.shape.dim]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    # Composing checks the model; that it also computes the same is asked of the runtime.
    outputs: dict[str, Output] = {"output": (found, ["N", FEATURES] if len(shape) == 4 else shape)}
    whole = composition.build("whole", inputs, outputs)
    given = np.random.default_rng(0).normal(size=[dim if isinstance(dim, int) else 2 for dim in shape])
    array = given.astype(np.float32)
    np.testing.assert_allclose(run(whole, {"input": array}), 2 * run(tower, {pixels.name: array}), rtol=1e-5)


def test_the_same_input_gives_the_same_bytes_in_every_process() -> None:
    program = (
        "import hashlib, tests.unit.test_quantization as t\n"
        "for make, convert in t.CONVERSIONS.values():\n"
        "    print(hashlib.sha256(convert(make()).SerializeToString(deterministic=True)).hexdigest())"
    )
    found = {
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
    assert len(found) == 1
    assert len(found.pop().split()) == len(CONVERSIONS)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_static_int8_stays_near_the_convolutional_net_on_pictures_that_it_was_not_calibrated_on(seed: int) -> None:
    tower, feed = convolutional(seed), pictures(8, seed=seed + 5_000)
    converted = static_int8(tower, batches())
    assert least_cosine(run(converted, feed), run(tower, feed)) > 0.995


def test_static_int8_gives_every_channel_of_a_convolution_its_own_scale() -> None:
    converted = static_int8(convolutional(), batches())
    weights = {w.name: w for w in converted.graph.initializer}
    scales = [
        weights[name] for node in converted.graph.node if node.op_type == "DequantizeLinear" for name in node.input[1:2]
    ]
    assert sum(list(scale.dims) == [FEATURES] for scale in scales) >= 4


def test_static_int8_takes_relu_and_clip_into_the_range_before_them() -> None:
    assert not {"Relu", "Clip"} & set(operators(static_int8(convolutional(), batches())))


def test_what_a_tower_gives_is_not_rounded_to_8_bits() -> None:
    converted = static_int8(convolutional(), batches())
    assert operators(converted)[-1] == "Gemm"


def test_a_vision_transformer_keeps_its_attention_and_its_residuals_in_float32() -> None:
    rng = np.random.default_rng(0)
    feed = {"x": rng.normal(size=(4, 6, 16)).astype(np.float32)}
    tower = transformer()
    converted = static_int8(tower, [feed])
    makers = {output: node.op_type for node in converted.graph.node for output in node.output}
    sides = [[makers.get(name) for name in n.input] for n in converted.graph.node if n.op_type in ("MatMul", "Add")]
    # Four products with weights; attention's two and the residual's sum read what float32 made.
    assert sum(side == ["DequantizeLinear", "DequantizeLinear"] for side in sides) == 4
    assert least_cosine(run(converted, feed), run(tower, feed)) > 0.999


def test_static_int8_of_a_graph_with_nothing_to_quantise_is_an_error() -> None:
    nothing = subgraph("net (float[N,3,16,16] pixels) => (float[N,3,16,16] y) { y = Sigmoid(pixels) }")
    with pytest.raises(ExportError, match="nothing to quantise"):
        static_int8(nothing, batches(1))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_dynamic_int8_stays_near_the_transformer(seed: int) -> None:
    tower = transformer(seed)
    feed = {"x": np.random.default_rng(seed).normal(size=(2, 5, 16)).astype(np.float32)}
    assert least_cosine(run(dynamic_int8(tower), feed), run(tower, feed)) > 0.995


def test_dynamic_int8_converts_the_products_with_weights_only() -> None:
    found = operators(dynamic_int8(transformer()))
    assert found.count("MatMulInteger") == 4
    assert found.count("MatMul") == 2


@pytest.mark.parametrize("make", [convolutional, transformer])
def test_half_computes_in_float16_between_float32_ends(make: Any) -> None:
    tower = make()
    converted = half(tower)
    kinds = {weight.data_type for weight in converted.graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    assert {end.type.tensor_type.elem_type for side in ends(converted) for end in side} == {TensorProto.FLOAT}
    shape = (3, 3, 16, 16) if make is convolutional else (3, 4, 16)
    feed = {tower.graph.input[0].name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    assert least_cosine(run(converted, feed), run(tower, feed)) > 0.9999


def test_half_of_a_mask_of_the_most_negative_number_gives_numbers() -> None:
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
    found = run(half(masked), {"keep": np.array([[1, 1, 0]], np.float32)})
    np.testing.assert_allclose(found, [[0.5, 0.5, 0]], atol=1e-3)


def folder_of(folder: Path, count: int) -> Path:
    for i in range(count):
        path = folder / f"{i % 3}" / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i % 256, 40, 200 - i % 200)).save(path)
    return folder


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_text_tower_that_rounds_to_few_bits_stays_as_it_is(precision: Precision) -> None:
    dice, graph = np.random.default_rng(0), GraphBuilder()
    words = FourBit(dice.integers(0, 16, (30, 32), np.uint8), dice.random((30, 1), np.float32))
    vectors = graph.times(graph.rows(words, "input_ids"), EightBit.of(words.to_float()))
    model = graph.build("four", {"input_ids": (TensorProto.INT64, ["N", "L"])}, {"text": (vectors, ["N", "L", 30])})
    four = replace(text_tower("four", 30), to_onnx=lambda: model, rounds=True)
    plain = text_tower("plain", 6)
    found = quantized(Towers((), (four,)), precision, [])["four"]
    assert found.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    if precision == "fp16":
        assert quantized(Towers((), (plain,)), precision, [])["plain"] != plain.to_onnx()


def test_no_picture_is_both_calibrated_and_compared_on_and_broken_ones_are_passed_over(tmp_path: Path) -> None:
    folder_of(tmp_path, 12)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture by its name")
    sample = Quantization("int8", tmp_path).sample()
    assert (len(sample.calibrated_on), len(sample.compared_on)) == (8, 4)
    assert not set(sample.calibrated_on) & set(sample.compared_on)


def test_of_many_pictures_only_so_many_as_help_are_read_evenly_over_the_folder(tmp_path: Path) -> None:
    folder_of(tmp_path, 400)
    sample = Quantization("int8", tmp_path).sample()
    used = (*sample.calibrated_on, *sample.compared_on)
    assert len(used) == CALIBRATION_IMAGES + COMPARED_IMAGES
    assert {path.parent.name for path in used} == {"0", "1", "2"}


def test_pictures_that_losses_are_measured_on_calibrate_nothing(tmp_path: Path) -> None:
    folder_of(tmp_path / "images", 30)
    measured = [f"{i % 3}/{i:03d}.png" for i in range(0, 30, 2)]
    (tmp_path / "split.txt").write_text("\n".join(measured))
    data = AccuracyData(tmp_path / "images", tmp_path / "captions.tsv", tmp_path / "split.txt")
    sample = Quantization("int8", tmp_path / "images", data).sample()
    used = {str(p.relative_to(tmp_path / "images")) for p in (*sample.calibrated_on, *sample.compared_on)}
    assert len(used) == 15
    assert not used & set(measured)


def test_too_few_pictures_are_refused_with_how_many_are_enough(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"holds 5 pictures .* needs 9 at least.*192 are enough"):
        Quantization("int8", folder_of(tmp_path, 5)).sample()


def test_texts_are_the_users_captions_or_queries_of_our_own(tmp_path: Path) -> None:
    assert compared_texts(None) == list(QUERIES)
    captions = tmp_path / "captions.tsv"
    rows = [f"{i}.png\t{i}#0\tcaption {i}" for i in range(300)]
    captions.write_text("\n".join(["image\tcaption_id\tcaption", *rows]) + "\n")
    texts = compared_texts(AccuracyData(tmp_path, captions))
    assert len(texts) == COMPARED_TEXTS
    assert (texts[0], texts[-1]) == ("caption 0", "caption 299")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_each_kind_of_tower_has_its_conversion(precision: str, tmp_path: Path) -> None:
    towers = Towers((image_tower("eye", 8, 6, 3),), (text_tower("ear", 6),))
    pictures = sorted(folder_of(tmp_path, 6).rglob("*.png"))
    if precision == "int8":  # a text tower without a matrix product has nothing to quantise, and says so
        with pytest.raises(ExportError, match="nothing to quantise"):
            quantized(towers, "int8", pictures)
        towers = Towers(towers.images, ())
    pieces = quantized(towers, precision, pictures)  # type: ignore[arg-type]
    kinds = {node.op_type for node in pieces["eye"].graph.node}
    assert ("QuantizeLinear" in kinds) == (precision == "int8")
    weights = [w for w in pieces["eye"].graph.initializer if np.prod(w.dims) > 100]
    assert weights
    # 10 is float16, 3 is int8 in ONNX's list of types.
    assert {w.data_type for w in weights} == {10 if precision == "fp16" else 3}
