"""Options that name what to learn from are checked together, and every kind of ratings arrives as the same material."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneseek.errors import DataError, InvalidRequest
from sceneseek_training.rating_sources import RatingSources, read_rating_material

IMAGES = ("a.jpg", "b.jpg")
COURSE = {
    "train_dataset.csv": "image,query_id,query_text\na.jpg,a.jpg#0,A dog .\nb.jpg,b.jpg#0,A cat .\n",
    "ExpertAnnotations.tsv": "a.jpg\ta.jpg#0\t4\t4\t3\na.jpg\tb.jpg#0\t1\t1\t2\n",
    "CrowdAnnotations.tsv": "b.jpg\tb.jpg#0\t1\t3\t0\nb.jpg\ta.jpg#0\t0\t0\t3\n",
    "test_queries.csv": "|query_id|query_text|image\n0|t.jpg#0|Two boys|t.jpg\n",
}


@pytest.fixture
def files(tmp_path: Path) -> RatingSources:
    """Two images with a caption each, and every kind of ratings of them."""
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
    return RatingSources(folder, captions, expert, crowd, feedback)


@pytest.fixture
def course(tmp_path: Path) -> Path:
    directory = tmp_path / "course"
    for name in (*(f"train_images/{name}" for name in IMAGES), "test_images/t.jpg"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    for name, content in COURSE.items():
        (directory / name).write_text(content, encoding="utf-8")
    return directory


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (("images",), "nothing to learn from.*--images with --expert or --feedback, or --course"),
        (("expert", "feedback"), "nothing to learn from"),
        (("images", "captions", "expert", "crowd", "feedback"), "nothing to learn from"),
        (("captions",), "ratings refer to captions.*--captions"),
        (("captions", "expert"), "ratings refer to captions.*--captions"),
        (("captions", "crowd"), "ratings refer to captions.*--captions"),
    ],
)
def test_options_that_are_missing_are_named(left_out: tuple[str, ...], said: str) -> None:
    # Nothing is read before: the files that are named need not be there.
    named: dict[str, Any] = dict.fromkeys(("images", "captions", "expert", "crowd", "feedback"), Path("nowhere"))
    with pytest.raises(InvalidRequest, match=said):
        read_rating_material(RatingSources(**{**named, **dict.fromkeys(left_out)}))


@pytest.mark.parametrize("other", ["images", "captions", "expert", "crowd", "feedback"])
def test_a_course_stands_alone(files: RatingSources, course: Path, other: str) -> None:
    given: dict[str, Any] = {other: getattr(files, other)}
    with pytest.raises(InvalidRequest, match="--course names images, captions and ratings itself"):
        read_rating_material(replace(RatingSources(course=course), **given))


def test_a_course_gives_its_ratings_and_its_votes(course: Path) -> None:
    material = read_rating_material(RatingSources(course=course), "Theirs.")
    assert material.expert.names == ("train_images/a.jpg",)
    assert material.votes is not None
    assert material.votes.names == ("train_images/b.jpg",)
    assert material.captions.by_image["train_images/b.jpg"] == ("A cat .",)
    assert material.files == (course / "ExpertAnnotations.tsv", course / "CrowdAnnotations.tsv")
    assert material.cite == "Theirs."


@pytest.mark.parametrize(
    ("name", "row"),
    [("ExpertAnnotations.tsv", "t.jpg\ta.jpg#0\t1\t1\t1\n"), ("CrowdAnnotations.tsv", "t.jpg\ta.jpg#0\t0\t0\t3\n")],
)
def test_a_courses_test_images_are_not_learned_from(course: Path, name: str, row: str) -> None:
    with (course / name).open("a", encoding="utf-8") as file:
        file.write(row)
    with pytest.raises(DataError, match=rf"{name} rates 1 images of the test, test_images/t\.jpg among them"):
        read_rating_material(RatingSources(course=course))


def test_feedback_alone_needs_no_captions(files: RatingSources) -> None:
    material = read_rating_material(RatingSources(images=files.images, feedback=files.feedback))
    assert material.expert.captions == ("A dog .", "A bird")
    np.testing.assert_allclose(material.expert.target, [0, 2 / 3], atol=1e-6)
    assert material.votes is None
    assert material.captions.by_image == {}
    assert material.files == (files.feedback,)


def test_feedback_beside_experts_is_pooled_and_votes_stay_apart(files: RatingSources) -> None:
    material = read_rating_material(files)
    assert material.expert.label == "expert.tsv + feedback.jsonl"
    pairs = {
        (material.expert.names[i], material.expert.captions[c]): round(float(target), 4)
        for i, c, target in zip(material.expert.image, material.expert.caption, material.expert.target, strict=True)
    }
    # The dog was rated 4, 4 by experts and 1 by a user.
    assert pairs == {("a.jpg", "A dog ."): 0.6667, ("a.jpg", "A cat ."): 0.1667, ("b.jpg", "A bird"): 0.6667}
    assert material.votes is not None
    assert material.votes.target.tolist() == [1, 0]
    assert material.files == (files.expert, files.feedback, files.crowd)


def test_the_aggregate_is_asked_of_single_and_of_pooled_ratings(files: RatingSources) -> None:
    for sources, expected in ((replace(files, feedback=None), 1.0), (files, 1.0)):
        median = read_rating_material(replace(sources, aggregate="median"))
        assert median.expert.target[0] == expected
        assert median.aggregate == "median"


def test_unknown_images_fail_or_are_left_out_of_every_file(files: RatingSources) -> None:
    assert files.images is not None
    assert files.feedback is not None
    (files.images / "b.jpg").unlink()
    with files.feedback.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"query": "A bird", "image": "a.jpg", "rating": 2}) + "\n")
    unrated = replace(files, crowd=None)
    with pytest.raises(DataError, match=r"not in the folder \(b\.jpg\)"):
        read_rating_material(unrated)
    material = read_rating_material(replace(unrated, skip_unknown=True))
    assert material.expert.names == ("a.jpg",)
    assert material.expert.left_out == {"of images not in the folder": 1}
