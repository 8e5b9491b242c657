"""The ONNX subgraphs around the towers match the numpy reference of the alignment."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.vectors import Floats
from sceneseek_export import head_subgraphs, subgraphs
from sceneseek_export.alignment_maps import ClassNames, FeatureRange, Hubness, Typical, normalise
from sceneseek_export.composition import Composition
from sceneseek_export.subgraphs import EightBit, GraphBuilder
from tests.runtime import run
from tests.weights import drawn_alignment, numbers

seeds, counts = st.integers(0, 2**32), st.integers(1, 20)
many = settings(max_examples=25, deadline=None)


def unit_rows(rng: np.random.Generator, *shape: int) -> Floats:
    return normalise(numbers(rng, *shape))


@many
@given(seed=seeds, count=counts, top=st.integers(1, 12))
def test_class_names_match_reference(seed: int, count: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    names = ClassNames(("t",), unit_rows(rng, 12, 6), temperature=1.5, top=top)
    logits = 3 * numbers(rng, count, 12)
    np.testing.assert_allclose(run(subgraphs.class_names(names), logits=logits), names.combine_one(logits), atol=2e-6)


@many
@given(seed=seeds, count=counts, classifiers=st.integers(2, 4))
def test_mean_direction_matches_reference(seed: int, count: int, classifiers: int) -> None:
    rows = numbers(np.random.default_rng(seed), classifiers, count, 6)
    mean = run(subgraphs.mean_direction(classifiers), **{f"x{i}": x for i, x in enumerate(rows)})
    np.testing.assert_allclose(mean, normalise(rows.sum(axis=0)), atol=2e-6)


@many
@given(seed=seeds, count=counts, unbounded=st.booleans())
def test_clipping_matches_reference(seed: int, count: int, unbounded: bool) -> None:
    rng = np.random.default_rng(seed)
    low = numbers(rng, 5)
    high = np.full(5, np.inf, np.float32) if unbounded else low + 1
    limits, features = FeatureRange(low, high), numbers(rng, count, 5, scale=3)
    np.testing.assert_array_equal(run(subgraphs.clipped(limits), x=features), limits.clip(features))


@many
@given(seed=seeds, count=counts, neighbours=st.integers(1, 20))
def test_hubness_matches_reference(seed: int, count: int, neighbours: int) -> None:
    rng = np.random.default_rng(seed)
    z, texts = unit_rows(rng, count, 13), unit_rows(rng, 4, 13)
    hubness = Hubness(unit_rows(rng, 20, 13), neighbours, weight=0.3)
    images, text_vectors = run(subgraphs.image_hubness(hubness), z=z), run(subgraphs.text_hubness(hubness), z=texts)
    r = np.sort(z @ hubness.bank.T, axis=1)[:, -neighbours:].mean(axis=1, keepdims=True)
    expected = np.concatenate([z, -np.sqrt(0.3) * r, np.sqrt(0.3 * (1 - r**2))], axis=1) / np.sqrt(1.3)
    np.testing.assert_allclose(images, expected, atol=2e-6)
    np.testing.assert_allclose(images @ text_vectors.T, (z @ texts.T - 0.3 * r) / 1.3, atol=2e-6)
    for vectors in (images, text_vectors):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_hubness_is_finite_for_image_equal_to_bank_text() -> None:
    z = unit_rows(np.random.default_rng(0), 30, 13)
    assert np.isfinite(run(subgraphs.image_hubness(Hubness(z, 1, 0.2)), z=z)).all()  # r is 1 up to rounding


@many
@given(seed=seeds, count=counts, share=st.floats(0.05, 1))
def test_text_spread_matches_reference(seed: int, count: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    typical = Typical(
        (numbers(rng, 8, scale=0.1), numbers(rng, 5, scale=0.1)), (numbers(rng, 3, 8), numbers(rng, 5, 5))
    )
    texts = [unit_rows(rng, count, 8), unit_rows(rng, count, 5)]
    spread = [
        run(subgraphs.text_spread(typical, i, share), z=np.sqrt(np.float32(share)) * u) for i, u in enumerate(texts)
    ]
    np.testing.assert_allclose(np.concatenate(spread, axis=1), typical.spread(texts), atol=1e-5)


def test_learned_block_scales_directions_by_share() -> None:
    block = drawn_alignment().spaces[0].blocks[0]
    rng = np.random.default_rng(3)
    for weight, bias in ((block.image_weight, block.image_bias), (block.text_weight, block.text_bias)):
        x = numbers(rng, 9, weight.shape[1])
        y = run(subgraphs.linear_unit(weight, bias, block.share), x=x)
        np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.sqrt(0.75), atol=1e-6)
        np.testing.assert_allclose(y, np.sqrt(0.75) * normalise(x @ weight.T + bias), atol=1e-5)


def test_no_head_returns_empty_row_per_input() -> None:
    assert run(head_subgraphs.no_head(), x=np.ones((3, 4), np.float32)).shape == (3, 0)


def test_composition_rejects_unknown_input_name() -> None:
    with pytest.raises(ValueError, match="takes"):
        Composition().add("piece", head_subgraphs.no_head(), y="x")


def product(weight: EightBit) -> onnx.ModelProto:
    """A model that multiplies ``x`` (N, L, K) by the transpose of the matrix (R, K)."""
    graph, (rows, columns) = GraphBuilder(), weight.levels.shape
    y = graph.times("x", weight)
    return graph.build("product", {"x": (onnx.TensorProto.FLOAT, ["N", "L", columns])}, {"y": (y, ["N", "L", rows])})


@many
@given(seed=seeds, count=counts)
def test_eight_bit_product_is_exact_and_independent_of_batch(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    weight = EightBit.of(numbers(rng, 7, 64))
    x = numbers(rng, count, 3, 64) * np.exp(numbers(rng, count, 3, 1, scale=3))
    x[0, 0] = 0
    model = product(weight)
    y = run(model, x=x)
    scale = np.maximum(np.abs(x).max(axis=2, keepdims=True), np.float32(1e-12)) * np.float32(1 / 127)
    sums = np.rint(x / scale).astype(np.int64) @ weight.levels.T.astype(np.int64)
    np.testing.assert_allclose(y, sums * scale * weight.scales, rtol=1e-5)
    np.testing.assert_array_equal(run(model, x=x[-1:, -1:]), y[-1:, -1:])


def test_eight_bit_product_does_not_overflow() -> None:
    weight = EightBit.of(np.ones((1, 512)))
    assert weight.levels.max() == 63
    np.testing.assert_allclose(run(product(weight), x=np.ones((1, 1, 512), np.float32)), 512, rtol=1e-5)


def test_eight_bit_rounding_error_is_bounded() -> None:
    matrix = numbers(np.random.default_rng(0), 5, 64).astype(np.float64)
    matrix[2] = 0
    rounded = EightBit.of(matrix)
    assert np.abs(rounded.levels * rounded.scales[:, None] - matrix).max() <= 0.51 * np.abs(matrix).max() / 63
