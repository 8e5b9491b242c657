"""The batcher: items of many threads run in bounded batches, and a failing item fails only its caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from sceneseek.batching import Batcher, Batching
from sceneseek.errors import DeadlinePassed, Overloaded, WorkerLost


@dataclass(eq=False)
class Doubling:
    """Work that doubles numbers once its gate is open, and records its batches."""

    at_most: int = 100
    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    runs: list[list[Any]] = field(default_factory=list)

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        self.runs.append(list(items))
        self.begun.set()
        assert self.gate.wait(20)
        if "die" in items:
            raise SystemExit("a thread is told to end")
        return [2 * item for item in items]

    def opened(self) -> Doubling:
        self.gate.set()
        return self


Make = Callable[..., Batcher[Any, Any]]


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as closing:

        def batcher(**settings: Any) -> Batcher[Any, Any]:
            made: Batcher[Any, Any] = Batcher("numbers", Batching(**settings))
            closing.callback(made.close)
            return made

        yield batcher


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def eventually(condition: Callable[[], bool], within: float = 10) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def busy(batcher: Batcher[Any, Any], work: Doubling, callers: ThreadPoolExecutor) -> Future[list[Any]]:
    """Occupy the worker with one item until the work's gate opens."""
    first = callers.submit(batcher.run, work, [0])
    assert work.begun.wait(10)
    return first


def queued(
    batcher: Batcher[Any, Any], work: Any, items: Sequence[Any], callers: ThreadPoolExecutor
) -> list[Future[list[Any]]]:
    """Queue one caller per item, in this order."""
    waiting = []
    for item in items:
        before = batcher.waiting()
        waiting.append(callers.submit(batcher.run, work, [item]))
        eventually(lambda before=before: batcher.waiting() > before)  # type: ignore[misc]
    return waiting


def test_single_item_runs_alone(make: Make) -> None:
    work = Doubling().opened()
    assert make().run(work, [21]) == [42]
    assert work.runs == [[21]]


def test_items_queued_during_a_run_share_the_next_batch(make: Make, callers: ThreadPoolExecutor) -> None:
    batcher, work = make(), Doubling()
    first = busy(batcher, work, callers)
    others = queued(batcher, work, range(1, 9), callers)
    work.gate.set()
    assert [caller.result(10) for caller in (first, *others)] == [[2 * i] for i in range(9)]
    assert work.runs == [[0], list(range(1, 9))]


def test_batches_respect_the_size_limits(make: Make, callers: ThreadPoolExecutor) -> None:
    for batcher, work in ((make(max_batch=3), Doubling()), (make(), Doubling(at_most=3))):
        busy(batcher, work, callers)
        others = queued(batcher, work, range(7), callers)
        work.gate.set()
        assert [caller.result(10) for caller in others] == [[2 * i] for i in range(7)]
        assert [len(run) for run in work.runs] == [1, 3, 3, 1]


def test_different_work_is_batched_separately_oldest_item_first(make: Make, callers: ThreadPoolExecutor) -> None:
    batcher, first, short, long = make(), Doubling(), Doubling().opened(), Doubling().opened()
    order: list[str] = []
    short.begun, long.begun = _RecordingEvent(order, "short"), _RecordingEvent(order, "long")
    busy(batcher, first, callers)
    waiting = [
        f
        for item, work in ((1, long), (2, short), (3, long), (4, short))
        for f in queued(batcher, work, [item], callers)
    ]
    first.gate.set()
    for caller in waiting:
        caller.result(10)
    assert (long.runs, short.runs, order) == ([[1, 3]], [[2, 4]], ["long", "short"])


class _RecordingEvent(threading.Event):
    def __init__(self, order: list[str], name: str) -> None:
        super().__init__()
        self.order, self.name = order, name

    def set(self) -> None:
        self.order.append(self.name)


def test_failing_item_fails_only_its_caller(make: Make, callers: ThreadPoolExecutor) -> None:
    batcher, work = make(), Doubling()
    busy(batcher, work, callers)
    waiting = queued(batcher, work, [1, None, 3], callers)  # None cannot be doubled
    work.gate.set()
    assert [waiting[0].result(10), waiting[2].result(10)] == [[2], [6]]
    with pytest.raises(TypeError):
        waiting[1].result(10)
    assert batcher.problem() is None
    assert batcher.run(work, [4]) == [8]


def test_full_queue_raises_overloaded_with_retry_after(make: Make, callers: ThreadPoolExecutor) -> None:
    batcher, work = make(max_waiting=2), Doubling()
    busy(batcher, work, callers)
    waiting = queued(batcher, work, [1, 2], callers)
    with pytest.raises(Overloaded) as refusal:
        batcher.run(work, [3])
    assert refusal.value.status == 429
    assert refusal.value.retry_after >= 1
    work.gate.set()
    assert [caller.result(10) for caller in waiting] == [[2], [4]]


def test_expired_deadline_removes_the_item_from_the_queue(make: Make, callers: ThreadPoolExecutor) -> None:
    batcher, work = make(), Doubling()
    first = busy(batcher, work, callers)
    with pytest.raises(DeadlinePassed) as refusal:
        batcher.run(work, [1], deadline=time.monotonic() + 0.05)
    assert refusal.value.status == 503
    assert batcher.waiting() == 0
    work.gate.set()
    assert first.result(10) == [0]
    assert batcher.run(work, [2]) == [4]
    assert work.runs == [[0], [2]]


def test_dead_worker_fails_waiting_callers_and_is_reported(make: Make, callers: ThreadPoolExecutor) -> None:
    batcher, work = make(), Doubling()
    first = busy(batcher, work, callers)
    doomed = queued(batcher, work, ["die", 2], callers)
    work.gate.set()
    assert first.result(10) == [0]
    for caller in doomed:
        with pytest.raises(WorkerLost):
            caller.result(10)
    assert "has died" in str(batcher.problem())
    with pytest.raises(WorkerLost):
        batcher.run(work, [3])


def test_hanging_run_is_reported_until_it_ends(make: Make, callers: ThreadPoolExecutor) -> None:
    batcher, stuck = make(hang_after=0.05), Doubling()
    hung = busy(batcher, stuck, callers)
    eventually(lambda: "hanging" in str(batcher.problem()))
    stuck.gate.set()
    assert hung.result(10) == [0]
    eventually(lambda: batcher.problem() is None)


def test_close_runs_queued_items_and_ends_the_thread(make: Make, callers: ThreadPoolExecutor) -> None:
    before = {thread.name for thread in threading.enumerate()}
    batcher, work = make(), Doubling()
    busy(batcher, work, callers)
    waiting = queued(batcher, work, [1, 2], callers)
    closing = callers.submit(batcher.close)
    work.gate.set()
    assert [caller.result(10) for caller in waiting] == [[2], [4]]
    closing.result(10)
    left = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in left if "numbers" in name}
    with pytest.raises(WorkerLost):
        batcher.run(work, [3])
