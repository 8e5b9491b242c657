"""The reference packs from export to search, with small random-weight models in the Hugging Face Hub layout."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sceneseek.bundle import Bundle
from tests import checkpoints
from tests.command_line import CommandLine
from tests.conftest import ROOT
from tests.drawing import NAMES

RESNET, BERT, CLIP = "microsoft/resnet-50", "google-bert/bert-base-uncased", "openai/clip-vit-base-patch32"
SIGLIP = "google/siglip2-base-patch16-224"

Outcome = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model directories by hub name."""
    root = tmp_path_factory.mktemp("models")
    return {
        RESNET: checkpoints.resnet(root / "resnet"),
        BERT: checkpoints.bert(root / "bert"),
        CLIP: checkpoints.clip(root / "clip", binary=True),
        SIGLIP: checkpoints.siglip(root / "siglip"),
    }


@pytest.fixture
def rated(tmp_path: Path) -> dict[str, Path]:
    """Captions of the drawn images, and ratings of two captions per image."""
    captions = ["image\tcaption_id\tcaption", *(f"{n}\t{n}#0\ta {Path(n).stem}" for n in NAMES)]
    expert = ["image\tcaption_id\ts1\ts2\ts3"]
    for i, name in enumerate(NAMES):
        expert += [f"{name}\t{name}#0\t4\t4\t3", f"{name}\t{NAMES[i - 1]}#0\t1\t1\t2"]
    files = {"captions": tmp_path / "captions.tsv", "expert": tmp_path / "expert.tsv"}
    files["captions"].write_text("\n".join([*captions, ""]), encoding="utf-8")
    files["expert"].write_text("\n".join([*expert, ""]), encoding="utf-8")
    return files


def weights_options(models: dict[str, Path], *names: str) -> list[str]:
    return [word for name in names for word in ("--weights", f"{name}={models[name]}")]


@pytest.fixture
def answer(sceneseek: CommandLine, gallery: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Index the drawn images with a bundle and search them."""

    def run(bundle: Path, query: str) -> dict[str, Any]:
        options = ("--bundle", bundle, "--index", f"file:{tmp_path}/index", "--device", "cpu")
        indexed = sceneseek("index", gallery, *options)
        assert f"indexed {len(NAMES)}, unchanged 0, skipped 0" in indexed.stdout, indexed.stderr
        outcome = sceneseek("search", query, *options, "--json")
        assert outcome.returncode == 0, outcome.stderr
        document: dict[str, Any] = json.loads(outcome.stdout)
        assert len(document["results"]) == 5
        assert all(0 <= result["score"] <= 1 for result in document["results"])
        return document

    return run


def test_clip_pack_reports_uncalibrated_scores_until_calibrated_on_captions(
    sceneseek: CommandLine,
    models: dict[str, Path],
    rated: dict[str, Path],
    gallery: Path,
    answer: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    bundle = tmp_path / "bundle"
    exported = sceneseek("export", "--pack", "clip", *weights_options(models, CLIP), "--out", bundle)
    assert exported.returncode == 0, exported.stderr
    assert "scores       not calibrated" in exported.stdout
    found = answer(bundle, "a red circle")
    assert found["calibrated"] is False
    order = [result["similarity"] for result in found["results"]]
    assert order == sorted(order, reverse=True)
    plain = sceneseek("search", "a red circle", "--bundle", bundle, "--index", f"file:{tmp_path}/index")
    assert "not calibrated" in plain.stderr

    # Calibration on captions does not change the joint space, so the index stays valid.
    trained = sceneseek(
        "train", "alignment", "--pack", "clip", *weights_options(models, CLIP), "--images", gallery, "--captions",
        rated["captions"], "--out", tmp_path / "alignment", "--cache", tmp_path / "cache", "--threads", 1,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    export = ("export", "--pack", "clip", *weights_options(models, CLIP), "--alignment", tmp_path / "alignment")
    assert sceneseek(*export, "--out", tmp_path / "calibrated").returncode == 0
    options = ("--bundle", tmp_path / "calibrated", "--index", f"file:{tmp_path}/index", "--json")
    calibrated = json.loads(sceneseek("search", "a red circle", *options).stdout)
    assert calibrated["calibrated"] is True
    assert [r["id"] for r in calibrated["results"]] == [r["id"] for r in found["results"]]


def test_resnet50_bert_pack_requires_trained_alignment(
    sceneseek: CommandLine,
    models: dict[str, Path],
    rated: dict[str, Path],
    gallery: Path,
    answer: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    weights = weights_options(models, RESNET, BERT)
    refused = sceneseek("export", "--pack", "resnet50-bert", *weights, "--out", tmp_path / "bundle")
    assert refused.returncode == 1
    assert "must be learned from captions" in refused.stderr
    assert "sceneseek train alignment --pack resnet50-bert" in refused.stderr
    assert not (tmp_path / "bundle").exists()

    trained = sceneseek(
        "train", "alignment", "--pack", "resnet50-bert", *weights, "--images", gallery,
        "--captions", rated["captions"], "--out", tmp_path / "alignment", "--epochs", 1, "--threads", 1, "--seed", 3,
        "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    exported = sceneseek(
        "export", "--pack", "resnet50-bert", *weights, "--alignment", tmp_path / "alignment",
        "--out", tmp_path / "bundle", "--json",
    )  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    assert max(json.loads(exported.stdout)["parity_error"].values()) <= 1e-4
    assert answer(tmp_path / "bundle", "a red circle")["calibrated"] is True


def test_hybrid_pack_reranks_with_head_trained_on_resnet50_and_bert(
    sceneseek: CommandLine,
    models: dict[str, Path],
    rated: dict[str, Path],
    gallery: Path,
    answer: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    weights = weights_options(models, RESNET, BERT, CLIP)
    refused = sceneseek("export", "--pack", "hybrid", *weights, "--out", tmp_path / "bundle")
    assert refused.returncode == 1
    assert "only a head reads (resnet50, bert)" in refused.stderr
    assert "sceneseek train heads --pack hybrid" in refused.stderr

    trained = sceneseek(
        "train", "heads", "--pack", "hybrid", *weights, "--images", gallery, "--captions", rated["captions"],
        "--expert", rated["expert"], "--out", tmp_path / "heads", "--report", tmp_path / "report",
        "--cache", tmp_path / "cache", "--head", "prototype-ridge", "--folds", 2, "--no-curves", "--bootstrap", 20,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    exported = sceneseek(
        "export", "--pack", "hybrid", *weights, "--head", tmp_path / "heads", "--out", tmp_path / "bundle"
    )
    assert exported.returncode == 0, exported.stderr
    assert "left out" not in exported.stdout
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert [tower["name"] for tower in manifest["towers"]] == ["clip-image", "resnet50", "clip-text", "bert"]
    assert manifest["dimensions"] == {"joint": 24, "image_head": 1, "text_head": 1}
    found = answer(tmp_path / "bundle", "a red circle")
    assert found["calibrated"] is True
    scores = [result["score"] for result in found["results"]]
    assert scores == sorted(scores, reverse=True)

    # The head does not fit other ResNet50 weights.
    models = models | {RESNET: checkpoints.resnet(tmp_path / "other", labels=10)}
    other = sceneseek(
        "export", "--pack", "hybrid", *weights_options(models, RESNET, BERT, CLIP), "--head", tmp_path / "heads",
        "--out", tmp_path / "other-bundle",
    )  # fmt: skip
    assert other.returncode == 1
    assert "the head was trained with other weights of 'resnet50'" in other.stderr


def test_custom_siglip_2_pack_supports_russian(
    sceneseek: CommandLine, models: dict[str, Path], answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    pack = ROOT / "docs" / "how-to" / "packs" / "siglip2.toml"
    exported = sceneseek("export", "--pack", pack, *weights_options(models, SIGLIP), "--out", tmp_path / "bundle")
    assert exported.returncode == 0, exported.stderr
    found = answer(tmp_path / "bundle", "красный круг на белом листе")
    assert found["calibrated"] is False
    assert found["truncated"] is False
    other = sceneseek(
        "search", "кошка спит", "--bundle", tmp_path / "bundle", "--index", f"file:{tmp_path}/index", "--json"
    )
    similarities = [[r["similarity"] for r in document["results"]] for document in (found, json.loads(other.stdout))]
    assert similarities[0] != similarities[1]


def test_int8_export_calibrates_and_measures_accuracy_loss_on_sample(
    sceneseek: CommandLine,
    models: dict[str, Path],
    rated: dict[str, Path],
    gallery: Path,
    answer: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    # --force: one of twelve captions is worth eight points of recall.
    exported = sceneseek(
        "export", "--pack", "clip", *weights_options(models, CLIP), "--precision", "int8", "--sample", gallery,
        "--captions", rated["captions"], "--expert", rated["expert"], "--force", "--out", tmp_path / "bundle",
    )  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    assert "precision    int8; compared with fp32:" in exported.stdout
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["precision"] == "int8"
    fidelity = manifest["accuracy_loss"]
    assert fidelity["image_cosine"]["mean"] > 0.98
    assert (fidelity["calibrated_on"], fidelity["image_cosine"]["count"]) == (8, 4)
    assert (fidelity["loss"]["recall@5"]["count"], fidelity["loss"]["tau_c"]["count"]) == (len(NAMES), len(NAMES))
    assert max(manifest["parity_error"].values()) <= 1e-4
    answer(tmp_path / "bundle", "a red circle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "--precision int8 needs --sample DIR"),
        (["--force"], "need a lower --precision"),
        (["--precision", "fp16", "--sample", ".", "--expert", "ratings.tsv"], "--split and --expert need --captions"),
    ],
    ids=["no sample", "force without lower precision", "expert without captions"],
)
def test_export_rejects_inconsistent_precision_options(
    sceneseek: CommandLine, options: list[str], message: str
) -> None:
    outcome = sceneseek("export", *options)
    assert outcome.returncode == 2
    assert message in outcome.stderr


def test_unknown_pack_error_lists_known_packs(sceneseek: CommandLine) -> None:
    for command in (("export",), ("train", "alignment", "--images", ".", "--captions", "x", "--out", "y")):
        outcome = sceneseek(*command, "--pack", "clop")
        assert outcome.returncode == 2
        assert "unknown pack 'clop': choose one of clip, compact, hybrid, resnet50-bert" in outcome.stderr


def test_export_keeps_previous_bundle_on_full_disk(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(bundle.path, out)
    before = (out / "manifest.json").read_bytes()
    command = [str(Path(sys.executable).with_name("sceneseek")), "export", "--out", str(out)]
    # Limit file sizes to 1 MB to simulate a full disk.
    limited = subprocess.run(
        ["bash", "-c", 'ulimit -f 1000; exec "$@"', "bash", *command],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert limited.returncode == 1
    assert re.fullmatch(r"error: the bundle cannot be written to .*File too large\): free some.*\n", limited.stderr)
    assert (out / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
