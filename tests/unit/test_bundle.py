"""The fingerprints of a manifest follow its content; changed manifests and bundle files are rejected."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sceneseek import bundle as bundles
from sceneseek.bundle import CHECKED, Bundle, Dimensions, Head, ImageInput, Manifest, MatchThreshold, TextInput
from sceneseek.errors import BundleError
from sceneseek.files import sha256_of

HEAD_WITH_MATCH = Head(
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


def test_bundle_is_multilingual_if_any_text_tower_is() -> None:
    english = manifest()
    texts = english.text_inputs[0]
    both = manifest(text_inputs=(texts, replace(texts, name="e5", multilingual=True)))
    assert (english.multilingual, both.multilingual) == (False, True)


def test_fingerprints_do_not_depend_on_build_outputs() -> None:
    one = manifest()
    other = manifest(
        created="2027-01-01T00:00:00+00:00",
        parity_error={"image.joint": 1e-6},
        files={"image.onnx": "other", "text.onnx": "last", "score.onnx": "digits"},
    )
    assert one.fingerprints == other.fingerprints


def test_text_graph_and_head_change_only_the_bundle_fingerprint() -> None:
    one = manifest()
    for other in (
        manifest(recipes={**RECIPES, "text.onnx": "xx"}),
        manifest(head=Head(kind="cosine", calibrated=True, validation={"rmse": 0.1})),
        manifest(head=HEAD_WITH_MATCH),
    ):
        assert other.fingerprints.image == one.fingerprints.image
        assert other.fingerprints.bundle != one.fingerprints.bundle


def test_image_graph_and_preprocessing_change_both_fingerprints() -> None:
    one = manifest()
    cropped = replace(one.image_inputs[0], fit="crop")
    for other in (
        manifest(recipes={**RECIPES, "image.onnx": "xx"}),
        manifest(image_inputs=(cropped,)),
    ):
        assert other.fingerprints.image != one.fingerprints.image
        assert other.fingerprints.bundle != one.fingerprints.bundle


@pytest.mark.parametrize("head", [Head(kind="cosine", calibrated=True, validation={}), HEAD_WITH_MATCH])
def test_manifest_round_trips_through_its_file(head: Head, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    manifest(head=head).write(path)
    assert Manifest.read(path) == manifest(head=head)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pack": "other"}, "was changed"),
        ({"schema_version": 99}, "schema version 99"),
        ({"surprise": 1}, "surprise"),
        ({"dimensions": {"joint": 0, "image_head": 0, "text_head": 0}}, "was changed"),
    ],
)
def test_edited_manifest_is_rejected(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "manifest.json"
    manifest().write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match=message):
        Manifest.read(path)


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_invalid_manifest_is_rejected(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(BundleError, match="sceneseek export"):
        Manifest.read(path)


@pytest.fixture
def bundle_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a bundle with two files, which count as written long ago."""
    monkeypatch.setattr(bundles, "SETTLED", -60)
    contents = {"image.onnx": b"an image graph", "text.onnx": b"a text graph"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest(files=files).write(tmp_path / "manifest.json")
    return tmp_path


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose content was read, in order."""
    names: list[str] = []

    def recorded(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(bundles, "sha256_of", recorded)
    return names


def test_checked_file_with_unchanged_size_and_times_is_not_read_again(
    bundle_folder: Path, files_read: list[str]
) -> None:
    Bundle.load(bundle_folder)
    assert files_read == ["image.onnx", "text.onnx"]
    Bundle.load(bundle_folder)
    assert len(files_read) == 2
    Bundle.load(bundle_folder, trust=False)
    assert len(files_read) == 4


def test_recently_written_file_is_read_again(
    bundle_folder: Path, files_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "SETTLED", 60)
    Bundle.load(bundle_folder)
    Bundle.load(bundle_folder)
    assert len(files_read) == 4


def test_file_changed_after_its_check_is_rejected(bundle_folder: Path) -> None:
    Bundle.load(bundle_folder)
    time.sleep(0.05)  # let the clock of the file system advance
    file = bundle_folder / "text.onnx"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(b"A text graph")
    os.utime(file, ns=times)  # same size and times as before
    for _ in range(2):
        with pytest.raises(BundleError, match=r"text\.onnx is not the file that was exported"):
            Bundle.load(bundle_folder)
    file.unlink()
    with pytest.raises(BundleError, match=r"text\.onnx is missing"):
        Bundle.load(bundle_folder)


def test_files_are_read_again_after_a_change_of_the_manifest(bundle_folder: Path, files_read: list[str]) -> None:
    Bundle.load(bundle_folder)
    manifest(files={"text.onnx": hashlib.sha256(b"another text graph").hexdigest()}).write(
        bundle_folder / "manifest.json"
    )
    with pytest.raises(BundleError, match=r"text\.onnx is not the file"):
        Bundle.load(bundle_folder)
    assert files_read[2:] == ["text.onnx"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"image.onnx": 3, "text.onnx": ["x"]}'])
def test_damaged_list_of_checked_files_is_rewritten(bundle_folder: Path, files_read: list[str], content: str) -> None:
    (bundle_folder / CHECKED).write_text(content)
    Bundle.load(bundle_folder)
    Bundle.load(bundle_folder)
    assert files_read == ["image.onnx", "text.onnx"]


def test_read_only_bundle_is_checked_at_every_load(
    bundle_folder: Path, files_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(bundles, "write_atomic", fail)
    Bundle.load(bundle_folder)
    Bundle.load(bundle_folder)
    assert len(files_read) == 4
