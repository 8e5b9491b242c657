"""`sceneseek train heads` end to end: real towers, drawn images, and a bundle with the trained head."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from sceneseek.files import sha256_of
from sceneseek_export.heads import CosineHead, MlpHead, load_head
from tests.command_line import CommandLine
from tests.drawing import NAMES

HEADS = ("cosine", "mlp", "constant")
HEAD_FILES = {"CARD.md", "head.json", "head.npz"}
EXPERT = "image\tcaption_id\ts1\ts2\ts3"
# Offsets from an image to its rated captions; the last one applies to every other image.
STEPS = (0, 1, 3, 5)
PAIRS = 3 * len(NAMES) + len(NAMES) // 2


class Files:
    """One caption per drawn image, and 42 pairs with three expert ratings and crowd labels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.captions, self.expert, self.crowd = (folder / f"{name}.tsv" for name in ("captions", "expert", "crowd"))
        write(self.captions, "image\tcaption_id\tcaption", [f"{n}\t{n}#0\ta {Path(n).stem}" for n in NAMES])
        rows, labels = [], []
        for image, name in enumerate(NAMES):
            for step in STEPS if image % 2 else STEPS[:-1]:
                caption = NAMES[(image + step) % len(NAMES)]
                scores = (4, 4, 3) if step == 0 else (2 if Path(caption).parent == Path(name).parent else 1, 1, 1)
                rows.append(f"{name}\t{caption}#0\t" + "\t".join(map(str, scores)))
                labels.append(f"{name}\t{caption}#0\t" + ("1\t3\t0" if step == 0 else "0\t0\t3"))
        write(self.expert, EXPERT, rows)
        write(self.crowd, "image\tcaption_id\tfrac\tyes\tno", labels)

    def rows(self) -> list[str]:
        """Data rows of the expert ratings."""
        return self.expert.read_text(encoding="utf-8").splitlines()[1:]


def write(path: Path, header: str, rows: list[str]) -> None:
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature cache for the module."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train `mlp` with one network and few steps; no test here depends on its quality."""
    from sceneseek_training.regressors import neural  # noqa: PLC0415 - imports torch

    monkeypatch.setattr(neural, "CORRECTION", neural.CorrectionOptions(networks=1, steps=20))


Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def train(sceneseek: CommandLine, gallery: Path, files: Files, cache: Path) -> Train:
    """Train three heads quickly into `heads`, with the report in `report`; extra options override the defaults."""

    def run(*options: str | Path, heads: tuple[str, ...] = HEADS) -> subprocess.CompletedProcess[str]:
        return sceneseek(
            "train", "heads", "--images", gallery, "--captions", files.captions, "--expert", files.expert,
            "--out", files.folder / "heads", "--report", files.folder / "report", "--cache", cache,
            *(word for name in heads for word in ("--head", name)),
            "--folds", "2", "--no-curves", "--bootstrap", "20", "--threads", "1", *options,
        )  # fmt: skip

    return run


def test_train_heads_writes_cards_report_and_default_head(train: Train, files: Files, gallery: Path) -> None:
    outcome = train("--crowd", files.crowd, "--cite", "Drawn for a test.")
    assert outcome.returncode == 0, outcome.stderr
    out, report = files.folder / "heads", files.folder / "report"
    assert {path.name for path in out.iterdir()} == {"heads.json", *HEADS}
    for name in HEADS:
        assert {path.name for path in (out / name).iterdir()} == HEAD_FILES
    summary = json.loads((out / "heads.json").read_text())
    assert summary["heads"] == list(HEADS)
    assert summary["default"] in ("cosine", "mlp")
    assert isinstance(load_head(out / "cosine"), CosineHead)
    assert isinstance(load_head(out / "mlp"), MlpHead)
    assert {path.name for path in report.iterdir()} == {"report.html", "report.md"}

    lines = outcome.stdout.splitlines()
    assert lines[0] == f"cross-validated by image and caption, {PAIRS} pairs"
    assert [line.split()[0] for line in lines[1:4]] == list(HEADS)
    assert all(line.split()[1::2] == ["rmse", "mae", "spearman", "kendall_tau_c", "ece"] for line in lines[1:4])
    assert lines[4].startswith(f"default      {summary['default']}: RMSE: ")

    command = "sceneseek train heads --images gallery"
    for name in HEADS:
        card = (out / name / "CARD.md").read_text()
        assert f"# Head `{name}` of the pack `compact`" in card
        assert "Drawn for a test." in card
        assert f"{PAIRS} rated pairs and {PAIRS} pairs with crowd labels, of 12 images together: expert.tsv" in card
        assert ("It is the default by" in card) == (name == summary["default"])
        assert f"--head {name}" in card
        assert command in card.replace(gallery.name, "gallery")
        validation = load_head(out / name).validation
        assert [file["sha256"] for file in validation["trained_on"]] == [
            sha256_of(files.expert),
            sha256_of(files.crowd),
        ]
        assert validation["folds"] == 2
        assert validation["cross-validated, grouped by"]["image and caption"]["n_pairs"] == PAIRS
    for path in [*out.glob("*/CARD.md"), *out.glob("*/head.json"), out / "heads.json", report / "report.md"]:
        text = path.read_text()
        for place in (files.folder, gallery, Path.home(), Path(__file__).parents[2]):
            assert f"{place}/" not in text, path


def test_train_heads_is_reproducible_and_replaces_previous_heads(train: Train, files: Files) -> None:
    out = files.folder / "heads"
    first = train("--json")
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert (report["heads"], report["report"]) == (str(out), str(files.folder / "report"))
    assert set(report["cross_validated"]) == set(HEADS)
    assert report["cross_validated"]["mlp"]["n_pairs"] == PAIRS
    weights = (out / "mlp" / "head.npz").read_bytes()

    second = train("--json")
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout) == report
    assert (out / "mlp" / "head.npz").read_bytes() == weights

    fewer = train(heads=("constant",))
    assert fewer.returncode == 0, fewer.stderr
    assert {path.name for path in out.iterdir()} == {"heads.json", "constant"}
    assert "default      constant: " in fewer.stdout
    assert {path.name for path in files.folder.iterdir()} == {
        "captions.tsv", "crowd.tsv", "expert.tsv", "heads", "report",
    }  # fmt: skip


def test_bundle_records_training_data_of_head_and_evaluation_detects_overlap(
    train: Train, sceneseek: CommandLine, files: Files, gallery: Path
) -> None:
    assert train("--crowd", files.crowd, heads=("mlp",)).returncode == 0
    bundle = files.folder / "bundle"
    exported = sceneseek("export", "--out", bundle, "--head", files.folder / "heads")
    assert exported.returncode == 0, exported.stderr
    assert "head         mlp, " in exported.stdout
    validation = Bundle.load(bundle).manifest.head.validation
    assert validation["recipe"] == "mlp"
    assert validation["trained_on"] == [{"name": p.name, "sha256": sha256_of(p)} for p in (files.expert, files.crowd)]

    def seen_in_training(expert: Path) -> object:
        evaluated = sceneseek(
            "evaluate", "ratings", "--bundle", bundle, "--images", gallery, "--captions", files.captions,
            "--expert", expert, "--bootstrap", "20", "--json",
        )  # fmt: skip
        assert evaluated.returncode == 0, evaluated.stderr
        return json.loads(evaluated.stdout)["seen_in_training"]

    other = files.folder / "other.tsv"
    write(other, EXPERT, files.rows()[:9])
    assert seen_in_training(files.expert) is True
    assert seen_in_training(other) is False
    told = sceneseek(
        "evaluate", "ratings", "--bundle", bundle, "--images", gallery, "--captions", files.captions,
        "--expert", files.expert, "--bootstrap", "20",
    ).stdout.splitlines()[-1]  # fmt: skip
    strict = validation["cross-validated, grouped by"]["image and caption"]
    assert f"(rmse {strict['rmse']['value']:.3f}, mae" in told


def test_train_heads_curves_adds_learning_curve_to_report(train: Train, files: Files) -> None:
    outcome = train("--curves", heads=("cosine",))
    assert outcome.returncode == 0, outcome.stderr
    assert "earning curve" in (files.folder / "report" / "report.md").read_text()


def test_train_heads_reads_all_inputs_from_dataset_directory(
    sceneseek: CommandLine, gallery: Path, files: Files, cache: Path
) -> None:
    dataset = files.folder / "dataset"
    (dataset / "test_images").mkdir(parents=True)
    for name in NAMES:
        path = dataset / "train_images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((gallery / name).read_bytes())
    queries = [f"{name},{name}#0,a {Path(name).stem}" for name in NAMES]
    write(dataset / "train_dataset.csv", "image,query_id,query_text", queries)
    for source, target in ((files.expert, "ExpertAnnotations.tsv"), (files.crowd, "CrowdAnnotations.tsv")):
        (dataset / target).write_text("".join(source.read_text().splitlines(keepends=True)[1:]))
    write(dataset / "test_queries.csv", "|query_id|query_text|image", ["0|t.jpg#0|Two boys|t.jpg"])
    outcome = sceneseek(
        "train", "heads", "--dataset", dataset, "--out", files.folder / "heads", "--report", files.folder / "report",
        "--head", "cosine", "--folds", "2", "--no-curves", "--bootstrap", "0", "--threads", "1", "--cache", cache,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert f"{PAIRS} pairs" in outcome.stdout
    assert "--dataset dataset" in (files.folder / "heads" / "cosine" / "CARD.md").read_text()


def test_train_heads_does_not_overwrite_unrelated_directory(train: Train, files: Files) -> None:
    out = files.folder / "heads"
    out.mkdir()
    (out / "thesis.txt").write_text("three years of work")
    outcome = train()
    assert outcome.returncode == 1
    (said,) = outcome.stderr.splitlines()
    assert "contains files that do not belong to trained heads" in said
    assert (out / "thesis.txt").read_text() == "three years of work"
    assert not (files.folder / "report").exists()


# Progress lines on standard error, printed while features are extracted that no earlier test cached.
PROGRESS = ("features of", "  ")
GOOD, BAD = f"{NAMES[0]}\t{NAMES[0]}#0\t4\t4\t4", f"{NAMES[1]}\t{NAMES[0]}#0\t1\t1\t1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (f"{EXPERT}\n", "no rating"),
        (f"image\tcaption\ts1\ts2\n{GOOD[:-2]}\n", "no column 'caption_id'"),
        (f"image\tcaption_id\ts1\n{GOOD[:-4]}\n", "only one rating column, s1"),
        (f"{EXPERT}\n{GOOD}\n{BAD}\n".replace("\t", ","), "not separated by tabs"),
        (f"{EXPERT}\n{GOOD}\n{BAD}\ngone.jpg\t{NAMES[0]}#0\t1\t1\t1\n", "1 of images not in the folder (gone.jpg)"),
        (f"{EXPERT}\n{GOOD}\n{BAD}\n{NAMES[0]}\tlost#0\t1\t1\t1\n", "1 of unknown captions (lost#0)"),
        (f"{EXPERT}\n{GOOD}\n{NAMES[1]}\t{NAMES[0]}#0\t1\t7\t1\n", "line 3 of {expert} has the rating '7' in s2"),
        (f"{EXPERT}\n{GOOD}\n{NAMES[1]}\t{NAMES[0]}#0\t4\t4\t4\n", "all ratings in {expert} are equal"),
        (f"{EXPERT}\n{GOOD}\n../{NAMES[1]}\t{NAMES[0]}#0\t1\t1\t1\n", f"names the image '../{NAMES[1]}'"),
    ],
)
def test_train_heads_rejects_invalid_ratings(train: Train, files: Files, content: str, message: str) -> None:
    files.expert.write_text(content, encoding="utf-8")
    refused(train(), files, message.format(expert=files.expert), 1)


def test_train_heads_rejects_fewer_images_or_captions_than_folds(train: Train, files: Files) -> None:
    refused(train("--folds", "13"), files, "the ratings are of 12 images, fewer than the 13 folds", 1)
    write(files.expert, EXPERT, [f"{name}\t{NAMES[0]}#0\t{1 + i % 4}\t1\t1" for i, name in enumerate(NAMES)])
    refused(train(), files, "the ratings are of 1 captions, fewer than the 2 folds", 1)


def test_train_heads_rejects_fold_with_equal_ratings(train: Train, files: Files) -> None:
    rows = [f"{a}\t{b}#0\t" + ("4\t4\t4" if a == b == NAMES[0] else "1\t1\t1") for a in NAMES[:4] for b in NAMES[:4]]
    write(files.expert, EXPERT, rows)
    refused(train(), files, "with 2 folds a fold would train on 8 ratings, but needs two different ones", 1)


def test_train_heads_rejects_undecodable_images(train: Train, files: Files) -> None:
    images = files.folder / "images"
    for name in NAMES:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(b"not a picture")
    outcome = train("--images", images)
    assert outcome.returncode == 1
    assert outcome.stderr.splitlines()[-1].startswith("error: ")
    assert "images cannot be decoded" in outcome.stderr.splitlines()[-1]
    assert "Traceback" not in outcome.stderr
    assert not (files.folder / "heads").exists()
    assert not (files.folder / "report").exists()


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (("--head", "best"), "unknown head 'best': choose from constant, cosine", 2),
        (("--folds", "1"), "1 is not in the range", 2),
        (("--dataset", "nowhere"), "--dataset already contains images, captions and ratings", 2),
        (("--expert", "nowhere.tsv"), "no ratings at nowhere.tsv", 1),
        (("--feedback", "nowhere.jsonl"), "no ratings at nowhere.jsonl", 1),
        (("--bundle", "nowhere"), "nowhere", 1),
        (("--alignment", "nowhere"), "no alignment in nowhere", 1),
    ],
)
def test_train_heads_rejects_invalid_options_before_extracting_features(
    train: Train, files: Files, options: tuple[str, ...], message: str, code: int
) -> None:
    outcome = train(*options, "--cache", files.folder / "features")
    assert outcome.returncode == code
    assert outcome.stdout == ""
    assert message in outcome.stderr.splitlines()[-1]
    assert "Traceback" not in outcome.stderr
    assert {path.name for path in files.folder.iterdir()} == {"captions.tsv", "crowd.tsv", "expert.tsv"}


def test_train_heads_rejects_ratings_that_decrease_with_similarity(train: Train, files: Files) -> None:
    inverted = [
        "\t".join([*row.split("\t")[:2], *(str(5 - int(s)) for s in row.split("\t")[2:])]) for row in files.rows()
    ]
    write(files.expert, EXPERT, inverted)
    refused(train(heads=("cosine",)), files, "pairs that are more alike match worse", 1)


def test_train_heads_rejects_unwritable_report_path_before_training(train: Train, files: Files) -> None:
    file = files.folder / "a-file"
    file.write_text("in the way")
    outcome = train("--report", file / "report")
    assert outcome.returncode == 1
    assert "cannot be a folder for the report" in outcome.stderr.splitlines()[-1]
    assert not (files.folder / "heads").exists()


def test_train_heads_without_training_data_is_usage_error(
    sceneseek: CommandLine, gallery: Path, tmp_path: Path
) -> None:
    for options in ((), ("--images", gallery), ("--images", gallery, "--crowd", "crowd.tsv")):
        outcome = sceneseek("train", "heads", "--out", tmp_path / "heads", "--report", tmp_path / "report", *options)
        assert outcome.returncode == 2
        (said,) = outcome.stderr.splitlines()
        assert said.startswith(
            "error: there is nothing to train on: give --images with --expert or --feedback, or --dataset"
        )
        assert not any(tmp_path.iterdir())


def refused(outcome: subprocess.CompletedProcess[str], files: Files, message: str, code: int) -> None:
    """Assert one error line on stderr, no stdout, and no heads or report on disk."""
    assert outcome.returncode == code, outcome.stderr
    assert outcome.stdout == ""
    (line,) = (line for line in outcome.stderr.splitlines() if not line.startswith(PROGRESS))
    assert line.startswith("error: ")
    assert message in line
    assert {path.name for path in files.folder.iterdir()} == {"captions.tsv", "crowd.tsv", "expert.tsv"}
