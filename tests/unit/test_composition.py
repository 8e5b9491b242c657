"""Whole graphs around small towers compute the vectors and scores of the numpy reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
import pytest

from sceneseek.vectors import Floats
from sceneseek_export.alignment import Alignment
from sceneseek_export.alignment_maps import normalise
from sceneseek_export.composition import features_graph, score_graph
from sceneseek_export.composition import image_graph as composed_images
from sceneseek_export.composition import text_graph as composed_texts
from sceneseek_export.heads import CosineHead, Head, pair_inputs
from sceneseek_export.towers import ImageTower, TextTower, Towers
from tests.small_towers import features_and_logits, image_tower, text_tower
from tests.weights import CALIBRATION, CLASSES, TEXT, TOWERS, drawn_alignment, drawn_head, with_space, with_two_texts

SIDES = {"a": 4, "b": 6}


@dataclass(frozen=True)
class Small:
    """Two image towers and one or two text towers, their inputs and their outputs."""

    towers: list[ImageTower]
    text_towers: list[TextTower]
    pixels: dict[str, np.ndarray]
    tokens: dict[str, np.ndarray]
    features: dict[str, Floats]
    logits: dict[str, Floats]
    text: dict[str, Floats]

    @property
    def graphs(self) -> dict[str, onnx.ModelProto]:
        return Towers(tuple(self.towers), tuple(self.text_towers)).to_onnx()

    def image_graph(self, alignment: Alignment, head: Head) -> onnx.ModelProto:
        return composed_images(self.towers, self.graphs, alignment, head)

    def text_graph(self, alignment: Alignment, head: Head) -> onnx.ModelProto:
        return composed_texts(self.text_towers, self.graphs, alignment, head)


@pytest.fixture(scope="module")
def small() -> Small:
    return make_small(["words"])


@pytest.fixture(scope="module")
def two_texts() -> Small:
    return make_small(["words", "sentences"])


def make_small(texts: list[str]) -> Small:
    rng = np.random.default_rng(0)
    towers = [image_tower(name, SIDES[name], width, CLASSES) for name, width in TOWERS.items()]
    text_towers = [text_tower(name, TEXT) for name in texts]
    pixels = {t.spec.name: rng.integers(0, 256, (9, t.input.height, t.input.width, 3), dtype=np.uint8) for t in towers}
    image_outputs = {tower.spec.name: features_and_logits(tower, pixels[tower.spec.name]) for tower in towers}
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    tokens: dict[str, np.ndarray] = {}
    text: dict[str, Floats] = {}
    for name, tower in zip(texts, text_towers, strict=True):
        ids = rng.integers(0, 30, (3, 4))
        tokens |= {f"{name}.input_ids": ids, f"{name}.attention_mask": mask}
        text[name] = tower.reference(ids, mask)
    features, logits = ({name: pair[i] for name, pair in image_outputs.items()} for i in (0, 1))
    return Small(towers, text_towers, pixels, tokens, features, logits, text)


def outputs(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, Floats]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


WITHOUT = {
    "with everything": (),
    "without hubness": ("hubness",),
    "without class names": ("names",),
    "with the blocks alone": ("names", "hubness", "typical", "ranges"),
}


@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT.keys())
def test_joint_vectors_match_the_alignment(small: Small, without: tuple[str, ...]) -> None:
    alignment = drawn_alignment()
    if "names" in without:
        blocks = tuple(replace(b, image_weight=b.image_weight[:, :-TEXT]) for b in alignment.spaces[0].blocks)
        alignment = with_space(replace(alignment, names={}), blocks=blocks)
    alignment = with_space(alignment, **dict.fromkeys(set(without) & {"hubness", "typical"}))
    alignment = replace(alignment, ranges={} if "ranges" in without else alignment.ranges)
    outside = {
        t for t, limits in alignment.ranges.items() if (limits.clip(small.features[t]) != small.features[t]).any()
    }
    assert outside == set(alignment.ranges)  # so that clipping has an effect

    head = CosineHead(CALIBRATION)
    images = outputs(small.image_graph(alignment, head), small.pixels)
    np.testing.assert_allclose(images["joint"], alignment.image_joint(small.features, small.logits), atol=1e-5)
    texts = outputs(small.text_graph(alignment, head), small.tokens)
    np.testing.assert_allclose(texts["joint"], alignment.text_joint(small.text), atol=1e-5)
    assert images["head"].shape == (9, 0)
    assert texts["head"].shape == (3, 0)


def test_class_names_can_use_the_classifier_of_one_tower(small: Small) -> None:
    full = drawn_alignment()
    alignment = replace(full, names={"words": replace(full.names["words"], towers=("b",))})
    images = outputs(small.image_graph(alignment, CosineHead(CALIBRATION)), small.pixels)
    expected = alignment.image_joint(small.features, {"b": small.logits["b"]})
    np.testing.assert_allclose(images["joint"], expected, atol=1e-5)
    assert np.abs(images["joint"] - full.image_joint(small.features, small.logits)).max() > 0.01


@pytest.mark.parametrize("without", [[], ["hubness"]], ids=str)
def test_two_text_towers_are_combined_by_the_alignment(two_texts: Small, without: list[str]) -> None:
    alignment = with_space(with_two_texts(drawn_alignment()), **dict.fromkeys(without))
    head = CosineHead(CALIBRATION)
    images = outputs(two_texts.image_graph(alignment, head), two_texts.pixels)
    expected = alignment.image_joint(two_texts.features, two_texts.logits)
    np.testing.assert_allclose(images["joint"], expected, atol=1e-5)
    texts = outputs(two_texts.text_graph(alignment, head), two_texts.tokens)
    np.testing.assert_allclose(texts["joint"], alignment.text_joint(two_texts.text), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts["joint"], axis=1), 1, atol=1e-5)


def widths(alignment: Alignment) -> dict[str, int]:
    """Return the widths of the head's inputs."""
    image = sum(TOWERS.values())
    return {"similarity": 1, "product": alignment.joint, "image": image, "text": TEXT, "spread": alignment.spread}


@pytest.mark.parametrize("towers", [("a", "b"), ("b", "a")], ids=["in order", "reversed"])
@pytest.mark.parametrize(
    "inputs",
    [
        ("similarity", "product", "image", "text", "spread"),
        ("similarity", "product", "spread"),
        ("product", "text"),
        ("similarity", "image"),
    ],
    ids="+".join,
)
@pytest.mark.parametrize("kind", ["linear", "mlp", "catboost"])
def test_graph_scores_match_the_unsplit_head(
    small: Small, kind: str, inputs: tuple[str, ...], towers: tuple[str, ...]
) -> None:
    alignment = drawn_alignment()
    head: Head = drawn_head(kind, {name: widths(alignment)[name] for name in inputs}, towers=towers)
    images = outputs(small.image_graph(alignment, head), small.pixels)
    texts = outputs(small.text_graph(alignment, head), small.tokens)
    assert images["head"].shape == (9, head.image_width)
    assert texts["head"].shape == (3, head.text_width)

    image_joint = alignment.image_joint(small.features, small.logits)
    inside = alignment.clipped(small.features)
    features = np.concatenate([inside[tower] for tower in towers], axis=1)
    model = score_graph(head, alignment.joint)
    reads = {node.name for node in model.graph.input}
    for i in range(3):
        text_joint, spread = alignment.text_joint(small.text)[i], alignment.text_spread(small.text)[i]
        available = {
            "similarity": images["joint"] @ texts["joint"][i],
            "image_joint": images["joint"],
            "image_head": images["head"],
            "text_joint": texts["joint"][i],
            "text_head": texts["head"][i],
        }
        scores = outputs(model, {name: available[name] for name in reads})["score"]
        unsplit = head.score(pair_inputs(image_joint, features, text_joint, normalise(small.text["words"])[i], spread))
        np.testing.assert_allclose(scores, unsplit, atol=1e-5, rtol=0)
        assert unsplit.std() > 0.001


def test_features_graph_outputs_features_and_logits_of_every_tower(small: Small) -> None:
    results = outputs(features_graph(small.towers), small.pixels)
    assert set(results) == {"a.features", "a.logits", "b.features", "b.logits"}
    for tower in TOWERS:
        np.testing.assert_allclose(results[f"{tower}.features"], small.features[tower], atol=1e-5)
        np.testing.assert_allclose(results[f"{tower}.logits"], small.logits[tower], atol=1e-5)


@pytest.mark.parametrize("kind", ["mlp", "linear", "catboost"])
def test_head_without_image_features_does_not_change_the_image_graph(small: Small, kind: str) -> None:
    alignment = drawn_alignment()
    inputs = {name: width for name, width in widths(alignment).items() if name != "image"}
    graphs = [
        small.image_graph(alignment, head).SerializeToString(deterministic=True)
        for head in (CosineHead(CALIBRATION), drawn_head(kind, inputs), drawn_head(kind, inputs | {"image": 9}))
    ]
    assert graphs[0] == graphs[1] != graphs[2]
