"""Bounded pipelines keep order, look no further ahead than they may, and pass failures on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from sceneseek.errors import MissingExtra
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.pipeline import batch_size, batched, bounded_map, encode_files


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


@pytest.mark.parametrize(
    ("device", "asked", "images", "size"),
    [
        ("cpu", 0, 1000, 4),
        ("cuda", 0, 1000, 16),
        ("cpu", 64, 1000, 64),
        ("cpu", 0, 5, 3),  # two threads have something to do
        ("cuda", 64, 10, 5),
        ("cpu", 0, 0, 1),
    ],
)
def test_a_batch_is_as_large_as_the_device_gains_by_and_leaves_no_thread_idle(
    device: str, asked: int, images: int, size: int
) -> None:
    encoder: Any = SimpleNamespace(placement=SimpleNamespace(device=device))
    assert batch_size(BuildOptions(workers=2, batch=asked), encoder, images) == size


def test_a_run_on_a_cluster_without_ray_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "sceneseek_indexer.on_ray", raising=False)
    nothing: Any = None
    with pytest.raises(MissingExtra, match=r"sceneseek\[ray\]"):
        list(encode_files([], nothing, BuildOptions(on="ray"), {}, nothing, nothing))
