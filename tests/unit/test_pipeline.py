"""Bounded pipelines keep order, look no further ahead than they may, and pass failures on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sceneseek_indexer.pipeline import batched, bounded_map


def test_results_keep_the_order_of_the_source() -> None:
    def slow_first(i: int) -> int:
        time.sleep(0.02 if i % 4 == 0 else 0)
        return i

    with ThreadPoolExecutor(4) as pool:
        assert list(bounded_map(slow_first, range(30), pool, window=5)) == list(range(30))


def test_the_source_is_read_no_further_than_the_window() -> None:
    read = []

    def source() -> Iterator[int]:
        for i in range(100):
            read.append(i)
            yield i

    with ThreadPoolExecutor(2) as pool:
        results = bounded_map(lambda i: i, source(), pool, window=6)
        for taken in range(1, 20):
            next(results)
            assert len(read) <= 6 + taken


def test_a_failure_reaches_the_reader() -> None:
    def fails(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="three"):
        list(bounded_map(fails, range(10), pool, window=4))


def test_batches_are_full_but_the_last() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([], 2)) == []
