"""`sceneseek evaluate` measures through the bundle and a real index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from tests.conftest import CommandLine
from tests.drawing import NAMES


def captions(tmp_path: Path, rows: list[tuple[str, str]]) -> Path:
    path = tmp_path / "captions.tsv"
    path.write_text("image\tcaption\n" + "".join(f"{image}\t{text}\n" for image, text in rows))
    return path


def test_figures_come_as_text_and_as_json(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    path = captions(tmp_path, [(name, Path(name).stem) for name in NAMES])
    common = ("evaluate", "retrieval", "--bundle", bundle.path, "--images", gallery, "--captions", path)
    report = json.loads(sceneseek(*common, "--json").stdout)
    assert report["n_queries"] == report["n_images"] == len(NAMES)
    assert report["recall@50"] == 1.0
    assert 0 < report["recall@1"] <= report["recall@5"] <= report["recall@10"] <= 1
    assert 0 < report["mrr"] <= 1
    text = sceneseek(*common)
    assert f"{len(NAMES)} captions of {len(NAMES)} images" in text.stdout
    assert "recall@1/5/10/50" in text.stdout


def test_a_split_limits_images_and_missing_ones_are_told(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    path = captions(tmp_path, [(name, "a picture") for name in (*NAMES, "gone.jpg")])
    split = tmp_path / "split.txt"
    split.write_text(f"{NAMES[0]}\n{NAMES[1]}\ngone.jpg\n")
    outcome = sceneseek(
        "evaluate", "retrieval", "--bundle", bundle.path, "--images", gallery, "--captions", path, "--split", split
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith("2 captions of 2 images")
    assert "1 images of the captions file are missing" in outcome.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [("image,caption\n", "separated by tabs"), ("image\tcaption\nx.jpg\ta dog\n", "none of the 1 images")],
)
def test_captions_that_cannot_be_used(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "captions.tsv"
    path.write_text(content)
    outcome = sceneseek("evaluate", "retrieval", "--bundle", bundle.path, "--images", gallery, "--captions", path)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert said in outcome.stderr.splitlines()[-1]
