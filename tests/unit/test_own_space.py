"""Towers with a joint space of their own: their vectors, the inputs of heads, and unused towers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from sceneseek.errors import ExportError
from sceneseek.vectors import Floats
from sceneseek_export.alignment import Alignment
from sceneseek_export.alignment_maps import normalise
from sceneseek_export.composition import image_graph, text_graph
from sceneseek_export.heads import save_head
from sceneseek_export.packs import OwnSpace, Pack
from sceneseek_export.towers import Towers
from sceneseek_export.trained import COSINE, Trained, check_trained, find_trained, own_space
from tests.small_towers import features_and_logits, image_tower, text_tower
from tests.weights import drawn_head

EYE, EAR = image_tower("eye", 4, 6, 3), text_tower("ear", 6)
NET, BERT = image_tower("net", 5, 7, 3), text_tower("bert", 9)
BOTH = Towers((EYE, NET), (EAR, BERT))
CLIP = Pack("clip", "", (EYE.spec,), (EAR.spec,), OwnSpace("eye", "ear", 40, -10))
HYBRID = replace(CLIP, name="hybrid", image_towers=(EYE.spec, NET.spec), text_towers=(EAR.spec, BERT.spec))


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, Floats]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def pixels() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"eye": rng.integers(0, 256, (5, 4, 4, 3), "u1"), "net": rng.integers(0, 256, (5, 5, 5, 3), "u1")}


def tokens() -> dict[str, np.ndarray]:
    """Return the tokens of each text tower; their lengths differ, as each has its own tokenizer."""
    rng = np.random.default_rng(1)
    return {
        "ear.input_ids": rng.integers(0, 30, (3, 4)),
        "ear.attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]),
        "bert.input_ids": rng.integers(0, 30, (3, 6)),
        "bert.attention_mask": np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]),
    }


def test_joint_vectors_are_the_normalised_outputs_of_the_towers() -> None:
    trained = find_trained(CLIP, BOTH, None, None)
    images = run(image_graph([EYE], BOTH.to_onnx(), trained.alignment, trained.head), {"eye": pixels()["eye"]})
    texts = run(
        text_graph([EAR], BOTH.to_onnx(), trained.alignment, trained.head),
        {name: array for name, array in tokens().items() if name.startswith("ear.")},
    )
    np.testing.assert_allclose(images["joint"], normalise(features_and_logits(EYE, pixels()["eye"])[0]), atol=1e-6)
    expected = normalise(EAR.reference(tokens()["ear.input_ids"], tokens()["ear.attention_mask"]))
    np.testing.assert_allclose(texts["joint"], expected, atol=1e-6)


def test_untrained_scores_follow_the_curve_of_the_pack_and_are_uncalibrated() -> None:
    for head in (None, COSINE):
        trained = find_trained(CLIP, BOTH, None, head)
        assert not trained.calibrated
        assert trained.head.validation == {"source": "a default, fitted to no ratings"}
        scores = trained.head.score({"similarity": np.array([[0.25], [0.35]], np.float32)})
        np.testing.assert_allclose(scores, [0.5, 1 / (1 + np.exp(-4))], atol=1e-6)


def test_curve_defaults_to_scale_and_bias_of_the_checkpoint() -> None:
    pack = replace(CLIP, joint_space=OwnSpace("eye", "ear"))
    siglip = Towers((EYE,), (replace(EAR, curve=(110.0, -12.0)),))
    assert own_space(pack, siglip).calibration.slope == 110
    with pytest.raises(ExportError, match=r"neither the pack 'clip' nor its checkpoint.*a slope and an intercept"):
        own_space(pack, BOTH)


def test_towers_of_different_widths_raise() -> None:
    pack = replace(HYBRID, joint_space=OwnSpace("eye", "bert", 1, 0))
    with pytest.raises(ExportError, match="'eye' and 'bert' share no space: their widths are 6 and 9"):
        own_space(pack, BOTH)


def make_trained(reads: tuple[str, ...], alignment: Alignment, towers: tuple[str, ...]) -> Trained:
    widths = {"similarity": 1, "product": 6, "image": 7, "text": 9}
    head = drawn_head("mlp", {name: widths[name] for name in reads}, towers=towers)
    return Trained(alignment, replace(head, towers=towers, alignment=alignment.fingerprint))


def test_one_pair_of_towers_retrieves_and_the_other_reranks() -> None:
    trained = make_trained(("similarity", "image", "text"), own_space(HYBRID, BOTH), ("net", "bert"))
    pieces = BOTH.to_onnx()
    images = run(image_graph(BOTH.images, pieces, trained.alignment, trained.head), pixels())
    texts = run(text_graph(BOTH.texts, pieces, trained.alignment, trained.head), tokens())
    np.testing.assert_allclose(images["joint"], normalise(features_and_logits(EYE, pixels()["eye"])[0]), atol=1e-6)
    first = trained.head.first  # type: ignore[attr-defined]
    expected = features_and_logits(NET, pixels()["net"])[0] @ first.weights["image"].T
    np.testing.assert_allclose(images["head"], expected, atol=1e-5)
    text_features = normalise(BERT.reference(tokens()["bert.input_ids"], tokens()["bert.attention_mask"]))
    np.testing.assert_allclose(texts["head"], text_features @ first.weights["text"].T + first.bias, atol=1e-5)


def test_unused_towers_are_omitted() -> None:
    own = own_space(HYBRID, BOTH)
    all_inputs = make_trained(("similarity", "image", "text"), own, ("net", "bert"))
    joint_only = make_trained(("similarity", "product"), own, ())
    assert BOTH.only(all_inputs.towers_read) == BOTH
    assert BOTH.only(joint_only.towers_read) == Towers((EYE,), (EAR,))


@pytest.mark.parametrize("head", [None, COSINE], ids=str)
def test_pack_without_its_trained_head_raises_naming_the_command(head: Path | None) -> None:
    with pytest.raises(
        ExportError, match=r"towers that only a head reads \(net, bert\).*sceneseek train heads --pack hybrid"
    ):
        check_trained(HYBRID, None, head)


def test_pack_without_its_learned_space_raises_naming_the_command() -> None:
    learned = Pack("mine", "", (NET.spec,), (BERT.spec,))
    with pytest.raises(
        ExportError, match=r"'mine' must be learned.*sceneseek train alignment --pack mine.*--alignment"
    ):
        check_trained(learned, None, None)
    check_trained(learned, Path("somewhere"), None)


def test_pack_with_a_trained_head_is_calibrated(tmp_path: Path) -> None:
    save_head(make_trained(("similarity", "image"), own_space(HYBRID, BOTH), ("net",)).head, tmp_path)
    check_trained(HYBRID, None, tmp_path)
    trained = find_trained(HYBRID, BOTH, None, tmp_path)
    assert trained.calibrated
    assert trained.head.towers == ("net",)


def test_training_with_other_weights_is_rejected() -> None:
    own = own_space(CLIP, BOTH)
    trained = make_trained(("similarity", "product"), own, ())
    trained.check_weights(BOTH)
    tower = {"name": "eye", "sha256": "0" * 64}
    with pytest.raises(ExportError, match=r"the alignment was trained with other weights of 'eye' \(000000000000, "):
        replace(trained, alignment=replace(own, card={"towers": [tower]})).check_weights(BOTH)
    head = replace(trained.head, validation={"towers": [tower]})
    with pytest.raises(ExportError, match=r"the head was trained with other weights of 'eye'"):
        replace(trained, head=head).check_weights(BOTH)


def test_own_space_round_trips_through_its_files(tmp_path: Path) -> None:
    before = own_space(HYBRID, BOTH)
    before.save(tmp_path)
    after = Alignment.load(tmp_path)
    assert after.fingerprint == before.fingerprint
    assert after.spaces[0].text == "ear"
    assert Alignment.own("hybrid", ("eye", "bert"), 6, before.calibration).fingerprint != before.fingerprint
