"""Search output on a terminal: result lines and remarks about the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sceneseek.api import Answer, Explanation, Result
from sceneseek.search_output import lines, remarks

RESULT = Result(
    rank=1,
    id="bf8013b6-61f9-5d1d-94d6-cfa2c149805e",
    score=0.75,
    match=True,
    similarity=0.5,
    path="dogs/rex.jpg",
    width=320,
    height=240,
    format="JPEG",
    metadata={"title": "Rex"},
    duplicates=2,
)
ANSWER = Answer(
    query="a dog",
    truncated=False,
    match=True,
    matches=1,
    threshold=0.25,
    results=(RESULT,),
    offset=0,
    next_offset=None,
    shortlist=1,
    generation="g",
    bundle="b",
    calibrated=True,
    timings_ms={},
)


def line(result: Result, **options: bool) -> str:
    (only,) = lines(result, **options)
    return only


def test_result_line_shows_path_or_title_or_id() -> None:
    assert line(RESULT) == " 1  0.75  dogs/rex.jpg  (+2 similar)"
    assert line(replace(RESULT, path=None, duplicates=0)) == " 1  0.75  Rex"
    for metadata in ({}, {"title": ""}, {"title": 5}):
        nameless = replace(RESULT, path=None, metadata=metadata, duplicates=0)
        assert line(nameless) == f" 1  0.75  {RESULT.id}"


def test_kept_duplicates_are_not_counted() -> None:
    assert line(RESULT, keep_duplicates=True) == " 1  0.75  dogs/rex.jpg"


def test_similarity_is_shown_for_image_queries_and_without_score() -> None:
    assert line(RESULT, by_similarity=True).startswith(" 1  0.50  ")
    assert line(replace(RESULT, score=None)).startswith(" 1  0.50  ")


def test_control_characters_are_escaped() -> None:
    assert line(replace(RESULT, path=None, metadata={"title": "\x1b[2J\nRex"})).startswith(r" 1  0.75  \x1b[2J\nRex")


def test_explanation_is_a_separate_line() -> None:
    explained = Explanation(rank_before=7, rank_after=1, text_similarity=0.5, image_similarity=None)
    _, second = lines(replace(RESULT, explanation=explained))
    assert second == "    neighbour 7; similarity 0.50 to the text"


def test_remarks_report_no_match_calibration_and_truncation() -> None:
    def said(**changes: Any) -> tuple[list[str], list[str]]:
        return remarks(replace(ANSWER, **changes))

    assert said() == said(match=None) == ([], [])
    assert said(match=False) == (["nothing matches well; the nearest are:"], [])
    assert said(match=False, results=(), shortlist=0) == (["nothing was found"], [])
    nearest = "nothing matches well: the nearest are shown without --sort and --min-score"
    assert said(match=False, results=()) == ([nearest], [])
    assert said(query=None, match=None, calibrated=False) == ([], [])
    _, after = said(calibrated=False, truncated=True)
    assert ["not calibrated" in after[0], "its end was ignored" in after[1]] == [True, True]
