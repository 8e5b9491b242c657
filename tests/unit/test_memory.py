"""Takers of memory wait for each other, and one that wants more than there is gets in alone."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from sceneseek_indexer.load import MemoryBudget


def test_no_more_is_taken_at_once_than_there_is() -> None:
    room, guard, taken, most = MemoryBudget(100, much=60), threading.Lock(), [0], [0]

    def work(units: int) -> None:
        with room.take(units):
            with guard:
                taken[0] += min(units, 100)
                most[0] = max(most[0], taken[0])
            with guard:
                taken[0] -= min(units, 100)

    draw = random.Random(0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [draw.choice([0, 1, 30, 60, 100, 500]) for _ in range(300)]))
    assert most[0] <= 100


def test_a_failure_releases_its_memory() -> None:
    room = MemoryBudget(10, much=1)
    for _ in range(3):
        try:
            with room.take(10):
                raise ValueError
        except ValueError:
            pass
    with room.take(10):
        pass
