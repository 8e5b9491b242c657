"""The ONNX pieces compute what the numpy reference says: the alignment, and the split head the unsplit one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export import graphs
from export.compose import Composition, finish, score_graph
from sceneseek.alignment import Alignment, ClassNames, LearnedBlock, normalise
from sceneseek.heads import Calibration, CosineHead, MlpHead
from sceneseek.vectors import Floats


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> Any:
    session = onnxruntime.InferenceSession(finish(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def random(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Floats:
    return (scale * rng.normal(size=shape)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), images=st.integers(1, 40), width=st.integers(1, 48), deep=st.booleans())
def test_the_split_mlp_equals_the_unsplit_one(seed: int, images: int, width: int, deep: bool) -> None:
    rng = np.random.default_rng(seed)
    joint, features, text_width = 24, 30, 20
    inner = 7 if deep else 1
    layers = [(random(rng, inner, width, scale=0.25), random(rng, inner))]
    if deep:
        layers.append((random(rng, 1, inner, scale=0.25), random(rng, 1)))
    head = MlpHead(
        calibration=Calibration(9.0, -3.0, "test"),
        towers=("tower",),
        cosine=random(rng, width),
        product=random(rng, width, joint),
        image=random(rng, width, features, scale=0.15),
        text=random(rng, width, text_width),
        bias=random(rng, width),
        layers=tuple(layers),
    )
    image_joint, image_features = normalise(random(rng, images, joint)), random(rng, images, features)
    text_joint, text = normalise(random(rng, 1, joint))[0], normalise(random(rng, 1, text_width))

    image_head = run(graphs.image_share(head), x=image_features)
    text_head = run(graphs.text_share(head), x=text)[0]
    split = run(
        score_graph(head),
        similarity=image_joint @ text_joint,
        image_joint=image_joint,
        image_head=image_head,
        text_joint=text_joint,
        text_head=text_head,
    )
    unsplit = head.score(image_joint, image_features, text_joint, text[0])
    np.testing.assert_allclose(split, unsplit, atol=1e-5, rtol=0)
    assert ((split >= 0) & (split <= 1)).all()
    if images > 1:
        assert split.std() > 0


def test_the_first_layer_has_the_cosine_and_the_product_among_its_inputs() -> None:
    rng = np.random.default_rng(0)

    def head(cosine: Floats, product: Floats) -> MlpHead:
        nothing = np.zeros((1, 3), np.float32)
        return MlpHead(
            calibration=Calibration(0.0, 0.0, "test"),
            towers=("t",),
            cosine=cosine,
            product=product,
            image=nothing,
            text=nothing,
            bias=np.zeros(1, np.float32),
            layers=((np.ones((1, 1), np.float32), np.zeros(1, np.float32)),),
        )

    image_joint, text_joint = normalise(random(rng, 5, 4)), normalise(random(rng, 1, 4))[0]
    features, text = np.zeros((5, 3), np.float32), np.zeros(3, np.float32)
    one, none = np.ones(1, np.float32), np.zeros((1, 4), np.float32)
    of_cosine = head(one, none).score(image_joint, features, text_joint, text)
    of_product = head(np.zeros(1, np.float32), none + 1).score(image_joint, features, text_joint, text)
    # The product's sum is the cosine, so with weights of one the two heads agree.
    np.testing.assert_allclose(of_cosine, of_product, atol=1e-6)
    assert of_cosine.std() > 0


def test_the_cosine_graph_is_the_calibration_curve_and_reads_the_similarity_alone() -> None:
    calibration = Calibration(12.0, -4.0, "test")
    model = score_graph(CosineHead(calibration))
    assert [node.name for node in model.graph.input] == ["similarity"]
    similarity = np.linspace(-1, 1, 41, dtype=np.float32)
    np.testing.assert_allclose(run(model, similarity=similarity), calibration.score(similarity), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), images=st.integers(1, 20), top=st.integers(1, 12))
def test_class_names_combine_as_in_the_reference(seed: int, images: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    names = ClassNames("tower", normalise(random(rng, 12, 6)), temperature=1.5, top=top)
    logits = 3 * random(rng, images, 12)
    np.testing.assert_allclose(run(graphs.class_names(names), logits=logits), names.combine(logits), atol=2e-6)


def test_a_learned_block_gives_directions_scaled_to_its_share() -> None:
    rng = np.random.default_rng(3)
    block = LearnedBlock(("t",), random(rng, 8, 5), random(rng, 8), random(rng, 8, 4), random(rng, 8), share=0.64)
    x = random(rng, 9, 5)
    y = run(graphs.image_block(block), x=x)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 0.8, atol=1e-6)
    np.testing.assert_allclose(y, 0.8 * normalise(x @ block.image_weight.T + block.image_bias), atol=1e-6)


def test_joint_vectors_of_an_alignment_have_length_one() -> None:
    rng = np.random.default_rng(4)
    names = ClassNames("t", normalise(random(rng, 10, 4)), 1.5, 3)
    block = LearnedBlock(("t",), random(rng, 8, 9), random(rng, 8), random(rng, 8, 4), random(rng, 8), share=0.7)
    alignment = Alignment("p", (block,), names, 0.3, Calibration(1, 0, "test"))
    images = alignment.image_joint({"t": random(rng, 6, 5)}, {"t": random(rng, 6, 10)})
    texts = alignment.text_joint(random(rng, 6, 4))
    assert images.shape == texts.shape == (6, alignment.joint)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to"):
        Alignment("p", (), None, 0.5, Calibration(1, 0, "test"))


def test_wiring_a_piece_by_wrong_names_is_refused() -> None:
    with pytest.raises(ValueError, match="takes"):
        Composition().add("piece", graphs.no_head(), y="x")
