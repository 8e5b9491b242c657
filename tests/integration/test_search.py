"""The search pipeline with a real bundle and a real index returns ranked results with scores."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sceneseek.errors import InvalidRequest
from sceneseek.queries import Query
from sceneseek.search import Search
from tests.drawing import NAMES


def test_results_are_sorted_by_score_within_range(search: Search) -> None:
    answer = search.query(Query(text="a red circle on white paper", k=12))
    scores = [result.score or 0.0 for result in answer.results]
    assert [result.rank for result in answer.results] == list(range(1, len(NAMES) + 1))
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= result.similarity <= 1 for result in answer.results)
    assert all(0 <= score <= 1 for score in scores)
    assert len({result.id for result in answer.results}) == len(NAMES)


def test_response_contains_timings_per_stage(search: Search) -> None:
    timings = search.query(Query(text="a house")).timings_ms
    assert {"encode", "shortlist", "score", "payload", "total"} == set(timings)
    assert sum(timings.values()) <= 2 * timings["total"] + 0.01


def test_batch_timings_sum_to_elapsed_time(search: Search) -> None:
    queries = [Query(text=f"a house and {number} trees", k=12) for number in range(16)]
    start = time.perf_counter()
    answers = search.queries(queries)
    elapsed = 1e3 * (time.perf_counter() - start)
    assert sum(answer.timings_ms["total"] for answer in answers) <= elapsed + 0.05  # timings are rounded
    for answer in answers:
        stages = [milliseconds for stage, milliseconds in answer.timings_ms.items() if stage != "total"]
        assert sum(stages) <= answer.timings_ms["total"] + 0.01


def test_k_beyond_collection_returns_every_image(search: Search) -> None:
    assert len(search.query(Query(text="anything", k=500)).results) == len(NAMES)


def test_shortlist_is_extended_to_k(search: Search) -> None:
    assert len(search.query(Query(text="anything", k=7, shortlist=1)).results) == 7


def test_concurrent_identical_queries_return_identical_results(search: Search) -> None:
    expected = [result.id for result in search.query(Query(text="the sea")).results]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: search.query(Query(text="the sea")), range(40)))
    assert all([result.id for result in answer.results] == expected for answer in answers)


@pytest.mark.parametrize("text", ["", "   ", "a\x00b", "word " * 10_000])
def test_invalid_query_text_is_rejected(search: Search, text: str) -> None:
    with pytest.raises(InvalidRequest):
        search.query(Query(text=text))


def test_long_query_is_truncated_and_flagged(search: Search) -> None:
    assert search.query(Query(text="horse " * 160)).truncated
    assert not search.query(Query(text="horse")).truncated


def test_unusual_text_returns_results(search: Search) -> None:
    for text in ("🐶🐱", "кошка на окне", "犬", "ﷺ", "\u202etxet desrever", "a" * 999):
        assert len(search.query(Query(text=text)).results) == 5


def test_filter_removes_results_and_preserves_order(search: Search) -> None:
    everything = search.query(Query(text="the sea", k=len(NAMES))).results
    filtered = search.query(Query(text="the sea", k=len(NAMES), filter=["path^=shapes"])).results
    assert [r.path for r in filtered] == [r.path for r in everything if (r.path or "").startswith("shapes/")]
    assert [r.rank for r in filtered] == list(range(1, len(filtered) + 1))
