"""`sceneseek evaluate ratings` measures how well a bundle's scores agree with human ratings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sceneseek.bundle import MANIFEST, Bundle
from sceneseek.files import sha256_of
from tests.command_line import CommandLine
from tests.drawing import NAMES

AGREEMENT = {
    "rmse", "mae", "pearson", "spearman", "ece",
    "kendall_tau_b", "kendall_tau_c", "kendall_tau_b_all", "kendall_tau_c_all",
}  # fmt: skip
COUNTED = {"n_pairs", "n_pairs_published", "n_images", "reliability", "left_out", "merged"}


class Rated:
    """Captions and ratings of the drawn images: one caption per image, three rated captions per image."""

    def __init__(self, folder: Path) -> None:
        self.captions, self.expert, self.crowd = (folder / f"{name}.tsv" for name in ("captions", "expert", "crowd"))
        write(self.captions, "image\tcaption_id\tcaption", [f"{n}\t{n}#0\t{Path(n).stem}" for n in NAMES])
        pairs = [(i, (i + step) % len(NAMES)) for i in range(len(NAMES)) for step in (0, 1, 5)]
        rows = []
        votes = []
        for image, caption in pairs:
            key = f"{NAMES[image]}\t{NAMES[caption]}#0"
            rows.append(f"{key}\t4\t4\t3" if image == caption else f"{key}\t1\t{1 + image % 2}\t1")
            votes.append(f"{key}\t1\t3\t0" if image == caption else f"{key}\t0\t0\t3")
        write(self.expert, "image\tcaption_id\ts1\ts2\ts3", rows)
        write(self.crowd, "image\tcaption_id\tfrac\tyes\tno", votes)


def write(path: Path, header: str, rows: list[str]) -> None:
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")


@pytest.fixture
def files(tmp_path: Path) -> Rated:
    return Rated(tmp_path)


@pytest.fixture
def evaluate(sceneseek: CommandLine, bundle: Bundle, gallery: Path, files: Rated) -> Callable[..., Any]:
    """Run the command on the drawn images and their ratings; extra options override the defaults."""

    def run(*options: str | Path, images: Path = gallery, bundle_path: Path = bundle.path) -> Any:
        return sceneseek(
            "evaluate", "ratings", "--bundle", bundle_path, "--images", images, "--captions", files.captions,
            "--expert", files.expert, "--bootstrap", "50", *options,
        )  # fmt: skip

    return run


def test_evaluate_ratings_json_has_stable_keys_and_confidence_intervals(
    evaluate: Callable[..., Any], files: Rated
) -> None:
    outcome = evaluate("--crowd", files.crowd, "--json")
    assert outcome.returncode == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    own = {"crowd", "seen_in_training", "n_skipped_images", "skipped", "bundle", "head", "bootstrap"}
    assert set(report) == AGREEMENT | COUNTED | own
    assert set(report["crowd"]) == AGREEMENT | COUNTED
    assert (report["n_pairs"], report["n_images"], report["n_pairs_published"]) == (36, 12, 24)
    # The published protocol drops an image's own captions from the expert pairs, not from the crowd pairs.
    assert report["crowd"]["n_pairs_published"] == report["crowd"]["n_pairs"] == 36
    assert sum(b["count"] for b in report["reliability"]) == 36
    for figures in (report, report["crowd"]):
        assert figures["pearson"]["value"] > 0
        for name in AGREEMENT:
            low, high = figures[name]["ci95"]
            assert -1 <= low <= high <= 1
    assert report["bootstrap"] == {"replicates": 50, "seed": 0}
    assert json.loads(evaluate("--json").stdout)["crowd"] is None


def test_evaluate_ratings_prints_metrics_as_table(evaluate: Callable[..., Any], files: Rated) -> None:
    report = json.loads(evaluate("--crowd", files.crowd, "--json").stdout)
    lines = evaluate("--crowd", files.crowd).stdout.splitlines()
    assert "expert.tsv: 36 pairs of 12 images, 24 of them counted" in "\n".join(lines)
    for name, figure in (("spearman", report["spearman"]), ("crowd.rmse", report["crowd"]["rmse"])):
        low, high = figure["ci95"]
        assert [name, f"{figure['value']:.4f}", f"{low:.4f}", "to", f"{high:.4f}"] in [line.split() for line in lines]


def test_evaluate_ratings_aggregate_changes_target(evaluate: Callable[..., Any]) -> None:
    errors = {how: json.loads(evaluate("--aggregate", how, "--json").stdout)["mae"] for how in ("mean", "median")}
    assert errors["mean"] != errors["median"]


def test_evaluate_ratings_skips_and_reports_undecodable_images(
    evaluate: Callable[..., Any], gallery: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(gallery, images)
    (images / NAMES[0]).write_bytes(b"not a picture")
    report = json.loads(evaluate("--json", images=images).stdout)
    assert (report["n_pairs"], report["n_images"], report["n_skipped_images"]) == (33, 11, 1)
    assert report["left_out"] == {"of images that cannot be used": 3}
    assert (report["skipped"][0]["path"], report["skipped"][0]["reason"]) == (NAMES[0], "not-an-image")
    text = evaluate(images=images).stdout
    assert f"1 images cannot be used and were left out: {NAMES[0]} (not an image" in text
    for name in NAMES[1:]:
        (images / name).write_bytes(b"not a picture")
    outcome = evaluate(images=images)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "none of the 12 images can be used" in outcome.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("validation", "seen", "warning"),
    [
        ({"source": "human ratings", "rmse": 0.123}, None, "may not be held-out figures"),
        ({"source": "human ratings", "rmse": 0.123, "trained_on": "expert"}, True, "are not held-out figures"),
        ({"source": "human ratings", "rmse": 0.123, "trained_on": "crowd"}, True, "are not held-out figures"),
        ({"source": "human ratings", "trained_on": "captions"}, False, None),
        ({"source": "captions"}, False, None),
    ],
)
def test_evaluate_ratings_warns_if_head_was_trained_on_same_ratings(
    evaluate: Callable[..., Any],
    files: Rated,
    bundle: Bundle,
    tmp_path: Path,
    validation: dict[str, Any],
    seen: bool | None,
    warning: str | None,
) -> None:
    if "trained_on" in validation:
        path = getattr(files, validation["trained_on"])
        other = {"name": "other.tsv", "sha256": "0" * 64}
        validation = {**validation, "trained_on": [other, {"name": "renamed.tsv", "sha256": sha256_of(path)}]}
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    # Only a cosine head may be calibrated on captions; every other head is trained on ratings.
    head = replace(bundle.manifest.head, kind="cosine", validation=validation)
    bundle.manifest.changed(head=head).write(copy / MANIFEST)
    crowd = ("--crowd", files.crowd)
    assert json.loads(evaluate(*crowd, "--json", bundle_path=copy).stdout)["seen_in_training"] is seen
    text = evaluate(*crowd, bundle_path=copy).stdout
    if warning is None:
        assert "held-out" not in text
    else:
        note = text.splitlines()[-1]
        assert warning in note
        assert "cross-validated figures see head.validation in manifest.json (rmse 0.123)" in note


def test_evaluate_ratings_exits_1_on_missed_bound_and_2_on_unknown_metric(
    evaluate: Callable[..., Any], files: Rated, tmp_path: Path
) -> None:
    outcome = evaluate("--crowd", files.crowd, "--fail-above", "crowd.mae=0", "--fail-below", "pearson=-1")
    assert outcome.returncode == 1
    assert "crowd.kendall_tau_b" in outcome.stdout
    said = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert said[0].startswith("error: crowd.mae is 0.")
    for option, bound, hint in (
        ("--fail-above", "crowd.mae=0", "choose from rmse, mae"),
        ("--fail-below", "ece=0.1", "use --fail-above ece=0.1"),
    ):
        refused = evaluate(option, bound, images=tmp_path / "nowhere", bundle_path=tmp_path / "nowhere")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert hint in refused.stderr


HEADER = "image\tcaption_id\ts1\ts2\ts3"
GOOD = f"{NAMES[0]}\t{NAMES[0]}#0\t4\t4\t4"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (f"{HEADER}\n", "no rating"),
        (f"picture\tcaption_id\ts1\ts2\ts3\n{GOOD}\n", "'image'"),
        (f"{HEADER}\n{GOOD}\n".replace("\t", ","), "tabs"),
        (f"{HEADER}\n{GOOD}\ngone.jpg\t{NAMES[0]}#0\t1\t1\t1\n", "gone.jpg"),
        (f"{HEADER}\n{GOOD}\n{NAMES[1]}\t{NAMES[0]}#0\t1\t7\t1\n", "'7'"),
    ],
)
def test_evaluate_ratings_rejects_invalid_ratings_with_one_line_error(
    evaluate: Callable[..., Any], files: Rated, content: str, message: str
) -> None:
    files.expert.write_text(content, encoding="utf-8")
    outcome = evaluate()
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert len(outcome.stderr.splitlines()) == 1, outcome.stderr
    assert outcome.stderr.startswith("error: ")
    assert message in outcome.stderr


def test_evaluate_ratings_skip_unknown_ignores_missing_images(evaluate: Callable[..., Any], files: Rated) -> None:
    with files.expert.open("a", encoding="utf-8") as file:
        file.write(f"gone.jpg\t{NAMES[0]}#0\t1\t1\t1\n")
    assert evaluate().returncode == 1
    report = json.loads(evaluate("--skip-unknown", "--json").stdout)
    assert report["n_pairs"] == 36
    assert sum(report["left_out"].values()) == 1


@pytest.mark.flickr8k
def test_scores_agree_with_expert_ratings_on_flickr8k(
    sceneseek: CommandLine, bundle: Bundle, flickr8k: Path, tmp_path: Path
) -> None:
    lines = (flickr8k / "expert.tsv").read_text(encoding="utf-8").splitlines()
    expert = tmp_path / "expert.tsv"
    write(expert, lines[0], lines[1:401])
    outcome = sceneseek(
        "evaluate", "ratings", "--bundle", bundle.path, "--images", flickr8k / "images",
        "--captions", flickr8k / "captions.tsv", "--expert", expert, "--bootstrap", "100", "--json",
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["n_pairs"] == 400
    assert 370 < report["n_pairs_published"] < 400
    assert 0.14 < report["rmse"]["value"] < 0.2
    assert report["spearman"]["value"] > 0.6
    assert 0.4 < report["kendall_tau_c"]["value"] < report["kendall_tau_c_all"]["value"]
