"""Ranking reranks candidates in blocks, so that pages neither repeat nor omit results."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.request import MAX_SHORTLIST
from sceneseek.reranker import Ranked, Ranking
from sceneseek.vectors import Candidates, Floats


class Neighbours:
    """`images` images, image 0 the nearest; records the requested limits as `depths`."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.depths: list[int] = []

    def candidates(self, limit: int) -> Candidates:
        self.depths.append(limit)
        count = min(limit, self.images)
        return Candidates([str(i) for i in range(count)], np.linspace(1, 0, count, dtype=np.float32))


def score(candidates: Candidates) -> Floats:
    """A fixed score for each image, in another order than that of the neighbours."""
    return np.array([(int(i) * 37 % 101) / 101 for i in candidates.ids], dtype=np.float32)


def all_results(ranking: Ranking) -> list[Ranked]:
    return list(itertools.chain.from_iterable(ranking.blocks()))


@given(images=st.integers(0, 700), first=st.integers(1, 200))
def test_ranking_returns_every_image_once(images: int, first: int) -> None:
    ranking = Ranking(Neighbours(images).candidates, score, True, first)
    assert sorted(int(ranked.id) for ranked in all_results(ranking)) == list(range(images))
    assert ranking.scored == images
    assert not ranking.may_have_more(images)


def test_block_is_ordered_by_score_and_final() -> None:
    ranking = Ranking(Neighbours(30).candidates, score, True, 10)
    blocks = list(ranking.blocks())
    assert [len(block) for block in blocks] == [10, 20]
    for block in blocks:
        scores = [ranked.score or 0.0 for ranked in block]
        assert scores == sorted(scores, reverse=True)
    assert {int(ranked.id) for ranked in blocks[0]} == set(range(10))


def test_result_has_its_neighbour_rank() -> None:
    assert all(
        int(r.id) + 1 == r.neighbour_rank for r in all_results(Ranking(Neighbours(30).candidates, score, True, 10))
    )


def test_search_deepens_only_on_demand() -> None:
    neighbours = Neighbours(1_000)
    ranking = Ranking(neighbours.candidates, score, True, 100)
    next(ranking.blocks())
    assert neighbours.depths == [100]
    assert ranking.may_have_more(100)


def test_ranking_ends_at_the_maximum_shortlist() -> None:
    neighbours = Neighbours(20_000)
    assert len(all_results(Ranking(neighbours.candidates, score, True, 100))) == MAX_SHORTLIST
    assert neighbours.depths == [100, 400, 1_600, 6_400, 10_000]


def test_min_score_excludes_lower_results_without_deepening() -> None:
    neighbours = Neighbours(1_000)
    ranking = Ranking(neighbours.candidates, score, True, 100, min_score=0.5)
    results = all_results(ranking)
    assert neighbours.depths == [100]
    assert {r.id for r in results} == {str(i) for i in range(100) if (i * 37 % 101) / 101 >= 0.5}
    assert ranking.best >= 0.5


def test_without_scores_results_keep_the_neighbour_order() -> None:
    results = all_results(Ranking(Neighbours(30).candidates, lambda _: None, False, 10))
    assert [int(ranked.id) for ranked in results] == list(range(30))
    assert {ranked.score for ranked in results} == {None}
