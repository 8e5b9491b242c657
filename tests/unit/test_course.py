"""A course's directory is read as it is handed out, and its test images are known as such."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.captions import Caption
from sceneseek.errors import DataError
from sceneseek_evaluation.ratings import read_crowd, read_expert
from sceneseek_training.course import read_course

FILES = {
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
IMAGES = ("train_images/a.jpg", "train_images/b.jpg", "train_images/both.jpg", "test_images/both.jpg")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A whole course; `both.jpg` lies in both folders, `u.jpg` is named by no query."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    for name in (*IMAGES, "test_images/t.jpg", "test_images/u.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_queries_belong_to_the_image_they_were_written_for_not_to_the_one_beside_them(directory: Path) -> None:
    captions = read_course(directory).captions
    dog, cat = 'A dog, "Rex" , runs .', "A cat ."
    assert captions.by_id == {
        "a.jpg#2": Caption("train_images/a.jpg", dog, "a.jpg#2"),
        "b.jpg#2": Caption("train_images/b.jpg", cat, "b.jpg#2"),
    }
    assert captions.by_image == {"train_images/a.jpg": (dog,), "train_images/b.jpg": (cat,)}


def test_ratings_of_a_course_are_read_with_its_folders_in_the_names(directory: Path) -> None:
    course = read_course(directory)
    experts = read_expert(course.expert, course.images, course.captions)
    assert experts.names == ("train_images/a.jpg", "train_images/b.jpg", "test_images/t.jpg")
    assert experts.paths == tuple(directory / name for name in experts.names)
    assert experts.own.tolist() == [True, False, False]
    votes = read_crowd(course.crowd, course.images, course.captions)
    assert votes.names == ("train_images/a.jpg", "train_images/both.jpg")
    assert votes.weight.tolist() == [3, 3]


def test_images_of_the_test_are_known_wherever_they_are_found(directory: Path) -> None:
    assert read_course(directory).test_images == {
        "test_images/t.jpg",
        "test_images/u.jpg",
        "train_images/both.jpg",
    }
    (directory / "train_images" / "t.jpg").touch()
    assert "train_images/t.jpg" in read_course(directory).test_images
    (directory / "test_queries.csv").write_text("|query_id|query_text|image\n0|a.jpg#0|A dog .|a.jpg\n")
    assert "train_images/a.jpg" in read_course(directory).test_images


def test_a_query_id_without_a_number_belongs_to_the_image_beside_it(directory: Path) -> None:
    (directory / "train_dataset.csv").write_text("image,query_id,query_text\na.jpg,q1,A dog .\nb.jpg,q2,A cat .\n")
    by_id = read_course(directory).captions.by_id
    assert (by_id["q1"].image, by_id["q2"].image) == ("train_images/a.jpg", "train_images/b.jpg")


def test_all_that_is_missing_is_said_in_one_line(directory: Path) -> None:
    (directory / "CrowdAnnotations.tsv").unlink()
    for path in (directory / "test_images").iterdir():
        path.unlink()
    (directory / "test_images").rmdir()
    with pytest.raises(DataError, match=r"lacks CrowdAnnotations\.tsv, test_images/: .*train_dataset\.csv"):
        read_course(directory)
    with pytest.raises(DataError, match=r"nowhere lacks train_dataset\.csv"):
        read_course(directory / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train_dataset.csv", "", "is empty"),
        ("train_dataset.csv", "image,query_id,query_text\n", "no queries"),
        ("train_dataset.csv", "image,query_text\na.jpg,A dog .\n", "no column 'query_id'"),
        ("train_dataset.csv", "image;query_id;query_text\n", "no column 'image' .* separated by ','"),
        ("train_dataset.csv", "image,query_id,query_text\na.jpg,a.jpg#2,A dog, running\n", "line 2 .* has 4 fields"),
        ("train_dataset.csv", "image,query_id,query_text\na.jpg,a.jpg#2,\n", "line 2 .* no query"),
        ("train_dataset.csv", 'image,query_id,query_text\na.jpg,a.jpg#2,"A dog" .\n', "line 2 .* is not CSV"),
        ("train_dataset.csv", 'image,query_id,query_text\na.jpg,a.jpg#2,"A dog .\n', "is not CSV"),
        ("train_dataset.csv", "image,query_id,query_text\na.jpg,a.jpg#2,A dog\nb.jpg,a.jpg#2,A cat\n", "line 3 .*#2'"),
        ("train_dataset.csv", "image,query_id,query_text\na.jpg,q,A dog\nb.jpg,q,A dog\n", "line 3 .* another"),
        ("train_dataset.csv", b"image,query_id,query_text\na.jpg,a.jpg#2,\xff\n", "not UTF-8"),
        ("test_queries.csv", ",query_id,query_text,image\n0,t.jpg#0,Two boys,t.jpg\n", "no column 'query_id'"),
        ("test_queries.csv", "|query_id|query_text|image\n0|t.jpg#0|Two boys\n", "line 2 .* has 3 fields"),
    ],
)
def test_files_that_cannot_be_read_are_one_line(directory: Path, name: str, content: str | bytes, said: str) -> None:
    (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said) as error:
        read_course(directory)
    assert str(directory / name) in str(error.value)
