"""Cached vectors are what was read, whatever was evicted in between, and the bound holds."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.errors import InvalidRequest
from sceneseek.store.vector_cache import DEFAULT_MEGABYTES, VectorCache, cache_bytes
from sceneseek.vectors import Floats

WIDTH = 3
ROW = 4 * WIDTH


class Engine:
    """Vectors by id, and what was read of them."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, ids: list[str]) -> Mapping[str, Floats]:
        self.read += ids
        return {identity: vector(identity) for identity in ids}


def vector(identity: str) -> Floats:
    return np.array([int(identity), -int(identity), 0.5], dtype=np.float32)


@given(st.lists(st.lists(st.integers(0, 30).map(str), unique=True), max_size=8))
def test_rows_come_in_the_order_asked_and_are_read_once_where_all_fit(asked: list[list[str]]) -> None:
    cache, engine = VectorCache(WIDTH, 31 * ROW), Engine()
    for ids in asked:
        rows = cache.rows(ids, engine)
        assert rows.shape == (len(ids), WIDTH)
        assert all((row == vector(identity)).all() for row, identity in zip(rows, ids, strict=True))
    assert len(engine.read) == len(set(engine.read))


@given(st.integers(0, 12), st.lists(st.lists(st.integers(0, 30).map(str), unique=True), max_size=8))
def test_rows_are_right_and_the_bound_holds_where_not_all_fit(capacity: int, asked: list[list[str]]) -> None:
    cache, engine = VectorCache(WIDTH, capacity * ROW + ROW - 1), Engine()
    for ids in asked:
        rows = cache.rows(ids, engine)
        assert all((row == vector(identity)).all() for row, identity in zip(rows, ids, strict=True))
        assert len(cache) <= capacity


def test_the_least_recently_used_row_is_evicted() -> None:
    cache, engine = VectorCache(WIDTH, 3 * ROW), Engine()
    cache.rows(["1", "2", "3"], engine)
    cache.rows(["1"], engine)
    cache.rows(["4"], engine)
    engine.read.clear()
    cache.rows(["1", "3", "4"], engine)
    assert engine.read == []
    cache.rows(["2"], engine)
    assert engine.read == ["2"]


def test_threads_get_right_rows_while_others_evict_them() -> None:
    cache, engine = VectorCache(WIDTH, 120 * ROW), Engine()

    def ask(start: int) -> bool:
        ids = [str((start + step) % 500) for step in range(100)]
        return all((row == vector(i)).all() for row, i in zip(cache.rows(ids, engine), ids, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(0, 5_000, 7)))


def test_a_row_that_was_not_read_is_an_error() -> None:
    with pytest.raises(KeyError):
        VectorCache(WIDTH, 10 * ROW).rows(["1", "2"], lambda _: {"1": vector("1")})


def test_the_bound_is_read_from_the_environment_in_megabytes() -> None:
    assert cache_bytes({}) == cache_bytes({"SCENESEEK_VECTOR_CACHE": " "}) == DEFAULT_MEGABYTES * 2**20
    assert cache_bytes({"SCENESEEK_VECTOR_CACHE": "3"}) == 3 * 2**20
    assert cache_bytes({"SCENESEEK_VECTOR_CACHE": "0"}) == 0


@pytest.mark.parametrize("value", ["-1", "1.5", "256MB", "9" * 50, "1000001"])
def test_a_bound_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match="SCENESEEK_VECTOR_CACHE"):
        cache_bytes({"SCENESEEK_VECTOR_CACHE": value})
