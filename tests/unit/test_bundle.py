"""A manifest's fingerprints follow its content, and a changed one is refused, as is a bundle with a changed file."""

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
    both = manifest(text_inputs=(texts, replace(texts, name="e5", multilingual=True)))
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
    cropped = replace(one.image_inputs[0], fit="crop")
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
        ({"dimensions": {"joint": 0, "image_head": 0, "text_head": 0}}, "was changed"),
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


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a bundle of two files, which count as written long ago."""
    monkeypatch.setattr(bundles, "SETTLED", -60)
    contents = {"image.onnx": b"an image graph", "text.onnx": b"a text graph"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest(files=files).write(tmp_path / "manifest.json")
    return tmp_path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose content was read, as they are read."""
    names: list[str] = []

    def reported(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(bundles, "sha256_of", reported)
    return names


def test_a_file_that_was_checked_and_looks_the_same_is_not_read_again(written: Path, read: list[str]) -> None:
    Bundle.load(written)
    assert read == ["image.onnx", "text.onnx"]
    Bundle.load(written)
    assert len(read) == 2
    Bundle.load(written, trust=False)
    assert len(read) == 4


def test_a_file_that_was_written_a_moment_ago_is_read_again(
    written: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "SETTLED", 60)
    Bundle.load(written)
    Bundle.load(written)
    assert len(read) == 4


def test_a_file_that_was_changed_after_it_was_checked_is_refused(written: Path) -> None:
    Bundle.load(written)
    time.sleep(0.05)  # so that the clock of the file system has moved on
    file = written / "text.onnx"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(b"A text graph")
    os.utime(file, ns=times)  # as long and as old as before
    for _ in range(2):
        with pytest.raises(BundleError, match=r"text\.onnx is not the file that was exported"):
            Bundle.load(written)
    file.unlink()
    with pytest.raises(BundleError, match=r"text\.onnx is missing"):
        Bundle.load(written)


def test_another_manifest_has_the_files_read_again(written: Path, read: list[str]) -> None:
    Bundle.load(written)
    manifest(files={"text.onnx": hashlib.sha256(b"another text graph").hexdigest()}).write(written / "manifest.json")
    with pytest.raises(BundleError, match=r"text\.onnx is not the file"):
        Bundle.load(written)
    assert read[2:] == ["text.onnx"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"image.onnx": 3, "text.onnx": ["x"]}'])
def test_a_damaged_list_of_checked_files_is_written_again(written: Path, read: list[str], content: str) -> None:
    (written / CHECKED).write_text(content)
    Bundle.load(written)
    Bundle.load(written)
    assert read == ["image.onnx", "text.onnx"]


def test_a_bundle_that_may_only_be_read_is_checked_each_time(
    written: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(bundles, "write_atomic", refuse)
    Bundle.load(written)
    Bundle.load(written)
    assert len(read) == 4
