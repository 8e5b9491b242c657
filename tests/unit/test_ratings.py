"""Reading ratings: three formats, one target per pair, and reports of everything that is left out."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.captions import Caption, Captions
from sceneseek.errors import DataError
from sceneseek_evaluation.rating_files import ImageFolder, read_crowd, read_expert, read_feedback
from sceneseek_evaluation.ratings import Aggregation, Ratings, pooled

NAMES = [f"{i}.png" for i in range(6)]
CAPTIONS = Captions(
    Path("captions.tsv"),
    {name: (f"caption of {name}",) for name in NAMES},
    {f"{name}#2": Caption(name, f"caption of {name}", f"{name}#2") for name in NAMES},
)
EXPERT, CROWD = "image\tcaption_id\ts1\ts2\ts3", "image\tcaption_id\tfrac\tyes\tno"
GOOD = ("0.png\t0.png#2\t4\t4\t3", "1.png\t0.png#2\t1\t1\t2")
VOTED = ("0.png\t0.png#2\t1\t3\t0", "1.png\t0.png#2\t0.3333\t1\t2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six empty files, which are never opened."""
    folder = tmp_path_factory.mktemp("images")
    for name in NAMES:
        (folder / name).touch()
    return folder


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path that each Hypothesis example overwrites."""
    return tmp_path_factory.mktemp("scratch") / "ratings"


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def expert(tmp_path: Path, *rows: str, header: str = EXPERT) -> Path:
    return write(tmp_path / "expert.tsv", [header, *rows])


def crowd(tmp_path: Path, *rows: str) -> Path:
    return write(tmp_path / "crowd.tsv", [CROWD, *rows])


def feedback(tmp_path: Path, *documents: object) -> Path:
    return write(tmp_path / "feedback.jsonl", [json.dumps(document) for document in documents])


def entry(query: str, image: str, rating: object, **others: object) -> dict[str, object]:
    return {"query": query, "image": image, "rating": rating, **others}


def targets(ratings: Ratings) -> dict[tuple[str, str], float]:
    """The targets by image and caption."""
    return {
        (ratings.names[i], ratings.captions[j]): float(target)
        for i, j, target in zip(ratings.image, ratings.caption, ratings.target, strict=True)
    }


# One row per pair, with three scores.
tables = st.dictionaries(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(*[st.integers(1, 4)] * 3),
    min_size=2,
).filter(lambda table: len({sum(scores) for scores in table.values()}) > 1)


def test_expert_scores_become_targets_from_0_to_1(folder: Path, tmp_path: Path) -> None:
    rows = ("1.png\t2.png#2\t1\t1\t1", "3.png\t2.png#2\t4\t4\t4", "1.png\t1.png#2\t1\t2\t4")
    ratings = read_expert(expert(tmp_path, *rows), folder, CAPTIONS)
    np.testing.assert_allclose(ratings.target, [0, 1, 4 / 9], atol=1e-6)
    np.testing.assert_allclose(ratings.scores, [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1 / 3, 1.0]], atol=1e-6)
    assert ratings.label == "expert.tsv"
    assert ratings.names == ("1.png", "3.png")
    assert ratings.paths == (folder / "1.png", folder / "3.png")
    assert ratings.captions == ("caption of 2.png", "caption of 1.png")
    assert (ratings.image.tolist(), ratings.caption.tolist()) == ([0, 1, 0], [0, 0, 1])
    assert ratings.weight.tolist() == [3, 3, 3]
    assert ratings.own.tolist() == [False, False, True]
    assert (ratings.left_out, ratings.merged) == ({}, {})
    assert len(ratings) == 3


@given(tables)
def test_expert_table_round_trips(
    folder: Path, scratch: Path, table: dict[tuple[str, str], tuple[int, int, int]]
) -> None:
    rows = ["\t".join([image, f"{of}#2", *map(str, scores)]) for (image, of), scores in table.items()]
    ratings = read_expert(write(scratch, [EXPERT, *rows]), folder, CAPTIONS)
    expected = {(image, f"caption of {of}"): (sum(scores) / 3 - 1) / 3 for (image, of), scores in table.items()}
    assert targets(ratings) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(ratings.scores * 3 + 1, np.array([*table.values()]), atol=1e-5)
    assert ratings.own.tolist() == [image == of for image, of in table]


@given(table=tables, rng=st.randoms(use_true_random=False), aggregate=st.sampled_from(["mean", "median", "majority"]))
def test_row_and_column_order_do_not_change_targets(
    folder: Path,
    scratch: Path,
    table: dict[tuple[str, str], tuple[int, int, int]],
    rng: random.Random,
    aggregate: Aggregation,
) -> None:
    records = [(image, f"{of}#2", *map(str, scores)) for (image, of), scores in table.items()]
    records += [(image, caption_id, "4", "1", "1") for image, caption_id, *_ in records[:2]]  # may contradict others

    def outcome(lines: list[str]) -> object:
        try:
            ratings = read_expert(write(scratch, lines), folder, CAPTIONS, aggregate)
        except DataError as error:  # all ratings are equal
            return error.what
        return targets(ratings), ratings.merged

    ordered = outcome(["\t".join(record) for record in records])
    shuffled = list(records)
    rng.shuffle(shuffled)
    reordered = [f"{s3}\tremark\t{caption_id}\t{s1}\t{image}\t{s2}" for image, caption_id, s1, s2, s3 in shuffled]
    assert outcome(["s3\tnote\tcaption_id\ts1\timage\ts2", *reordered]) == ordered


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("mean", [7 / 4, 7 / 4, 5 / 2, 11 / 4, 4]),
        ("median", [1, 3 / 2, 5 / 2, 3, 4]),
        ("majority", [1, 1, 5 / 2, 3, 4]),
    ],
)
def test_scores_are_aggregated_by_the_chosen_method(
    folder: Path, tmp_path: Path, aggregate: Aggregation, expected: list[float]
) -> None:
    scores = ("1114", "1123", "1144", "1334", "4444")
    rows = ["\t".join([NAMES[i], "0.png#2", *row]) for i, row in enumerate(scores)]
    path = expert(tmp_path, *rows, header="image\tcaption_id\ts1\ts2\ts3\ts4")
    ratings = read_expert(path, folder, CAPTIONS, aggregate)
    np.testing.assert_allclose(ratings.target * 3 + 1, expected, atol=1e-6)


@pytest.mark.parametrize("columns", [2, 3, 11])
def test_expert_table_has_two_or_more_raters_in_numeric_order(folder: Path, tmp_path: Path, columns: int) -> None:
    names = [f"s{i + 1}" for i in range(columns)]
    scores = np.array([[1 + (i + k) % 4 for i in range(columns)] for k in (0, 1)])
    rows = ["\t".join([NAMES[k], "0.png#2", *map(str, reversed(scores[k]))]) for k in (0, 1)]
    rows.append("\t".join([NAMES[2], "0.png#2", *["4"] * columns]))
    path = expert(tmp_path, *rows, header="\t".join(["image", "caption_id", *reversed(names)]))
    ratings = read_expert(path, folder, CAPTIONS)
    np.testing.assert_allclose(ratings.scores[:2] * 3 + 1, scores, atol=1e-5)
    assert ratings.weight.tolist() == [columns] * 3


def test_tables_without_a_header_are_recognised(folder: Path, tmp_path: Path) -> None:
    scored = read_expert(write(tmp_path / "e.tsv", GOOD), folder, CAPTIONS)
    assert targets(scored) == targets(read_expert(expert(tmp_path, *GOOD), folder, CAPTIONS))
    voted = read_crowd(write(tmp_path / "c.tsv", VOTED), folder, CAPTIONS)
    assert targets(voted) == targets(read_crowd(crowd(tmp_path, *VOTED), folder, CAPTIONS))
    assert (len(scored), len(voted)) == (2, 2)


def test_duplicates_are_dropped_and_contradictions_merged(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = (*GOOD, GOOD[0], "1.png\t0.png#2\t4\t4\t4", GOOD[0])
    ratings = read_expert(expert(tmp_path, *rows), folder, CAPTIONS)
    assert ratings.merged == {"duplicates": 2, "contradictions": 1}
    assert ratings.weight.tolist() == [3, 6]
    np.testing.assert_allclose(ratings.target, [(11 / 3 - 1) / 3, (16 / 6 - 1) / 3], atol=1e-6)
    np.testing.assert_allclose(ratings.scores[0], [1, 1, 2 / 3, np.nan, np.nan, np.nan], atol=1e-6)
    assert "2 duplicates: 0.png with 0.png#2" in caplog.text
    assert "1 contradictions: 1.png with 0.png#2" in caplog.text


def test_caption_ids_of_equal_texts_are_one_caption(folder: Path, tmp_path: Path) -> None:
    captions = Captions(
        Path("c.tsv"), {}, {f"{name}#0": Caption(name, "a dog", f"{name}#0") for name in ("0.png", "1.png")}
    )
    rows = ("0.png\t1.png#0\t4\t4", "0.png\t0.png#0\t4\t4", "2.png\t0.png#0\t1\t1")
    ratings = read_expert(expert(tmp_path, *rows, header="image\tcaption_id\ts1\ts2"), folder, captions)
    assert ratings.captions == ("a dog",)
    assert ratings.own.tolist() == [True, False]
    assert ratings.weight.tolist() == [4, 2]
    assert ratings.merged == {"of another id's text": 1}


def test_votes_become_shares_weighted_by_their_number(folder: Path, tmp_path: Path) -> None:
    ratings = read_crowd(crowd(tmp_path, *VOTED, "2.png\t1.png#2\t0\t0\t5"), folder, CAPTIONS)
    np.testing.assert_allclose(ratings.target, [1, 1 / 3, 0], atol=1e-6)
    assert ratings.weight.tolist() == [3, 3, 5]
    assert ratings.scores.shape == (3, 0)
    assert ratings.own.tolist() == [True, False, False]


def test_contradicting_votes_are_added_and_duplicates_dropped(folder: Path, tmp_path: Path) -> None:
    ratings = read_crowd(crowd(tmp_path, *VOTED, VOTED[0], "1.png\t0.png#2\t1\t3\t0"), folder, CAPTIONS)
    assert ratings.weight.tolist() == [3, 6]
    np.testing.assert_allclose(ratings.target, [1, 4 / 6], atol=1e-6)
    assert ratings.merged == {"duplicates": 1, "contradictions": 1}


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any),
        min_size=2,
    ).filter(lambda table: len({yes / (yes + no) for yes, no in table.values()}) > 1)
)
def test_crowd_table_round_trips(folder: Path, scratch: Path, table: dict[tuple[str, str], tuple[int, int]]) -> None:
    rows = [f"{image}\t{of}#2\t{yes / (yes + no):.2f}\t{yes}\t{no}" for (image, of), (yes, no) in table.items()]
    ratings = read_crowd(write(scratch, [CROWD, *rows]), folder, CAPTIONS)
    expected = {(image, f"caption of {of}"): yes / (yes + no) for (image, of), (yes, no) in table.items()}
    assert targets(ratings) == pytest.approx(expected, abs=1e-6)
    assert ratings.weight.tolist() == [sum(votes) for votes in table.values()]


@pytest.mark.parametrize("read", [read_expert, read_crowd], ids=["expert", "crowd"])
def test_unknown_captions_and_images_are_reported_together(
    folder: Path, tmp_path: Path, read: type, caplog: pytest.LogCaptureFixture
) -> None:
    rows = VOTED if read is read_crowd else GOOD
    header = CROWD if read is read_crowd else EXPERT
    rest = rows[0].split("\t", 2)[2]
    unknown = [f"0.png\tlost#{i}\t{rest}" for i in range(5)] + [f"lost.png\t0.png#2\t{rest}"]
    path = write(tmp_path / "ratings.tsv", [header, *rows, *unknown])
    with pytest.raises(DataError) as error:
        read(path, folder, CAPTIONS)
    assert error.value.what == (
        f"{path}: 6 of 8 ratings cannot be used: 5 of unknown captions (lost#0, lost#1, lost#2 and 2 more), "
        "1 of images not in the folder (lost.png)"
    )
    assert "--skip-unknown" in error.value.hint
    ratings = read(path, folder, CAPTIONS, skip_unknown=True)
    assert ratings.left_out == {"of unknown captions": 5, "of images not in the folder": 1}
    assert len(ratings) == 2
    assert "lost#0" in caplog.text
    assert "lost.png" in caplog.text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "empty"),
        (["image,caption_id,s1,s2,s3", "1.png,0.png#2,1,1,1"], "not separated by tabs"),
        (["1.png,0.png#2,1,1,1"], "not separated by tabs"),
        (["image\ts1\ts2", "1.png\t1\t1"], "no column 'caption_id'"),
        (["image\tcaption_id\tscore", "1.png\t0.png#2\t1"], "no rating column"),
        (["image\tcaption_id\ts1", "1.png\t0.png#2\t1"], "only one rating column, s1: .*at least two"),
        (["1.png\t0.png#2\t1", "2.png\t0.png#2\t4"], "only one rating column, s1: .*at least two"),
        (["image\tcaption_id\ts1\ts1", "1.png\t0.png#2\t1\t4"], "two columns 's1'"),
        ([EXPERT, GOOD[0], "1.png\t0.png#2\t1\t7\t1"], "line 3 .* rating '7' in s2: .*from 1 to 4"),
        ([EXPERT, "1.png\t0.png#2\t0\t1\t1"], "line 2 .* rating '0' in s1"),
        ([EXPERT, "1.png\t0.png#2\t1\t1\t2.5"], "rating '2.5' in s3"),
        ([EXPERT, "1.png\t0.png#2\t1\tx\t1"], "rating 'x' in s2"),
        ([EXPERT, "1.png\t0.png#2\t1\t\t1"], "rating '' in s2"),
        ([EXPERT, "1.png\t0.png#2\t1\t٣\t1"], "in s2"),  # a non-ASCII digit
        (["1.png\t0.png#2\t1\tgood\t1"], "line 1 .* rating 'good' in s2"),
        ([*GOOD, "2.png\t0.png#2\t1\t1"], "line 3 .* has 4 fields"),
        ([EXPERT, "1.png\t0.png#2\t1\t1"], "line 2 .* has 4 fields"),
        ([EXPERT, "1.png\t0.png#2\t2\t2\t2", "3.png\t0.png#2\t1\t2\t3"], "are equal"),
        ([EXPERT], "has no rating"),
        ([EXPERT, "/1.png\t0.png#2\t1\t1\t1"], "line 2 .* image '/1.png'"),
        ([EXPERT, "../1.png\t0.png#2\t1\t1\t1"], r"line 2 .* image '\.\./1.png'"),
        ([EXPERT, "a/../1.png\t0.png#2\t1\t1\t1"], "paths relative to the folder"),
        ([EXPERT, "./1.png\t0.png#2\t1\t1\t1"], "paths relative to the folder"),
        ([EXPERT, "\t0.png#2\t1\t1\t1"], "line 2 .* image ''"),
        ([EXPERT, f"{'long' * 99}\t0.png#2\t1\t1\t1"], "not in the folder"),
    ],
)
def test_invalid_scores_raise_a_one_line_error(folder: Path, tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path / "expert.tsv", lines)
    with pytest.raises(DataError, match=message) as error:
        read_expert(path, folder, CAPTIONS)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.png\t0.png#2\t0\t-1\t3", "line 4 .* '-1' in yes"),
        ("1.png\t0.png#2\t0.5\t1.5\t1.5", "line 4 .* '1.5' in yes"),
        ("1.png\t0.png#2\t1\t3\tx", "line 4 .* 'x' in no"),
        ("1.png\t0.png#2\t1\t3\t" + "9" * 400, "in no"),
        ("1.png\t0.png#2\t0\t0\t0", "line 4 .* no votes"),
        ("1.png\t0.png#2\t0.5\t1\t2", "line 4 .* '0.5' in frac, but 1 yes and 2 no"),
        ("1.png\t0.png#2\t0.345\t1\t2", "'0.345' in frac"),
        ("1.png\t0.png#2\tnan\t1\t2", "'nan' in frac"),
        ("1.png\t0.png#2\t0,33\t1\t2", "'0,33' in frac"),
    ],
)
def test_invalid_votes_raise_a_one_line_error(folder: Path, tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_crowd(crowd(tmp_path, *VOTED, row), folder, CAPTIONS)


def test_crowd_table_requires_all_columns(folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "crowd.tsv", ["image\tcaption_id\tfrac\tyes", "0.png\t0.png#2\t1\t3"])
    with pytest.raises(DataError, match="no column 'no'"):
        read_crowd(path, folder, CAPTIONS)
    with pytest.raises(DataError, match=r"line 1 .* has 4 fields"):
        read_crowd(write(path, ["0.png\t0.png#2\t1\t3"]), folder, CAPTIONS)


def test_unreadable_ratings_raise_a_one_line_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.tsv").write_bytes(EXPERT.encode() + b"\n\xe9.png\t0.png#2\t1\t1\t1\n")
    for read in (read_expert, read_crowd):
        with pytest.raises(DataError, match="not UTF-8"):
            read(tmp_path / "latin.tsv", folder, CAPTIONS)
        with pytest.raises(DataError, match="no ratings at"):
            read(tmp_path / "nowhere.tsv", folder, CAPTIONS)


def test_ratings_require_caption_ids_and_an_image_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no caption ids"):
        read_expert(expert(tmp_path, *GOOD), folder, Captions(Path("c.tsv"), {"0.png": ("a dog",)}, {}))
    with pytest.raises(DataError, match="no folder of images"):
        read_expert(expert(tmp_path, *GOOD), folder / "nowhere", CAPTIONS)


def test_image_folder_searches_its_subfolders_in_order(tmp_path: Path) -> None:
    for name in ("a/one.png", "b/one.png", "b/two.png", "three.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "secret.png").touch()
    images = ImageFolder(tmp_path / "in", ("a", "b"))
    assert images.find("one.png") == "a/one.png"
    assert images.find("two.png") == "b/two.png"
    assert images.find("three.png") is None
    assert ImageFolder(tmp_path / "in").find("three.png") == "three.png"
    assert ImageFolder(tmp_path / "in").find("a") is None
    assert ImageFolder(tmp_path / "in").find("../secret.png") is None
    assert ImageFolder(tmp_path / "in").find(str(tmp_path / "secret.png")) is None


def test_subfolders_qualify_image_names_and_caption_ownership(tmp_path: Path) -> None:
    for name in ("train/0.png", "test/0.png", "test/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    captions = Captions(Path("c.tsv"), {}, {"0.png#2": Caption("train/0.png", "a dog", "0.png#2")})
    ratings = read_expert(write(tmp_path / "e.tsv", GOOD), ImageFolder(tmp_path, ("train", "test")), captions)
    assert ratings.names == ("train/0.png", "test/1.png")
    assert ratings.paths == (tmp_path / "train/0.png", tmp_path / "test/1.png")
    assert ratings.own.tolist() == [True, False]


def test_feedback_aggregates_ratings_of_each_query_and_image(folder: Path, tmp_path: Path) -> None:
    path = feedback(
        tmp_path,
        entry("a dog", "0.png", 4, at="2025-01-01T00:00:00Z", key="k", rater="ann", score=0.7),
        entry(" a  dog ", "0.png", 3, rater="bob"),
        entry("a dog", "0.png", 3),
        entry("a dog", "0.png", 3, rater=None),
        entry("a cat", "0.png", 1, rater="ann"),
    )
    ratings = read_feedback(path, folder)
    assert targets(ratings) == pytest.approx({("0.png", "a dog"): 2.25 / 3, ("0.png", "a cat"): 0}, abs=1e-6)
    assert ratings.weight.tolist() == [4, 1]
    np.testing.assert_allclose(ratings.scores[1], [0, np.nan, np.nan, np.nan])
    assert not ratings.own.any()
    assert ratings.label == "feedback.jsonl"
    assert (ratings.left_out, ratings.merged) == ({}, {})
    assert targets(read_feedback(path, folder, "majority"))["0.png", "a dog"] == pytest.approx(2 / 3)


def test_last_rating_of_a_rater_counts(folder: Path, tmp_path: Path) -> None:
    path = feedback(
        tmp_path,
        entry("a dog", "0.png", 1, rater="ann"),
        entry("a dog", "0.png", 1, rater="bob"),
        entry("a dog", "1.png", 1, rater="ann"),
        entry("a dog", "0.png", 2, rater="ann"),
        entry("a dog", "0.png", 4, rater="ann"),
    )
    ratings = read_feedback(path, folder)
    assert targets(ratings) == pytest.approx({("0.png", "a dog"): 0.5, ("1.png", "a dog"): 0})
    assert ratings.merged == {"superseded": 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 .* is not JSON"),
        ("[" * 100_000, "line 2 .* is not JSON"),
        ("[1]", "line 2 .* is not a JSON object"),
        ('{"image": "0.png", "rating": 1}', "line 2 .* has no 'query'"),
        ('{"query": "a dog", "rating": 1}', "line 2 .* has no 'image'"),
        ('{"query": "a dog", "image": "0.png"}', "line 2 .* has no 'rating'"),
        ('{"query": "a dog", "image": "0.png", "rating": 7}', "line 2 .* rating '7' in rating"),
        ('{"query": "a dog", "image": "0.png", "rating": 0}', "rating '0'"),
        ('{"query": "a dog", "image": "0.png", "rating": 2.5}', r"rating '2\.5'"),
        ('{"query": "a dog", "image": "0.png", "rating": "3"}', "rating '\"3\"'"),
        ('{"query": "a dog", "image": "0.png", "rating": true}', "rating 'true'"),
        ('{"query": "a dog", "image": "0.png", "rating": null}', "rating 'null'"),
        ('{"query": "  ", "image": "0.png", "rating": 1}', "line 2 .* query is empty"),
        ('{"query": null, "image": "0.png", "rating": 1}', "line 2 .* query is empty"),
        ('{"query": "\\ud800", "image": "0.png", "rating": 1}', r"U\+D800"),
        ('{"query": 5, "image": "0.png", "rating": 1}', "line 2 .* '5' in query"),
        ('{"query": "a dog", "image": ["0.png"], "rating": 1}', "in image"),
        ('{"query": "a dog", "image": "0.png", "rating": 1, "rater": 5}', "in rater"),
        ('{"query": "a dog", "image": "../0.png", "rating": 1}', "line 2 .* image '../0.png'"),
        ('{"query": "a dog", "image": "/0.png", "rating": 1}', "line 2 .* image '/0.png'"),
    ],
)
def test_invalid_feedback_error_names_its_line(folder: Path, tmp_path: Path, line: str, message: str) -> None:
    path = write(
        tmp_path / "f.jsonl", [json.dumps(entry("a dog", "1.png", 4)), line, json.dumps(entry("b", "1.png", 1))]
    )
    with pytest.raises(DataError, match=message):
        read_feedback(path, folder)


def test_empty_or_unreadable_feedback_raises_an_error(folder: Path, tmp_path: Path) -> None:
    for content, message in (
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"SQLite format 3\0\xff", "sceneseek feedback export"),
    ):
        (tmp_path / "f.jsonl").write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_feedback(tmp_path / "f.jsonl", folder)
    (tmp_path / "f.jsonl").write_bytes(b"\xff\n{}")
    with pytest.raises(DataError, match=r"line 1 .* not UTF-8"):
        read_feedback(tmp_path / "f.jsonl", folder)
    with pytest.raises(DataError, match="no ratings at"):
        read_feedback(tmp_path / "nowhere.jsonl", folder)


def test_equal_feedback_ratings_are_accepted_unless_pooled_alone(folder: Path, tmp_path: Path) -> None:
    alone = read_feedback(feedback(tmp_path, entry("a dog", "0.png", 4), entry("a dog", "1.png", 4)), folder)
    assert alone.target.tolist() == [1, 1]
    with pytest.raises(DataError, match="are equal"):
        pooled([alone])


def test_feedback_on_a_missing_image_is_an_error_or_skipped(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = feedback(
        tmp_path, entry("a dog", "0.png", 4), entry("a dog", "gone.png", 4, rater="ann"), entry("a dog", "1.png", 1)
    )
    with pytest.raises(DataError, match=r"1 of 3 ratings .* not in the folder \(gone\.png\): .*--skip-unknown"):
        read_feedback(path, folder)
    ratings = read_feedback(path, folder, skip_unknown=True)
    assert ratings.left_out == {"of images not in the folder": 1}
    assert len(ratings) == 2
    assert "gone.png" in caplog.text


def test_pooled_merges_the_raters_of_each_pair(folder: Path, tmp_path: Path) -> None:
    experts = read_expert(expert(tmp_path, *GOOD, GOOD[0]), folder, CAPTIONS)
    users = read_feedback(
        feedback(
            tmp_path,
            entry("caption of 0.png", "0.png", 1),
            entry("a cat", "2.png", 3),
            entry("a cat", "gone.png", 3),
        ),
        folder,
        skip_unknown=True,
    )
    ratings = pooled([experts, users])
    assert ratings.label == "expert.tsv + feedback.jsonl"
    expected = {("0.png", "caption of 0.png"): 2 / 3, ("1.png", "caption of 0.png"): 1 / 9, ("2.png", "a cat"): 2 / 3}
    assert targets(ratings) == pytest.approx(expected, abs=1e-6)
    assert ratings.weight.tolist() == [4, 3, 1]
    np.testing.assert_allclose(ratings.scores[0], [1, 1, 2 / 3, 0], atol=1e-6)
    assert ratings.own.tolist() == [True, False, False]
    assert ratings.left_out == {"of images not in the folder": 1}
    assert ratings.merged == {"duplicates": 1, "rated in several files": 1}
    assert targets(pooled([users, experts])) == targets(ratings)
    majority = targets(pooled([experts, users], "majority"))
    assert majority["0.png", "caption of 0.png"] == 1


@given(tables)
def test_pooled_single_file_is_unchanged(
    folder: Path, scratch: Path, table: dict[tuple[str, str], tuple[int, int, int]]
) -> None:
    rows = ["\t".join([image, f"{of}#2", *map(str, scores)]) for (image, of), scores in table.items()]
    one = read_expert(write(scratch, [EXPERT, *rows]), folder, CAPTIONS)
    alone = pooled([one])
    assert (alone.label, alone.names, alone.paths, alone.captions) == (one.label, one.names, one.paths, one.captions)
    for field in ("image", "caption", "target", "weight", "scores", "own"):
        np.testing.assert_array_equal(getattr(alone, field), getattr(one, field))


def test_pooled_rejects_crowd_votes_and_other_folders(folder: Path, tmp_path: Path) -> None:
    scored = read_expert(expert(tmp_path, *GOOD), folder, CAPTIONS)
    with pytest.raises(ValueError, match="scores"):
        pooled([scored, read_crowd(crowd(tmp_path, *VOTED), folder, CAPTIONS)])
    with pytest.raises(ValueError, match="at least one"):
        pooled([])
    other = tmp_path / "other"
    other.mkdir()
    for name in NAMES:
        (other / name).touch()
    with pytest.raises(DataError, match=r"0\.png is .* relative to the same folder"):
        pooled([scored, read_expert(expert(tmp_path, *GOOD), other, CAPTIONS)])


@pytest.mark.flickr8k
def test_flickr8k_ratings_are_read_completely(flickr8k: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    captions = Captions.read(flickr8k / "captions.tsv")
    with caplog.at_level(logging.WARNING):
        experts = read_expert(flickr8k / "expert.tsv", flickr8k / "images", captions)
        votes = read_crowd(flickr8k / "crowd.tsv", flickr8k / "images", captions)
    assert (len(experts), experts.scores.shape[1], len(votes)) == (2_855, 3, 23_718)
    for ratings in (experts, votes):
        assert ratings.left_out == ratings.merged == {}
        assert ((ratings.target >= 0) & (ratings.target <= 1)).all()
    rows = [line.split("\t") for line in (flickr8k / "expert.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    assert experts.own.tolist() == [caption_id.startswith(image) for image, caption_id, *_ in rows]
    assert experts.target[experts.own].mean() > 2 * experts.target[~experts.own].mean()
    assert caplog.text == ""

    bare = write(tmp_path / "ExpertAnnotations.tsv", ["\t".join(row) for row in rows])
    np.testing.assert_array_equal(read_expert(bare, flickr8k / "images", captions).target, experts.target)
