"""An answer on a terminal: what names a result, which figure stands beside it, and what is said of the whole."""

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


def test_a_result_is_named_by_its_path_or_title_or_id() -> None:
    assert line(RESULT) == " 1  0.75  dogs/rex.jpg  (+2 similar)"
    assert line(replace(RESULT, path=None, duplicates=0)) == " 1  0.75  Rex"
    for metadata in ({}, {"title": ""}, {"title": 5}):
        nameless = replace(RESULT, path=None, metadata=metadata, duplicates=0)
        assert line(nameless) == f" 1  0.75  {RESULT.id}"


def test_near_duplicates_that_are_results_of_their_own_are_not_counted() -> None:
    assert line(RESULT, keep_duplicates=True) == " 1  0.75  dogs/rex.jpg"


def test_with_an_image_the_figure_is_the_similarity_by_which_results_come() -> None:
    assert line(RESULT, by_similarity=True).startswith(" 1  0.50  ")
    assert line(replace(RESULT, score=None)).startswith(" 1  0.50  ")


def test_what_a_service_sends_cannot_steer_the_terminal() -> None:
    assert line(replace(RESULT, path=None, metadata={"title": "\x1b[2J\nRex"})).startswith(r" 1  0.75  \x1b[2J\nRex")


def test_an_explanation_is_a_line_of_its_own() -> None:
    explained = Explanation(rank_before=7, rank_after=1, text_similarity=0.5, image_similarity=None)
    _, second = lines(replace(RESULT, explanation=explained))
    assert second == "    neighbour 7; similarity 0.50 to the text"


def test_what_is_to_be_known_of_an_answer_is_said() -> None:
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
