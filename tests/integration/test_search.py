"""The pipeline over a real bundle and a real index answers in order, with scores."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sceneseek.errors import InvalidRequest
from sceneseek.queries import Query
from sceneseek.search import Search
from tests.drawing import NAMES


def test_results_come_best_first_with_scores_in_range(search: Search) -> None:
    answer = search.query(Query(text="a red circle on white paper", k=12))
    scores = [result.score or 0.0 for result in answer.results]
    assert [result.rank for result in answer.results] == list(range(1, len(NAMES) + 1))
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= result.similarity <= 1 for result in answer.results)
    assert all(0 <= score <= 1 for score in scores)
    assert len({result.id for result in answer.results}) == len(NAMES)


def test_the_answer_says_where_its_time_went(search: Search) -> None:
    timings = search.query(Query(text="a house")).timings_ms
    assert {"encode", "shortlist", "score", "payload", "total"} == set(timings)
    assert sum(timings.values()) <= 2 * timings["total"] + 0.01


def test_the_times_of_several_answers_add_up_to_what_they_took_together(search: Search) -> None:
    queries = [Query(text=f"a house and {number} trees", k=12) for number in range(16)]
    begun = time.perf_counter()
    answers = search.queries(queries)
    took = 1e3 * (time.perf_counter() - begun)
    assert sum(answer.timings_ms["total"] for answer in answers) <= took + 0.05  # rounded
    for answer in answers:
        stages = [milliseconds for stage, milliseconds in answer.timings_ms.items() if stage != "total"]
        assert sum(stages) <= answer.timings_ms["total"] + 0.01


def test_k_beyond_the_collection_gives_what_there_is(search: Search) -> None:
    assert len(search.query(Query(text="anything", k=500)).results) == len(NAMES)


def test_a_shortlist_shorter_than_k_is_lengthened(search: Search) -> None:
    assert len(search.query(Query(text="anything", k=7, shortlist=1)).results) == 7


def test_the_same_query_gives_the_same_answer_from_many_threads(search: Search) -> None:
    expected = [result.id for result in search.query(Query(text="the sea")).results]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: search.query(Query(text="the sea")), range(40)))
    assert all([result.id for result in answer.results] == expected for answer in answers)


@pytest.mark.parametrize("text", ["", "   ", "a\x00b", "word " * 10_000])
def test_what_cannot_be_searched_is_refused(search: Search, text: str) -> None:
    with pytest.raises(InvalidRequest):
        search.query(Query(text=text))


def test_a_long_query_is_answered_and_marked_as_truncated(search: Search) -> None:
    assert search.query(Query(text="horse " * 160)).truncated
    assert not search.query(Query(text="horse")).truncated


def test_hard_text_is_answered(search: Search) -> None:
    for text in ("🐶🐱", "кошка на окне", "犬", "ﷺ", "\u202etxet desrever", "a" * 999):
        assert len(search.query(Query(text=text)).results) == 5


def test_a_filter_leaves_only_what_satisfies_it_and_the_order_as_it_was(search: Search) -> None:
    everything = search.query(Query(text="the sea", k=len(NAMES))).results
    filtered = search.query(Query(text="the sea", k=len(NAMES), filter=["path^=shapes"])).results
    assert [r.path for r in filtered] == [r.path for r in everything if (r.path or "").startswith("shapes/")]
    assert [r.rank for r in filtered] == list(range(1, len(filtered) + 1))
