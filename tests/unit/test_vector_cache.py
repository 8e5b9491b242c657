"""The vector cache returns correct vectors despite evictions, and stays within its bound."""

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
    """Vectors by id, with a record of the reads."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, ids: list[str]) -> Mapping[str, Floats]:
        self.read += ids
        return {identity: vector(identity) for identity in ids}


def vector(identity: str) -> Floats:
    return np.array([int(identity), -int(identity), 0.5], dtype=np.float32)


@given(st.lists(st.lists(st.integers(0, 30).map(str), unique=True), max_size=8))
def test_rows_are_returned_in_order_and_read_once_if_all_fit(requests: list[list[str]]) -> None:
    cache, engine = VectorCache(WIDTH, 31 * ROW), Engine()
    for ids in requests:
        rows = cache.rows(ids, engine)
        assert rows.shape == (len(ids), WIDTH)
        assert all((row == vector(identity)).all() for row, identity in zip(rows, ids, strict=True))
    assert len(engine.read) == len(set(engine.read))


@given(st.integers(0, 12), st.lists(st.lists(st.integers(0, 30).map(str), unique=True), max_size=8))
def test_rows_are_correct_and_cache_stays_bounded_if_not_all_fit(capacity: int, requests: list[list[str]]) -> None:
    cache, engine = VectorCache(WIDTH, capacity * ROW + ROW - 1), Engine()
    for ids in requests:
        rows = cache.rows(ids, engine)
        assert all((row == vector(identity)).all() for row, identity in zip(rows, ids, strict=True))
        assert len(cache) <= capacity


def test_least_recently_used_row_is_evicted() -> None:
    cache, engine = VectorCache(WIDTH, 3 * ROW), Engine()
    cache.rows(["1", "2", "3"], engine)
    cache.rows(["1"], engine)
    cache.rows(["4"], engine)
    engine.read.clear()
    cache.rows(["1", "3", "4"], engine)
    assert engine.read == []
    cache.rows(["2"], engine)
    assert engine.read == ["2"]


def test_concurrent_reads_return_correct_rows_during_eviction() -> None:
    cache, engine = VectorCache(WIDTH, 120 * ROW), Engine()

    def ask(start: int) -> bool:
        ids = [str((start + step) % 500) for step in range(100)]
        return all((row == vector(i)).all() for row, i in zip(cache.rows(ids, engine), ids, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(0, 5_000, 7)))


def test_row_missing_from_engine_raises_key_error() -> None:
    with pytest.raises(KeyError):
        VectorCache(WIDTH, 10 * ROW).rows(["1", "2"], lambda _: {"1": vector("1")})


def test_cache_size_is_read_from_environment_in_megabytes() -> None:
    assert cache_bytes({}) == cache_bytes({"SCENESEEK_VECTOR_CACHE": " "}) == DEFAULT_MEGABYTES * 2**20
    assert cache_bytes({"SCENESEEK_VECTOR_CACHE": "3"}) == 3 * 2**20
    assert cache_bytes({"SCENESEEK_VECTOR_CACHE": "0"}) == 0


@pytest.mark.parametrize("value", ["-1", "1.5", "256MB", "9" * 50, "1000001"])
def test_invalid_cache_size_is_rejected(value: str) -> None:
    with pytest.raises(InvalidRequest, match="SCENESEEK_VECTOR_CACHE"):
        cache_bytes({"SCENESEEK_VECTOR_CACHE": value})
