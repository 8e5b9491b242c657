"""A head split over the three graphs scores like the unsplit head, and each graph has only the inputs it needs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.vectors import Floats
from sceneseek_export import head_subgraphs
from sceneseek_export.composition import score_graph
from sceneseek_export.heads import INPUTS, OF_TEXT, CosineHead, Head, pair_inputs
from tests.runtime import run
from tests.weights import CALIBRATION, CURVE, drawn_head, drawn_inputs

WIDTHS = {"similarity": 1, "product": 12, "image": 9, "text": 6, "spread": 4}


# All subsets of inputs that depend on an image.
SUBSETS = [
    chosen
    for count in range(1, len(INPUTS) + 1)
    for chosen in combinations(INPUTS, count)
    if not set(chosen) <= set(OF_TEXT)
]


def widths_of(chosen: tuple[str, ...]) -> dict[str, int]:
    return {name: WIDTHS[name] for name in chosen}


def inputs_of(model: onnx.ModelProto) -> set[str]:
    return {node.name for node in model.graph.input}


def split(head: Head, images: Floats, features: Floats, text_joint: Floats, text: Floats, spread: Floats) -> Floats:
    """Score like a bundle: first the shares, then the pairs. The arguments are those of `pair_inputs`."""
    available = {"similarity": images @ text_joint, "image_joint": images, "text_joint": text_joint}
    if head.image_width:
        available["image_head"] = run(head_subgraphs.image_share(head), image=features)
        assert available["image_head"].shape == (len(images), head.image_width)
    if head.text_width:
        inputs = {name: array[None] for name, array in (("text", text), ("spread", spread)) if name in head.reads}
        available["text_head"] = run(head_subgraphs.text_share(head), **inputs)[0]
        assert available["text_head"].shape == (head.text_width,)
    model = score_graph(head, images.shape[1])
    scores: Floats = run(model, **{name: available[name] for name in inputs_of(model)})
    return scores


@pytest.mark.parametrize("chosen", SUBSETS, ids="+".join)
@pytest.mark.parametrize("kind", ["linear", "mlp", "catboost"])
def test_split_head_equals_the_unsplit_head(kind: str, chosen: tuple[str, ...]) -> None:
    head, pair = drawn_head(kind, widths_of(chosen)), drawn_inputs(np.random.default_rng(0), 40, WIDTHS)
    unsplit = head.score(pair_inputs(*pair))
    np.testing.assert_allclose(split(head, *pair), unsplit, atol=1e-5, rtol=0)
    assert unsplit.std() > 0.003
    assert ((unsplit > 0) & (unsplit < 1)).mean() > 0.5  # otherwise clipping could hide errors


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["constant", "cosine", "isotonic", "linear", "mlp", "catboost"]),
    seed=st.integers(0, 2**32),
    count=st.integers(1, 50),
    widths=st.tuples(*[st.integers(1, 40)] * 4),
)
def test_split_head_equals_the_unsplit_head_for_any_count_and_widths(
    kind: str, seed: int, count: int, widths: tuple[int, ...]
) -> None:
    all_widths = dict(zip(INPUTS, (1, *widths), strict=True))
    head, pair = drawn_head(kind, all_widths, seed), drawn_inputs(np.random.default_rng(seed), count, all_widths)
    scores = split(head, *pair)
    assert scores.shape == (count,)
    np.testing.assert_allclose(scores, head.score(pair_inputs(*pair)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["constant", "cosine", "isotonic", "linear", "mlp", "catboost"])
@pytest.mark.parametrize("scale", [1e3, -1e3])
def test_scores_are_between_0_and_1_for_large_inputs(kind: str, scale: float) -> None:
    head = drawn_head(kind, WIDTHS)
    images, *others = drawn_inputs(np.random.default_rng(1), 40, WIDTHS)
    large = (np.float32(scale) * images, *others)
    for scores in (split(head, *large), head.score(pair_inputs(*large))):
        assert scores.dtype == np.float32
        assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("chosen", SUBSETS, ids="+".join)
@pytest.mark.parametrize("kind", ["linear", "mlp", "catboost"])
def test_score_graph_has_only_the_inputs_of_the_head(kind: str, chosen: tuple[str, ...]) -> None:
    expected = {"similarity"} if kind == "mlp" else set()  # the network corrects the calibrated cosine
    for name in chosen:
        expected |= {
            "similarity": {"similarity"},
            "product": {"image_joint", "text_joint"},
            "image": {"image_head"},
            "text": {"text_head"},
            "spread": {"text_head"},
        }[name]
    assert inputs_of(score_graph(drawn_head(kind, widths_of(chosen)), WIDTHS["product"])) == expected


@pytest.mark.parametrize(
    ("kind", "chosen", "image", "text"),
    [
        ("linear", ("similarity", "image", "text", "spread"), 1, 1),
        ("linear", ("product", "spread"), 0, 1),
        ("mlp", ("product", "image", "text"), 9, 9),
        ("mlp", ("similarity", "product", "spread"), 0, 9),
        ("mlp", ("image",), 9, 0),
        ("catboost", ("similarity", "image", "text", "spread"), WIDTHS["image"], WIDTHS["text"] + WIDTHS["spread"]),
        ("catboost", ("product", "text"), 0, WIDTHS["text"]),
        ("cosine", ("similarity",), 0, 0),
        ("isotonic", ("similarity",), 0, 0),
        ("constant", ("similarity",), 0, 0),
    ],
)
def test_share_widths_depend_on_the_kind_of_head(kind: str, chosen: tuple[str, ...], image: int, text: int) -> None:
    head = drawn_head(kind, widths_of(chosen))
    assert (head.image_width, head.text_width) == (image, text)


def test_image_share_of_trees_is_the_unchanged_features() -> None:
    head, (_, features, *_) = drawn_head("catboost", WIDTHS), drawn_inputs(np.random.default_rng(2), 3, WIDTHS)
    np.testing.assert_array_equal(run(head_subgraphs.image_share(head), image=features), features)


@pytest.mark.parametrize("curve", [CALIBRATION, CURVE], ids=["logistic", "isotonic"])
def test_cosine_graph_is_the_curve_of_the_similarity(curve: object) -> None:
    head = CosineHead(curve)  # type: ignore[arg-type]
    model = score_graph(head, joint=8)
    assert inputs_of(model) == {"similarity"}
    similarity = np.linspace(-1, 1, 41, dtype=np.float32)
    np.testing.assert_allclose(run(model, similarity=similarity), head.curve.score(similarity), atol=1e-6)


def test_unknown_kind_of_head_raises() -> None:
    class Oracle:
        kind = "oracle"

    with pytest.raises(TypeError, match="'oracle'"):
        score_graph(Oracle(), 8)  # type: ignore[arg-type]
