"""A manifest's fingerprints follow its content, and a changed one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sceneseek.bundle import Dimensions, Head, ImageInput, Manifest, MatchThreshold, TextInput
from sceneseek.errors import BundleError

MARKED = Head(
    kind="cosine",
    calibrated=True,
    validation={},
    match=MatchThreshold(threshold=0.5, source="captions", figures={"auc": 0.9}),
)

RECIPES = {"image.onnx": "a", "text.onnx": "b", "score.onnx": "c"}


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "pack": "compact",
        "towers": (),
        "dimensions": Dimensions(joint=8, image_head=0, text_head=0),
        "image_inputs": (
            ImageInput(
                name="pixels",
                height=8,
                width=8,
                fit="squash",
                fit_transparent="letterbox",
                mean=(0, 0, 0),
                std=(1, 1, 1),
            ),
        ),
        "text_inputs": (TextInput(name="words", tokenizer="words.tokenizer.json", max_tokens=8, pad_id=0),),
        "head": Head(kind="cosine", calibrated=True, validation={}),
        "alignment": {},
        "precision": "fp32",
        "recipes": RECIPES,
        "files": {"image.onnx": "aa", "text.onnx": "bb", "score.onnx": "cc"},
        "parity_error": {},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Manifest.build(**{**fields, **changes})


def test_a_bundle_reads_many_languages_if_one_of_its_text_towers_does() -> None:
    english = manifest()
    texts = english.text_inputs[0]
    both = manifest(text_inputs=(texts, texts.model_copy(update={"name": "e5", "multilingual": True})))
    assert (english.multilingual, both.multilingual) == (False, True)


def test_outputs_do_not_change_the_fingerprints() -> None:
    one = manifest()
    other = manifest(
        created="2027-01-01T00:00:00+00:00",
        parity_error={"image.joint": 1e-6},
        files={"image.onnx": "other", "text.onnx": "last", "score.onnx": "digits"},
    )
    assert one.fingerprints == other.fingerprints


def test_another_text_graph_or_head_changes_the_bundle_but_not_what_it_can_search() -> None:
    one = manifest()
    for other in (
        manifest(recipes={**RECIPES, "text.onnx": "xx"}),
        manifest(head=Head(kind="cosine", calibrated=True, validation={"rmse": 0.1})),
        manifest(head=MARKED),
    ):
        assert other.fingerprints.image == one.fingerprints.image
        assert other.fingerprints.bundle != one.fingerprints.bundle


def test_another_image_graph_or_preprocessing_changes_both() -> None:
    one = manifest()
    cropped = one.image_inputs[0].model_copy(update={"fit": "crop"})
    for other in (
        manifest(recipes={**RECIPES, "image.onnx": "xx"}),
        manifest(image_inputs=(cropped,)),
    ):
        assert other.fingerprints.image != one.fingerprints.image
        assert other.fingerprints.bundle != one.fingerprints.bundle


@pytest.mark.parametrize("head", [Head(kind="cosine", calibrated=True, validation={}), MARKED])
def test_a_manifest_round_trips_through_its_file(head: Head, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    manifest(head=head).write(path)
    assert Manifest.read(path) == manifest(head=head)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pack": "other"}, "was changed"),
        ({"schema_version": 99}, "schema version 99"),
        ({"surprise": 1}, "surprise"),
        ({"dimensions": {"joint": 0, "image_head": 0, "text_head": 0}}, "dimensions.joint"),
    ],
)
def test_a_manifest_that_was_changed_by_hand_says_so(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "manifest.json"
    manifest().write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match=said):
        Manifest.read(path)


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(BundleError, match="sceneseek export"):
        Manifest.read(path)
