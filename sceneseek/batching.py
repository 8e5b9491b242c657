"""Batching: runs items of many threads together, for work that is cheaper in batches.

Only one run is active at a time. If none is active, a caller runs its own items immediately, without waiting for
another thread. Items that arrive during a run are queued; a worker thread then takes as many of them as may run
together. Nothing is delayed to fill a batch. The queue is bounded (`Overloaded`), and no caller waits beyond its
deadline (`DeadlinePassed`).

A batch that fails is run again item by item, so that only the failing item gets an error. If the worker dies
nevertheless, waiting callers get `WorkerLost`. `Batcher.problem` reports a dead worker and a hanging run; threads are
not replaced, since only restarting the process reliably helps.

The module is generic: `Work` defines what is run, and which items may run together.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sceneseek.errors import DeadlinePassed, Overloaded, WorkerLost

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)

# Seconds that `close` waits for the queued items.
_CLOSE_TIMEOUT = 5.0
# The weight of the last run in the moving average of seconds per item.
_LAST_RUN_WEIGHT = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batching:
    """Limits of a batcher.

    Attributes:
        max_batch: maximum number of items in a run.
        max_waiting: maximum number of queued items; more are rejected.
        hang_after: seconds after which a run counts as hanging.
    """

    max_batch: int = 32
    max_waiting: int = 256
    hang_after: float = 60.0


class Work(Protocol[Input_contra, Output_co]):
    """Processes items. Items with equal work may run together, up to `at_most`."""

    @property
    def at_most(self) -> int:
        """Maximum number of items in a run; the batcher's own limit applies too."""

    def __call__(self, items: Sequence[Input_contra], /) -> Sequence[Output_co]:
        """Return one outcome per item, in order."""

    def __hash__(self) -> int: ...


class Observer(Protocol):
    """Notified of events, in the threads where they happen; must be fast and must not raise."""

    def ran(self, kind: str, size: int, seconds: float) -> None:
        """A run of `size` items ended."""

    def waited(self, kind: str, seconds: float) -> None:
        """An item left the queue for its run."""

    def refused(self, kind: str, reason: str) -> None:
        """An item was rejected: ``overloaded``, ``deadline`` or ``worker``."""

    def looked_up(self, hit: bool) -> None:
        """An encoding was looked up in the cache."""


class NullObserver:
    """An observer that does nothing."""

    def ran(self, kind: str, size: int, seconds: float) -> None:
        """See `Observer.ran`."""

    def waited(self, kind: str, seconds: float) -> None:
        """See `Observer.waited`."""

    def refused(self, kind: str, reason: str) -> None:
        """See `Observer.refused`."""

    def looked_up(self, hit: bool) -> None:
        """See `Observer.looked_up`."""


class _QueuedItem(Generic[Item, Outcome]):
    """One item of a caller; the lock `done` is released once its outcome or error is set."""

    __slots__ = ("deadline", "done", "error", "finished", "outcome", "since", "value", "work")

    def __init__(self, work: Work[Item, Outcome], value: Item, deadline: float | None) -> None:
        self.work, self.value, self.deadline = work, value, deadline
        self.since = time.monotonic()
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.finished = False
        # A lock is the cheapest thing to wait for: an Event is a lock, a condition and a deque.
        self.done = threading.Lock()
        self.done.acquire()

    def finish(self, outcome: Outcome | None, error: Exception | None = None) -> None:
        """Set the outcome and wake the caller; further calls are ignored."""
        if not self.finished:
            self.outcome, self.error, self.finished = outcome, error, True
            self.done.release()

    def wait(self) -> bool:
        """Wait until the item is finished; False if the deadline passed first."""
        if self.deadline is None:
            return self.done.acquire()
        return self.done.acquire(timeout=min(max(self.deadline - time.monotonic(), 0.0), threading.TIMEOUT_MAX))

    def result(self) -> Outcome:
        """Return the outcome, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.outcome  # type: ignore[return-value]  # set by `finish`


class _Run(Generic[Item, Outcome]):
    """Items that run together, and the start time of the run."""

    __slots__ = ("pending", "since")

    def __init__(self, pending: Sequence[_QueuedItem[Item, Outcome]]) -> None:
        self.pending = pending
        self.since = time.monotonic()


class Batcher(Generic[Item, Outcome]):
    """A bounded queue and its worker thread. Thread-safe.

    Args:
        kind: name of the items in messages, such as ``texts``.
        settings: limits.
        observer: notified of each run and rejection.
    """

    def __init__(self, kind: str, settings: Batching, observer: Observer | None = None) -> None:
        self._kind, self._settings = kind, settings
        self._observer = observer or NullObserver()
        # The condition guards all of these; `_run` is None while no run is active.
        self._changed = threading.Condition()
        self._queue: deque[_QueuedItem[Item, Outcome]] = deque()
        self._run: _Run[Item, Outcome] | None = None
        self._problem: str | None = None
        self._seconds_per_item = 0.0
        self._closed = False
        self._worker = threading.Thread(target=self._work, name=f"run-{kind}", daemon=True)
        self._worker.start()

    def run(self, work: Work[Item, Outcome], items: Sequence[Item], deadline: float | None = None) -> list[Outcome]:
        """Run the items of one caller, and return their outcomes in order.

        Args:
            work: processes the items.
            items: at least one. More than `max_waiting` are accepted only while the queue is empty.
            deadline: on the clock of `time.monotonic`; a run in the caller's thread is not interrupted.

        Raises:
            Overloaded: the queue is full.
            DeadlinePassed: the deadline passed before all items had run.
            WorkerLost: the worker thread died.
            Exception: raised by the work for one of these items.
        """
        pending = [_QueuedItem(work, value, deadline) for value in items]
        own = self._start_or_queue(pending)
        if own is not None:
            try:
                self._run_together(pending)
            finally:
                self._end()
        for item in pending:
            if not item.wait():
                self._withdraw(pending)
                raise self._deadline_passed()
        return [item.result() for item in pending]

    def waiting(self) -> int:
        """The number of queued items."""
        return len(self._queue)

    def problem(self) -> str | None:
        """Why items cannot run now: the worker died or a run hangs; None if healthy."""
        run = self._run
        seconds = 0.0 if run is None else time.monotonic() - run.since
        if seconds > self._settings.hang_after:
            return f"a run of {self._kind} has been hanging for {seconds:.0f} s"
        return self._problem

    def close(self) -> None:
        """Run the queued items, then stop the worker; `run` must not be called afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._worker.join(_CLOSE_TIMEOUT)

    def _start_or_queue(self, pending: list[_QueuedItem[Item, Outcome]]) -> _Run[Item, Outcome] | None:
        """Start a run of these items for the caller to perform if none is active; else queue them and return None."""
        first = pending[0]
        with self._changed:
            if self._problem is not None or self._closed:
                self._observer.refused(self._kind, "worker")
                raise self._lost()
            if first.deadline is not None and first.deadline <= time.monotonic():
                raise self._deadline_passed()
            ahead = len(self._queue)
            idle = self._run is None and not ahead
            if idle and len(pending) <= min(self._settings.max_batch, first.work.at_most):
                self._run = _Run(pending)
                return self._run
            if ahead and ahead + len(pending) > self._settings.max_waiting:
                self._observer.refused(self._kind, "overloaded")
                raise Overloaded(
                    f"{ahead} {self._kind} are already waiting",
                    "ask again a little later",
                    ahead * self._seconds_per_item,
                )
            self._queue.extend(pending)
            if self._run is None:
                self._changed.notify_all()
        return None

    def _withdraw(self, pending: list[_QueuedItem[Item, Outcome]]) -> None:
        """Remove the items of a caller that gave up from the queue; results of running items are discarded."""
        with self._changed:
            withdrawn = set(map(id, pending))
            self._queue = deque(item for item in self._queue if id(item) not in withdrawn)

    def _deadline_passed(self) -> DeadlinePassed:
        self._observer.refused(self._kind, "deadline")
        return DeadlinePassed(
            "the request could not be answered in time",
            "ask again a little later",
            len(self._queue) * self._seconds_per_item,
        )

    def _lost(self) -> WorkerLost:
        return WorkerLost(f"the thread that runs the {self._kind} has ended", "ask again: the service is restarting")

    # Called in a caller's thread or the worker.

    def _end(self) -> None:
        with self._changed:
            self._run = None
            if self._queue:
                self._changed.notify_all()

    def _run_together(self, batch: Sequence[_QueuedItem[Item, Outcome]]) -> None:
        start = time.perf_counter()
        try:
            outcomes = _outcomes(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].finish(None, error)
            else:
                log.warning("a batch of %d %s failed, running them one by one", len(batch), self._kind, exc_info=True)
                for item in batch:
                    self._run_together([item])
            return
        seconds = time.perf_counter() - start
        for item, outcome in zip(batch, outcomes, strict=True):
            item.finish(outcome)
        self._seconds_per_item += _LAST_RUN_WEIGHT * (seconds / len(batch) - self._seconds_per_item)
        self._observer.ran(self._kind, len(batch), seconds)

    # The worker.

    def _work(self) -> None:
        try:
            while (run := self._take()) is not None:
                for item in run.pending:
                    self._observer.waited(self._kind, run.since - item.since)
                self._run_together(run.pending)
                self._end()
        except BaseException:  # whatever stops this thread, callers must not wait forever
            log.exception("the thread that runs the %s died", self._kind)
            self._fail_all()

    def _take(self) -> _Run[Item, Outcome] | None:
        """Wait until no run is active, then start one with the oldest item and compatible ones; None once closed."""
        with self._changed:
            while True:
                if self._run is None:
                    batch = self._next_batch()
                    if batch:
                        self._run = _Run(batch)
                        return self._run
                    if self._closed:
                        return None
                self._changed.wait()

    def _next_batch(self) -> list[_QueuedItem[Item, Outcome]]:
        batch: list[_QueuedItem[Item, Outcome]] = []
        others: list[_QueuedItem[Item, Outcome]] = []
        now, limit = time.monotonic(), 0
        while self._queue:
            item = self._queue.popleft()
            if item.deadline is not None and item.deadline <= now:
                continue  # its caller raises `DeadlinePassed`
            if not batch:
                limit = min(self._settings.max_batch, item.work.at_most)
            elif item.work != batch[0].work:
                others.append(item)
                continue
            batch.append(item)
            if len(batch) == limit:
                break
        self._queue.extendleft(reversed(others))
        return batch

    def _fail_all(self) -> None:
        """Fail all items of the active run and of the queue."""
        with self._changed:
            self._problem = f"the thread that runs the {self._kind} has died"
            lost = [*(self._run.pending if self._run else ()), *self._queue]
            self._queue.clear()
            self._run = None
        for item in lost:
            item.finish(None, self._lost())
            self._observer.refused(self._kind, "worker")


def _outcomes(batch: Sequence[_QueuedItem[Item, Outcome]]) -> Sequence[Outcome]:
    outcomes = batch[0].work([item.value for item in batch])
    if len(outcomes) != len(batch):
        raise ValueError(f"{len(outcomes)} outcomes for {len(batch)} items")
    return outcomes
