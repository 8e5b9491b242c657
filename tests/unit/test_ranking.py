"""Blocks are rescored among themselves: an order in pages that never repeats and never leaves out."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.request import MAX_SHORTLIST
from sceneseek.reranker import Ranked, Ranking
from sceneseek.vectors import Candidates, Floats


class Neighbours:
    """So many images, image 0 the nearest, and how deep was asked."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.depths: list[int] = []

    def candidates(self, limit: int) -> Candidates:
        self.depths.append(limit)
        there = min(limit, self.images)
        return Candidates([str(i) for i in range(there)], np.linspace(1, 0, there, dtype=np.float32))


def scrambled(candidates: Candidates) -> Floats:
    """A score for each image that is its own, in another order than the neighbours'."""
    return np.array([(int(i) * 37 % 101) / 101 for i in candidates.ids], dtype=np.float32)


def everything(ranking: Ranking) -> list[Ranked]:
    return list(itertools.chain.from_iterable(ranking.blocks()))


@given(images=st.integers(0, 700), first=st.integers(1, 200))
def test_every_image_comes_once(images: int, first: int) -> None:
    ranking = Ranking(Neighbours(images).candidates, scrambled, True, first)
    assert sorted(int(ranked.id) for ranked in everything(ranking)) == list(range(images))
    assert ranking.scored == images
    assert not ranking.may_have_more(images)


def test_a_block_is_ordered_by_score_and_later_results_do_not_change_it() -> None:
    ranking = Ranking(Neighbours(30).candidates, scrambled, True, 10)
    blocks = list(ranking.blocks())
    assert [len(block) for block in blocks] == [10, 20]
    for block in blocks:
        scores = [ranked.score or 0.0 for ranked in block]
        assert scores == sorted(scores, reverse=True)
    assert {int(ranked.id) for ranked in blocks[0]} == set(range(10))


def test_an_image_knows_its_place_among_the_neighbours() -> None:
    assert all(
        int(r.id) + 1 == r.neighbour_rank for r in everything(Ranking(Neighbours(30).candidates, scrambled, True, 10))
    )


def test_a_deeper_search_is_made_only_on_demand() -> None:
    neighbours = Neighbours(1_000)
    ranking = Ranking(neighbours.candidates, scrambled, True, 100)
    next(ranking.blocks())
    assert neighbours.depths == [100]
    assert ranking.may_have_more(100)


def test_it_ends_at_the_deepest_shortlist() -> None:
    neighbours = Neighbours(20_000)
    assert len(everything(Ranking(neighbours.candidates, scrambled, True, 100))) == MAX_SHORTLIST
    assert neighbours.depths == [100, 400, 1_600, 6_400, 10_000]


def test_a_least_score_leaves_out_what_is_below_it_and_looks_no_deeper() -> None:
    neighbours = Neighbours(1_000)
    ranking = Ranking(neighbours.candidates, scrambled, True, 100, min_score=0.5)
    found = everything(ranking)
    assert neighbours.depths == [100]
    assert {r.id for r in found} == {str(i) for i in range(100) if (i * 37 % 101) / 101 >= 0.5}
    assert ranking.best >= 0.5


def test_without_a_text_the_neighbours_keep_their_order_and_have_no_score() -> None:
    found = everything(Ranking(Neighbours(30).candidates, lambda _: None, False, 10))
    assert [int(ranked.id) for ranked in found] == list(range(30))
    assert {ranked.score for ranked in found} == {None}
