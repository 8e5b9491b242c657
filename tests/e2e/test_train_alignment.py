"""`sceneseek train alignment` end to end, with real towers and the drawn images."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sceneseek_export.alignment import Alignment, image_key
from sceneseek_export.packs import Pack
from tests.command_line import CommandLine
from tests.drawing import NAMES

FILES = {"CARD.md", "alignment.json", "alignment.npz"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature cache for the module: encoding class texts is slow."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(autouse=True)
def small_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """One text per class and one run per block; the full recipe takes minutes and has the same steps."""
    from sceneseek_training import recipe  # noqa: PLC0415 - imported late, as in the command

    full_recipe = recipe.recipe_for

    def small(pack: Pack, classifiers: set[str]) -> recipe.Recipe:
        full = full_recipe(pack, classifiers)
        assert full.names is not None
        names = replace(full.names, embedding_forms=("name",), pair_forms=("name",))
        spaces = tuple(
            replace(space, blocks=tuple(replace(block, runs=min(block.runs, 1)) for block in space.blocks))
            for space in full.spaces
        )
        return replace(full, names=names, spaces=spaces)

    monkeypatch.setattr(recipe, "recipe_for", small)


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Two captions per image of the gallery."""
    path = tmp_path / "captions.tsv"
    rows = [
        f"{name}\t{name}#{i}\t{text}"
        for name in NAMES
        for i, text in enumerate((f"a drawing of a {Path(name).stem}", f"{Path(name).stem} .".capitalize()))
    ]
    path.write_text("\n".join(["image\tcaption_id\tcaption", *rows]) + "\n")
    return path


def test_train_alignment_is_reproducible_and_reuses_cached_features(
    sceneseek: CommandLine, gallery: Path, captions: Path, cache: Path, tmp_path: Path
) -> None:
    split, validate = tmp_path / "split.txt", tmp_path / "validate.txt"
    split.write_text("\n".join(NAMES[:9]))
    validate.write_text("\n".join(NAMES[9:]))
    command = ("train", "alignment", "--images", gallery, "--captions", captions, "--split", split, "--epochs", 2)
    options = ("--validate-split", validate, "--cache", cache, "--threads", 1, "--cite", "Drawn for a test.")
    first = sceneseek(*command, *options, "--out", tmp_path / "one")
    assert first.returncode == 0, first.stderr
    assert "R@1/5/10" in first.stdout
    assert "calibration  on captions, 12 pairs" in first.stdout
    assert "features of split.txt, mirrored" in first.stderr  # another test may have left some in the cache, never all

    second = sceneseek(*command, *options, "--out", tmp_path / "two", "--json")
    assert second.returncode == 0, second.stderr
    assert "features of" not in second.stderr
    assert json.loads(second.stdout)["recall"][0]["images"] == 3
    weights = [(tmp_path / out / "alignment.npz").read_bytes() for out in ("one", "two")]
    assert weights[0] == weights[1]

    assert {path.name for path in (tmp_path / "one").iterdir()} == FILES
    learned = Alignment.load(tmp_path / "one")
    assert [space.joint for space in learned.spaces] == [
        192 + 96 + 2,
        192 + 2,
        224 + 2,
    ]  # the last two dimensions correct hubness
    assert learned.spread == 2 * 4 + 1
    assert set(learned.ranges) == {"lite0", "lite2"}
    assert learned.learned_images.tolist() == sorted(image_key((gallery / name).read_bytes()) for name in NAMES[:9])
    assert learned.card["learned_from"] == {"name": "split.txt", "images": 9, "captions": 18, "left_out": {}}
    assert len((tmp_path / "one" / "alignment.npz").read_bytes()) < 8_000_000
    for file in ("CARD.md", "alignment.json"):
        text = (tmp_path / "one" / file).read_text()
        assert "Drawn for a test." in text
        assert str(tmp_path) not in text
        assert str(gallery) not in text


def test_train_alignment_calibrates_on_ratings_and_reports_undecodable_image(
    sceneseek: CommandLine, gallery: Path, captions: Path, cache: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(gallery, images)
    (images / "broken.jpg").write_bytes(b"not a picture")
    with captions.open("a") as file:
        file.write("broken.jpg\tbroken.jpg#0\ta broken picture\n")
    rated, expert = NAMES[:6], tmp_path / "expert.tsv"
    learned = [*NAMES[6:], "broken.jpg", *(f"copy {i}.png" for i in range(6))]
    for i in range(6):
        shutil.copy(images / NAMES[6 + i], images / f"copy {i}.png")
        with captions.open("a") as file:
            file.write(f"copy {i}.png\tcopy {i}.png#0\tanother {Path(NAMES[6 + i]).stem}\n")
    (tmp_path / "split.txt").write_text("\n".join(learned))
    rows = [f"{a}\t{b}#0\t" + ("4\t4\t4" if a == b else "1\t1\t2") for a in rated for b in rated]
    rows.append(f"{rated[0]}\tlost#0\t1\t1\t1")
    expert.write_text("\n".join(["image\tcaption_id\ts1\ts2\ts3", *rows]) + "\n")
    options = ("--split", tmp_path / "split.txt", "--expert", expert, "--out", tmp_path / "out", "--epochs", 20)
    outcome = sceneseek(
        *("train", "alignment", "--images", images, "--captions", captions, *options, "--cache", cache),
        *("--threads", 1, "--skip-unknown"),
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "left out ratings: 1 of unknown captions (lost#0)" in outcome.stderr
    assert "1 images cannot be decoded: broken.jpg (not-an-image)" in outcome.stderr
    assert "calibration  on human ratings, 36 pairs: rmse" in outcome.stdout
    loaded = Alignment.load(tmp_path / "out")
    assert loaded.card["learned_from"]["left_out"] == {"not decodable": 1}
    assert loaded.calibration.source == "human ratings"
    assert loaded.card["calibrated_on"]["left_out"] == {"of unknown captions": 1}
    assert "--expert expert.tsv --skip-unknown --epochs 20" in loaded.card["command"]
    assert loaded.calibration.slope > 0
    assert (np.diff(loaded.calibration.score(np.linspace(-1, 1, 9).astype("f4"))) > 0).all()
    # The exported bundle indexes and finds images.
    bundle, index = tmp_path / "bundle", f"file:{tmp_path / 'index'}"
    exported = sceneseek("export", "--alignment", tmp_path / "out", "--head", "cosine", "--out", bundle)
    assert exported.returncode == 0, exported.stderr
    assert sceneseek("index", gallery, "--bundle", bundle, "--index", index).returncode == 0
    found = sceneseek("search", "a drawing", "--bundle", bundle, "--index", index)
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 5


def test_train_alignment_fails_without_output_if_too_many_images_are_undecodable(
    sceneseek: CommandLine, captions: Path, cache: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    for name in NAMES:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(b"not a picture")
    outcome = sceneseek(
        "train", "alignment", "--images", images, "--captions", captions, "--out", tmp_path / "out", "--cache", cache
    )
    assert outcome.returncode == 1
    assert outcome.stderr.splitlines()[-1].startswith("error: captions.tsv: 10 of 10 images cannot be decoded")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--captions", "nowhere.tsv"), "no captions at"),
        (("--images", "nowhere"), "no folder of images"),
        (("--split", "nowhere.txt"), "no image names at"),
        (("--expert", "nowhere.tsv"), "no ratings at"),
        (("--out", "{captions}/.."), "contains files that do not belong to an alignment"),
        (("--pack", "huge"), "unknown pack 'huge'"),
        (("--epochs", "0"), "0 is not in the range"),
    ],
)
def test_train_alignment_rejects_invalid_options_before_extracting_features(
    sceneseek: CommandLine, gallery: Path, captions: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    options = {"--images": gallery, "--captions": captions, "--out": tmp_path / "out", "--cache": tmp_path / "cache"}
    options[change[0]] = Path(change[1].format(captions=captions.parent / "x"))
    (tmp_path / "x").mkdir()
    outcome = sceneseek("train", "alignment", *(part for pair in options.items() for part in pair))
    assert outcome.returncode in (1, 2)
    assert outcome.stdout == ""
    assert message in outcome.stderr.splitlines()[-1]
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_train_alignment_rejects_ratings_of_unknown_images_and_suggests_skip_unknown(
    sceneseek: CommandLine, gallery: Path, captions: Path, tmp_path: Path
) -> None:
    expert = tmp_path / "expert.tsv"
    expert.write_text(f"image\tcaption_id\ts1\ts2\n{NAMES[0]}\t{NAMES[1]}#0\t1\t2\nlost.png\t{NAMES[1]}#0\t4\t4\n")
    files = ("--images", gallery, "--captions", captions, "--expert", expert, "--out", tmp_path / "out")
    outcome = sceneseek("train", "alignment", *files)
    assert outcome.returncode == 1
    (said,) = outcome.stderr.splitlines()
    assert said.startswith("error: ")
    assert "1 of 2 ratings cannot be used: 1 of images not in the folder (lost.png)" in said
    assert "--skip-unknown" in said
    assert not (tmp_path / "out").exists()


def test_train_alignment_does_not_overwrite_unrelated_directory(
    sceneseek: CommandLine, gallery: Path, captions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("three years of work")
    outcome = sceneseek("train", "alignment", "--images", gallery, "--captions", captions, "--out", out)
    assert outcome.returncode == 1
    assert "contains files that do not belong to an alignment" in outcome.stderr
    assert (out / "thesis.txt").read_text() == "three years of work"
