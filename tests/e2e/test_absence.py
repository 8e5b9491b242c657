"""`sceneseek evaluate absence` measures match decisions; `sceneseek train threshold` fits the match threshold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from sceneseek.captions import read_captions
from sceneseek.errors import DataError
from sceneseek_evaluation.absence import ABSENCE_FIGURES, NONSENSE, evaluate_absence
from sceneseek_evaluation.figures import Bootstrap
from sceneseek_export.heads import CosineHead, load_head, save_head
from sceneseek_export.packs import find_pack
from sceneseek_export.trained import Trained, shipped_alignment
from sceneseek_training.threshold import ThresholdData, fit_threshold
from tests.command_line import CommandLine
from tests.drawing import NAMES
from tests.weights import CALIBRATION, drawn_alignment

PACK = find_pack("compact")
FOREIGN = ("two men playing football", "a motorcycle race", "a plate of spaghetti")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One caption per drawn image, unrelated texts, and a copy of the shipped head."""
    captions, foreign, head = tmp_path / "captions.tsv", tmp_path / "foreign.txt", tmp_path / "head"
    captions.write_text("image\tcaption\n" + "".join(f"{name}\t{Path(name).stem}\n" for name in NAMES))
    foreign.write_text("\n".join(FOREIGN))
    shutil.copytree(shipped_alignment(PACK).with_name("head"), head)
    return {"captions": captions, "foreign": foreign, "head": head}


def test_evaluate_absence_reports_metrics_per_query_kind(bundle: Bundle, gallery: Path, files: dict[str, Path]) -> None:
    captions = read_captions(files["captions"])
    report = evaluate_absence(bundle, gallery, captions, FOREIGN, bootstrap=Bootstrap(20)).to_json()
    assert set(ABSENCE_FIGURES) <= set(report)
    count = len(NAMES)
    assert report["n_queries"] == {"present": count, "absent": count, "foreign": len(FOREIGN), "nonsense": NONSENSE}
    assert report["threshold"] == bundle.manifest.head.match.threshold  # type: ignore[union-attr]
    assert report["nonsense.false_match_rate"]["value"] <= 0.02
    assert report["absent.auc"]["value"] >= 0.5


def test_evaluate_absence_reports_metrics_per_language(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    rows = [f"{name}\t{Path(name).stem}\ten\n{name}\txqzv kwpt\tde\n" for name in NAMES]
    captions = tmp_path / "captions.tsv"
    captions.write_text("image\tcaption\tlanguage\n" + "".join(rows))
    common = ("evaluate", "absence", "--bundle", bundle.path, "--images", gallery, "--captions", captions)
    # A third of the English captions reach this threshold; the gibberish labelled German always does.
    outcome = sceneseek(
        *common, "--threshold", "0.2", "--bootstrap", "20", "--json", "--fail-below", "en.present.match_rate=0.9"
    )
    languages = json.loads(outcome.stdout)["languages"]
    assert set(languages) == {"de", "en", "mean"}
    assert languages["en"]["n_queries"] == languages["de"]["n_queries"] == len(NAMES)
    rates = {code: metrics["present.match_rate"]["value"] for code, metrics in languages.items()}
    assert rates["de"] != rates["en"]
    assert rates["mean"] == pytest.approx((rates["de"] + rates["en"]) / 2)
    assert outcome.returncode == 1
    assert "en.present.match_rate is" in outcome.stderr


def test_evaluate_absence_exits_1_after_report_if_metric_misses_bound_or_is_undefined(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, files: dict[str, Path]
) -> None:
    outcome = sceneseek(
        "evaluate", "absence", "--bundle", bundle.path, "--images", gallery, "--captions", files["captions"],
        "--threshold", "0", "--bootstrap", "20",
        "--fail-below", "foreign.auc=0", "--fail-above", "nonsense.false_match_rate=0.99",
    )  # fmt: skip
    assert outcome.returncode == 1
    fingerprint = bundle.manifest.fingerprints.bundle[:12]
    assert f"{len(NAMES)} images, bundle {fingerprint}: a match from 0 on; queries: 12 present" in outcome.stdout
    figures = dict(line.split(maxsplit=1) for line in outcome.stdout.splitlines()[2:])
    assert figures["present.match_rate"].split()[0] == "1.0000"
    assert "foreign.auc is not defined" in outcome.stderr  # no foreign texts were given
    assert "nonsense.false_match_rate is 1, above 0.99" in outcome.stderr


def test_train_threshold_writes_threshold_and_metrics_into_head(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, files: dict[str, Path]
) -> None:
    # The bundle's head is an export of the shipped head.
    assert bundle.manifest.head.match == Trained.shipped(PACK).head.match
    outcome = sceneseek(
        "train", "threshold", "--bundle", bundle.path, "--head", files["head"], "--images", gallery,
        "--captions", files["captions"], "--foreign", files["foreign"], "--bootstrap", "20", "--json",
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    match = load_head(files["head"]).match
    assert match is not None
    assert match.threshold == report["threshold"]
    assert match.figures == report["figures"]
    assert match.figures["n_queries"]["present"] == len(NAMES)
    assert {file["name"] for file in match.figures["data"]} == {"captions.tsv", "foreign.txt"}
    card = (files["head"] / "CARD.md").read_text(encoding="utf-8")
    assert card.count("## When a result matches") == 1
    assert f"From a score of {match.threshold:g} on." in card


def test_fit_threshold_rejects_bundle_with_different_head(
    bundle: Bundle, gallery: Path, files: dict[str, Path]
) -> None:
    save_head(CosineHead(CALIBRATION), files["head"])
    data = ThresholdData(gallery, read_captions(files["captions"]), FOREIGN, ())
    with pytest.raises(DataError, match="was not exported with the head in"):
        fit_threshold(bundle, files["head"], None, data, "")


def test_fit_threshold_rejects_bundle_with_different_alignment(
    bundle: Bundle, gallery: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    drawn_alignment().save(tmp_path / "alignment")
    data = ThresholdData(gallery, read_captions(files["captions"]), FOREIGN, ())
    with pytest.raises(DataError, match="was exported with another alignment"):
        fit_threshold(bundle, files["head"], tmp_path / "alignment", data, "")


@pytest.mark.flickr8k
def test_fit_threshold_rejects_images_in_alignment_training_set(
    bundle: Bundle, flickr8k: Path, files: dict[str, Path]
) -> None:
    learned = set((flickr8k / "split_train.txt").read_text(encoding="utf-8").split()[:3])
    captions = [caption for caption in read_captions(flickr8k / "captions.tsv") if caption.image in learned]
    data = ThresholdData(flickr8k / "images", captions, FOREIGN, ())
    with pytest.raises(DataError, match="the joint space was trained on 3 of the images"):
        fit_threshold(bundle, files["head"], None, data, "")
