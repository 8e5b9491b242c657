"""`MemoryBudget`: callers wait for free memory; a request larger than the budget runs alone."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from sceneseek_indexer.load import MemoryBudget


def test_memory_budget_is_never_exceeded() -> None:
    budget, guard, in_use, peak = MemoryBudget(100, much=60), threading.Lock(), [0], [0]

    def work(units: int) -> None:
        with budget.take(units):
            with guard:
                in_use[0] += min(units, 100)
                peak[0] = max(peak[0], in_use[0])
            with guard:
                in_use[0] -= min(units, 100)

    rng = random.Random(0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [rng.choice([0, 1, 30, 60, 100, 500]) for _ in range(300)]))
    assert peak[0] <= 100


def test_memory_is_released_on_exception() -> None:
    budget = MemoryBudget(10, much=1)
    for _ in range(3):
        try:
            with budget.take(10):
                raise ValueError
        except ValueError:
            pass
    with budget.take(10):
        pass
