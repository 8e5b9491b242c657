"""Bounded pipelines keep the order, read ahead only within the window, and propagate exceptions."""

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


def test_source_is_read_only_as_far_as_the_window() -> None:
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


def test_exception_is_raised_in_the_consumer() -> None:
    def fails(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="three"):
        list(bounded_map(fails, range(10), pool, window=4))


def test_all_batches_but_the_last_are_full() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([], 2)) == []


@pytest.mark.parametrize(
    ("device", "configured", "images", "size"),
    [
        ("cpu", 0, 1000, 4),
        ("cuda", 0, 1000, 16),
        ("cpu", 64, 1000, 64),
        ("cpu", 0, 5, 3),  # both threads are busy
        ("cuda", 64, 10, 5),
        ("cpu", 0, 0, 1),
    ],
)
def test_batch_size_suits_the_device_and_keeps_all_threads_busy(
    device: str, configured: int, images: int, size: int
) -> None:
    encoder: Any = SimpleNamespace(placement=SimpleNamespace(device=device))
    assert batch_size(BuildOptions(workers=2, batch=configured), encoder, images) == size


def test_missing_ray_extra_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "sceneseek_indexer.on_ray", raising=False)
    unused: Any = None
    with pytest.raises(MissingExtra, match=r"sceneseek\[ray\]"):
        list(encode_files([], unused, BuildOptions(on="ray"), {}, unused, unused))
