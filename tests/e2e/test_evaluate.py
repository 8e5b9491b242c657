"""`sceneseek evaluate retrieval` with a bundle and a real index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from tests.command_line import CommandLine
from tests.drawing import NAMES


def captions(tmp_path: Path, rows: list[tuple[str, str]]) -> Path:
    path = tmp_path / "captions.tsv"
    path.write_text("image\tcaption\n" + "".join(f"{image}\t{text}\n" for image, text in rows))
    return path


def test_evaluate_retrieval_reports_metrics_as_text_and_json(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    path = captions(tmp_path, [(name, Path(name).stem) for name in NAMES])
    common = ("evaluate", "retrieval", "--bundle", bundle.path, "--images", gallery, "--captions", path)
    report = json.loads(sceneseek(*common, "--json").stdout)
    assert report["n_queries"] == report["n_images"] == len(NAMES)
    assert report["recall@50"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    shares = [report[f"recall@{k}"]["value"] for k in (1, 5, 10)]
    assert 0 < shares[0] <= shares[1] <= shares[2] <= 1
    low, high = report["mrr"]["ci95"]
    assert 0 < low <= report["mrr"]["value"] <= high <= 1
    assert low < high
    metrics = {"recall@1", "recall@5", "recall@10", "recall@50", "median_rank", "mrr"}
    # The shortlist contains every image, so reranking loses none.
    assert report["rescored.recall@50"] == report["recall@50"]
    other_keys = {"languages", "n_queries", "n_images", "n_missing_images", "depth", "bundle"}
    assert report["languages"] == {}
    assert set(report) == metrics | {f"rescored.{name}" for name in metrics} | other_keys
    text = sceneseek(*common)
    assert f"{len(NAMES)} captions of {len(NAMES)} images" in text.stdout
    lines = dict(line.split(maxsplit=1) for line in text.stdout.splitlines()[2:])
    for name in ("mrr", "rescored.mrr"):
        value, (low, high) = report[name]["value"], report[name]["ci95"]
        assert lines[name].split() == [f"{value:.4f}", f"{low:.4f}", "to", f"{high:.4f}"]


def test_evaluate_retrieval_exits_1_with_one_error_per_missed_bound(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    path = captions(tmp_path, [(name, Path(name).stem) for name in NAMES])
    common = ("evaluate", "retrieval", "--bundle", bundle.path, "--images", gallery, "--captions", path, "--json")
    outcome = sceneseek(
        *common, "--fail-below", "rescored.recall@5=1.5", "--fail-below", "recall@50=1", "--fail-above", "median_rank=0"
    )
    assert outcome.returncode == 1
    assert json.loads(outcome.stdout)["n_queries"] == len(NAMES)
    said = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(" (95%")[0].split(" is ")[0] for line in said] == [
        "error: rescored.recall@5",
        "error: median_rank",
    ]
    assert "below 1.5 (95% interval" in said[0]
    assert sceneseek(*common, "--fail-below", "recall@50=1", "--fail-above", "median_rank=12").returncode == 0


def test_evaluate_retrieval_reports_metrics_and_checks_bounds_per_language(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    rows = [(name, Path(name).stem, "en") for name in NAMES]
    # Simulate an unsupported language: each caption describes a different image.
    rows += [(name, Path(other).stem, "RU") for name, other in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)]
    rows += [(NAMES[0], "a picture", ""), ("gone.jpg", "a picture", "de")]
    path = tmp_path / "captions.tsv"
    path.write_text("image\tcaption\tlanguage\n" + "".join("\t".join(row) + "\n" for row in rows))
    common = ("evaluate", "retrieval", "--bundle", bundle.path, "--images", gallery, "--captions", path)
    bounds = ("--fail-below", "en.mrr=0.4", "--fail-below", "ru.mrr=0.4", "--fail-below", "de.mrr=0")
    outcome = sceneseek(*common, *bounds, "--bootstrap", "20", "--json")
    assert outcome.returncode == 1
    report = json.loads(outcome.stdout)
    languages = report["languages"]
    assert {code: metrics.get("n_queries") for code, metrics in languages.items()} == {
        "de": 0, "en": len(NAMES), "ru": len(NAMES), "mean": None,
    }  # fmt: skip
    assert report["n_queries"] == 2 * len(NAMES) + 1
    assert languages["en"]["mrr"]["value"] > report["mrr"]["value"] > languages["ru"]["mrr"]["value"]
    assert languages["de"]["mrr"] == {"value": None, "ci95": None}
    failed = [line.split(",")[0] for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert failed == [f"error: ru.mrr is {languages['ru']['mrr']['value']:.4g}", "error: de.mrr is not defined"]
    text = sceneseek(*common, "--bootstrap", "20").stdout.splitlines()
    table = {line.split()[0]: line.split() for line in text[text.index("") + 1 :]}
    assert list(table) == ["language", "de", "en", "ru", "mean"]
    assert table["language"][1:3] == ["captions", "recall@1"]
    assert table["en"][1:3] == [str(len(NAMES)), f"{languages['en']['recall@1']['value']:.4f}"]
    assert table["de"][1:3] == ["0", "-"]


def test_evaluate_retrieval_rejects_invalid_bound_before_loading_anything(
    sceneseek: CommandLine, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    path = tmp_path / "captions.tsv"
    path.write_text("image\tcaption\tlanguage\na.jpg\ta dog\ten\n")
    common = ("evaluate", "retrieval", "--bundle", nowhere, "--images", nowhere, "--captions", path)
    for option, bound, message in (
        ("--fail-below", "precision@1=0.5", "choose from recall@1, recall@5"),
        ("--fail-below", "ru.recall@1=0.5", "en.recall@1"),
        ("--fail-below", "en.median_rank=5", "use --fail-above en.median_rank=5"),
        ("--fail-below", "median_rank=5", "use --fail-above median_rank=5"),
        ("--fail-above", "rescored.mrr=0.5", "use --fail-below rescored.mrr=0.5"),
    ):
        outcome = sceneseek(*common, option, bound)
        assert (outcome.returncode, outcome.stdout) == (2, "")
        assert len(outcome.stderr.splitlines()) == 1
        assert message in outcome.stderr


def test_evaluate_retrieval_limits_images_to_split_and_counts_missing_images(
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
    ("content", "message"),
    [("image,caption\n", "separated by tabs"), ("image\tcaption\nx.jpg\ta dog\n", "none of the 1 images")],
)
def test_evaluate_retrieval_rejects_invalid_captions(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "captions.tsv"
    path.write_text(content)
    outcome = sceneseek("evaluate", "retrieval", "--bundle", bundle.path, "--images", gallery, "--captions", path)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert message in outcome.stderr.splitlines()[-1]
