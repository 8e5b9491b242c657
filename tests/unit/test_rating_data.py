"""The options for ratings are validated together, and every kind of ratings is read into the same structure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneseek.captions import Caption
from sceneseek.errors import DataError, InvalidRequest
from sceneseek_evaluation.rating_files import read_crowd, read_expert
from sceneseek_training.rating_data import RatingFiles, read_dataset, read_rating_data

IMAGES = ("a.jpg", "b.jpg")
SMALL_DATASET = {
    "train_dataset.csv": "image,query_id,query_text\na.jpg,a.jpg#0,A dog .\nb.jpg,b.jpg#0,A cat .\n",
    "ExpertAnnotations.tsv": "a.jpg\ta.jpg#0\t4\t4\t3\na.jpg\tb.jpg#0\t1\t1\t2\n",
    "CrowdAnnotations.tsv": "b.jpg\tb.jpg#0\t1\t3\t0\nb.jpg\ta.jpg#0\t0\t0\t3\n",
    "test_queries.csv": "|query_id|query_text|image\n0|t.jpg#0|Two boys|t.jpg\n",
}


@pytest.fixture
def files(tmp_path: Path) -> RatingFiles:
    """Two images with a caption each, and every kind of ratings for them."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in IMAGES:
        (folder / name).touch()
    contents = {
        "captions.tsv": "image\tcaption_id\tcaption\na.jpg\ta.jpg#0\tA dog .\nb.jpg\tb.jpg#0\tA cat .\n",
        "expert.tsv": "image\tcaption_id\ts1\ts2\na.jpg\ta.jpg#0\t4\t4\na.jpg\tb.jpg#0\t1\t2\n",
        "crowd.tsv": "image\tcaption_id\tfrac\tyes\tno\nb.jpg\tb.jpg#0\t1\t3\t0\nb.jpg\ta.jpg#0\t0\t0\t3\n",
        "feedback.jsonl": "".join(
            json.dumps({"query": query, "image": image, "rating": rating}) + "\n"
            for query, image, rating in (("A dog .", "a.jpg", 1), ("A bird", "b.jpg", 3))
        ),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    captions, expert, crowd, feedback = (tmp_path / name for name in contents)
    return RatingFiles(folder, captions, expert, crowd, feedback)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    directory = tmp_path / "dataset"
    for name in (*(f"train_images/{name}" for name in IMAGES), "test_images/t.jpg"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    for name, content in SMALL_DATASET.items():
        (directory / name).write_text(content, encoding="utf-8")
    return directory


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (("images",), "nothing to train on.*--images with --expert or --feedback, or --dataset"),
        (("expert", "feedback"), "nothing to train on"),
        (("images", "captions", "expert", "crowd", "feedback"), "nothing to train on"),
        (("captions",), "ratings refer to captions.*--captions"),
        (("captions", "expert"), "ratings refer to captions.*--captions"),
        (("captions", "crowd"), "ratings refer to captions.*--captions"),
    ],
)
def test_missing_options_are_named(missing: tuple[str, ...], message: str) -> None:
    # Options are validated before any file is read, so the files need not exist.
    named: dict[str, Any] = dict.fromkeys(("images", "captions", "expert", "crowd", "feedback"), Path("nowhere"))
    with pytest.raises(InvalidRequest, match=message):
        read_rating_data(RatingFiles(**{**named, **dict.fromkeys(missing)}))


@pytest.mark.parametrize("other", ["images", "captions", "expert", "crowd", "feedback"])
def test_dataset_excludes_other_options(files: RatingFiles, dataset: Path, other: str) -> None:
    options: dict[str, Any] = {other: getattr(files, other)}
    with pytest.raises(InvalidRequest, match="--dataset already contains images, captions and ratings"):
        read_rating_data(replace(RatingFiles(dataset=dataset), **options))


def test_dataset_supplies_ratings_and_crowd_labels(dataset: Path) -> None:
    data = read_rating_data(RatingFiles(dataset=dataset), "Theirs.")
    assert data.expert.names == ("train_images/a.jpg",)
    assert data.crowd is not None
    assert data.crowd.names == ("train_images/b.jpg",)
    assert data.captions.by_image["train_images/b.jpg"] == ("A cat .",)
    assert data.files == (dataset / "ExpertAnnotations.tsv", dataset / "CrowdAnnotations.tsv")
    assert data.cite == "Theirs."


@pytest.mark.parametrize(
    ("name", "row"),
    [("ExpertAnnotations.tsv", "t.jpg\ta.jpg#0\t1\t1\t1\n"), ("CrowdAnnotations.tsv", "t.jpg\ta.jpg#0\t0\t0\t3\n")],
)
def test_ratings_of_test_images_are_rejected(dataset: Path, name: str, row: str) -> None:
    with (dataset / name).open("a", encoding="utf-8") as file:
        file.write(row)
    with pytest.raises(DataError, match=rf"{name} rates 1 test images, such as test_images/t\.jpg"):
        read_rating_data(RatingFiles(dataset=dataset))


def test_feedback_alone_needs_no_captions(files: RatingFiles) -> None:
    data = read_rating_data(RatingFiles(images=files.images, feedback=files.feedback))
    assert data.expert.captions == ("A dog .", "A bird")
    np.testing.assert_allclose(data.expert.target, [0, 2 / 3], atol=1e-6)
    assert data.crowd is None
    assert data.captions.by_image == {}
    assert data.files == (files.feedback,)


def test_feedback_is_pooled_with_expert_ratings_but_not_with_crowd_labels(files: RatingFiles) -> None:
    data = read_rating_data(files)
    assert data.expert.label == "expert.tsv + feedback.jsonl"
    pairs = {
        (data.expert.names[i], data.expert.captions[c]): round(float(target), 4)
        for i, c, target in zip(data.expert.image, data.expert.caption, data.expert.target, strict=True)
    }
    # The dog was rated 4, 4 by experts and 1 by a user.
    assert pairs == {("a.jpg", "A dog ."): 0.6667, ("a.jpg", "A cat ."): 0.1667, ("b.jpg", "A bird"): 0.6667}
    assert data.crowd is not None
    assert data.crowd.target.tolist() == [1, 0]
    assert data.files == (files.expert, files.feedback, files.crowd)


def test_aggregate_applies_to_single_and_pooled_ratings(files: RatingFiles) -> None:
    for sources, expected in ((replace(files, feedback=None), 1.0), (files, 1.0)):
        median = read_rating_data(replace(sources, aggregate="median"))
        assert median.expert.target[0] == expected
        assert median.aggregate == "median"


def test_unknown_images_raise_or_are_skipped_in_every_file(files: RatingFiles) -> None:
    assert files.images is not None
    assert files.feedback is not None
    (files.images / "b.jpg").unlink()
    with files.feedback.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"query": "A bird", "image": "a.jpg", "rating": 2}) + "\n")
    unrated = replace(files, crowd=None)
    with pytest.raises(DataError, match=r"not in the folder \(b\.jpg\)"):
        read_rating_data(unrated)
    data = read_rating_data(replace(unrated, skip_unknown=True))
    assert data.expert.names == ("a.jpg",)
    assert data.expert.left_out == {"of images not in the folder": 1}


DATASET = {
    "train_dataset.csv": "image,query_id,query_text\n"
    'b.jpg,a.jpg#2,"A dog, ""Rex"" , runs ."\n'
    'a.jpg,a.jpg#2,"A dog, ""Rex"" , runs ."\n'
    "a.jpg,b.jpg#2,A cat .\n",
    "ExpertAnnotations.tsv": "a.jpg\ta.jpg#2\t4\t4\t3\nb.jpg\ta.jpg#2\t1\t1\t1\nt.jpg\tb.jpg#2\t2\t2\t1\n",
    "CrowdAnnotations.tsv": "a.jpg\tb.jpg#2\t0.333333333333333\t1\t2\nboth.jpg\tb.jpg#2\t1\t3\t0\n",
    "test_queries.csv": "|query_id|query_text|image\n"
    "0|t.jpg#0|Two boys, running .|t.jpg\n"
    '1|gone.jpg#1|"Either | or ."|gone.jpg\n',
}
DATASET_IMAGES = ("train_images/a.jpg", "train_images/b.jpg", "train_images/both.jpg", "test_images/both.jpg")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A complete dataset; `both.jpg` is in both folders, and no query names `u.jpg`."""
    for name, content in DATASET.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    for name in (*DATASET_IMAGES, "test_images/t.jpg", "test_images/u.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_query_belongs_to_the_image_of_its_id_not_of_its_row(directory: Path) -> None:
    captions = read_dataset(directory).captions
    dog, cat = 'A dog, "Rex" , runs .', "A cat ."
    assert captions.by_id == {
        "a.jpg#2": Caption("train_images/a.jpg", dog, "a.jpg#2"),
        "b.jpg#2": Caption("train_images/b.jpg", cat, "b.jpg#2"),
    }
    assert captions.by_image == {"train_images/a.jpg": (dog,), "train_images/b.jpg": (cat,)}


def test_image_names_of_a_dataset_include_the_folder(directory: Path) -> None:
    dataset = read_dataset(directory)
    experts = read_expert(dataset.expert, dataset.images, dataset.captions)
    assert experts.names == ("train_images/a.jpg", "train_images/b.jpg", "test_images/t.jpg")
    assert experts.paths == tuple(directory / name for name in experts.names)
    assert experts.own.tolist() == [True, False, False]
    crowd = read_crowd(dataset.crowd, dataset.images, dataset.captions)
    assert crowd.names == ("train_images/a.jpg", "train_images/both.jpg")
    assert crowd.weight.tolist() == [3, 3]


def test_test_images_are_recognised_in_either_folder(directory: Path) -> None:
    assert read_dataset(directory).test_images == {
        "test_images/t.jpg",
        "test_images/u.jpg",
        "train_images/both.jpg",
    }
    (directory / "train_images" / "t.jpg").touch()
    assert "train_images/t.jpg" in read_dataset(directory).test_images
    (directory / "test_queries.csv").write_text("|query_id|query_text|image\n0|a.jpg#0|A dog .|a.jpg\n")
    assert "train_images/a.jpg" in read_dataset(directory).test_images


def test_query_id_without_a_number_belongs_to_the_image_of_its_row(directory: Path) -> None:
    (directory / "train_dataset.csv").write_text("image,query_id,query_text\na.jpg,q1,A dog .\nb.jpg,q2,A cat .\n")
    by_id = read_dataset(directory).captions.by_id
    assert (by_id["q1"].image, by_id["q2"].image) == ("train_images/a.jpg", "train_images/b.jpg")


def test_all_missing_files_are_named_together(directory: Path) -> None:
    (directory / "CrowdAnnotations.tsv").unlink()
    for path in (directory / "test_images").iterdir():
        path.unlink()
    (directory / "test_images").rmdir()
    with pytest.raises(DataError, match=r"lacks CrowdAnnotations\.tsv, test_images/: .*train_dataset\.csv"):
        read_dataset(directory)
    with pytest.raises(DataError, match=r"nowhere lacks train_dataset\.csv"):
        read_dataset(directory / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_dataset.csv", "", "is empty"),
        ("train_dataset.csv", "image,query_id,query_text\n", "no queries"),
        ("train_dataset.csv", "image,query_text\na.jpg,A dog .\n", "no column 'query_id'"),
        ("train_dataset.csv", "image;query_id;query_text\n", "not separated by commas"),
        ("train_dataset.csv", "image,query_id,query_text\na.jpg,a.jpg#2,A dog, running\n", "line 2 .* has 4 fields"),
        ("train_dataset.csv", "image,query_id,query_text\na.jpg,a.jpg#2,\n", "line 2 .* no query"),
        ("train_dataset.csv", 'image,query_id,query_text\na.jpg,a.jpg#2,"A dog" .\n', "line 2 .* is not CSV"),
        ("train_dataset.csv", 'image,query_id,query_text\na.jpg,a.jpg#2,"A dog .\n', "is not CSV"),
        ("train_dataset.csv", "image,query_id,query_text\na.jpg,a.jpg#2,A dog\nb.jpg,a.jpg#2,A cat\n", "line 3 .*#2'"),
        ("train_dataset.csv", "image,query_id,query_text\na.jpg,q,A dog\nb.jpg,q,A dog\n", "line 3 .* another"),
        ("train_dataset.csv", b"image,query_id,query_text\na.jpg,a.jpg#2,\xff\n", "not UTF-8"),
        (
            "test_queries.csv",
            ",query_id,query_text,image\n0,t.jpg#0,Two boys,t.jpg\n",
            "not separated by vertical bars",
        ),
        ("test_queries.csv", "|query_id|query_text|image\n0|t.jpg#0|Two boys\n", "line 2 .* has 3 fields"),
    ],
)
def test_invalid_file_is_rejected_with_its_path(directory: Path, name: str, content: str | bytes, message: str) -> None:
    (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as error:
        read_dataset(directory)
    assert str(directory / name) in str(error.value)
