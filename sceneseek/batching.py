"""Items from many threads through work that is cheaper for many at once.

One run goes on at a time. Who comes while there is none runs his items himself, at once, so a lone caller pays for no
other thread. Who comes meanwhile waits; one worker thread then takes what has queued, as many as belong together, and
runs them as one. Nothing is delayed to fill a batch. What waits is bounded (`Overloaded`), and nobody waits longer
than his deadline (`DeadlinePassed`).

A failed batch is run again item by item, so that only who fails alone gets an error. A worker that dies all the same
fails those who wait (`WorkerLost`), and a supervisor replaces it; a run that hangs is left behind, and its thread
replaced too. `Batcher.problem` tells of both until the replacement works.

It knows nothing of texts and images: what is run, and which items may run together, is said by `Work`.
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
Takes_contra = TypeVar("Takes_contra", contravariant=True)
Gives_co = TypeVar("Gives_co", covariant=True)

# How often the supervisor looks whether a run hangs, and how soon it replaces a dead worker: later each time in a row.
_LOOK_EVERY = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# How long a close waits for what still waits.
_CLOSING = 5.0
# The weight of the last run in the seconds that an item is taken to need.
_LAST = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batching:
    """How items are brought together.

    Attributes:
        max_batch: the most items of one run.
        max_waiting: the most items that may wait; more are refused.
        hang_after: seconds after which a run counts as hung.
    """

    max_batch: int = 32
    max_waiting: int = 256
    hang_after: float = 60.0


class Work(Protocol[Takes_contra, Gives_co]):
    """What is done with items. Items whose work is equal may run together, up to `at_most`."""

    @property
    def at_most(self) -> int:
        """The most items of one run; the batcher's own limit holds beside it."""

    def __call__(self, items: Sequence[Takes_contra], /) -> Sequence[Gives_co]:
        """One outcome an item, in order."""

    def __hash__(self) -> int: ...


class Observer(Protocol):
    """Told what happens; called from the threads it happens in, so it must be quick and not raise."""

    def ran(self, kind: str, size: int, seconds: float) -> None:
        """A run of so many items ended."""

    def waited(self, kind: str, seconds: float) -> None:
        """An item has left the queue for its run."""

    def refused(self, kind: str, reason: str) -> None:
        """An item was not run: ``overloaded``, ``deadline`` or ``worker``."""

    def looked_up(self, hit: bool) -> None:
        """An encoding was looked for in the cache."""


class NobodyLooks:
    """The observer who does nothing."""

    def ran(self, kind: str, size: int, seconds: float) -> None:
        """See `Observer.ran`."""

    def waited(self, kind: str, seconds: float) -> None:
        """See `Observer.waited`."""

    def refused(self, kind: str, reason: str) -> None:
        """See `Observer.refused`."""

    def looked_up(self, hit: bool) -> None:
        """See `Observer.looked_up`."""


class _Ticket(Generic[Item, Outcome]):
    """One item on its way; `done` is let go once it has its outcome or its error."""

    __slots__ = ("deadline", "done", "error", "finished", "item", "outcome", "since", "work")

    def __init__(self, work: Work[Item, Outcome], item: Item, deadline: float | None) -> None:
        self.work, self.item, self.deadline = work, item, deadline
        self.since = time.monotonic()
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.finished = False
        # The cheapest thing to wait for: an Event is a lock, a condition and a deque.
        self.done = threading.Lock()
        self.done.acquire()

    def finish(self, outcome: Outcome | None, error: Exception | None = None) -> None:
        """Let the one who waits go on; a second time changes nothing."""
        if not self.finished:
            self.outcome, self.error, self.finished = outcome, error, True
            self.done.release()

    def wait(self) -> bool:
        """Wait for the end; False if the deadline came first."""
        if self.deadline is None:
            return self.done.acquire()
        return self.done.acquire(timeout=min(max(self.deadline - time.monotonic(), 0.0), threading.TIMEOUT_MAX))

    def result(self) -> Outcome:
        """The outcome, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.outcome  # type: ignore[return-value]  # `finish` was called with one


class _Run(Generic[Item, Outcome]):
    """Items that run together, since when, and whether it has come to an end."""

    __slots__ = ("ended", "since", "tickets")

    def __init__(self, tickets: Sequence[_Ticket[Item, Outcome]]) -> None:
        self.tickets = tickets
        self.since = time.monotonic()
        self.ended = False


class Batcher(Generic[Item, Outcome]):
    """A bounded queue, its worker thread, and the supervisor that replaces it. Thread-safe.

    Args:
        kind: what the items are, in the plural and for people: ``texts``.
        settings: limits.
        observer: told of each run and refusal.
    """

    def __init__(self, kind: str, settings: Batching, observer: Observer | None = None) -> None:
        self._kind, self._settings = kind, settings
        self._observer = observer or NobodyLooks()
        # All of these change under the condition; the run is None where none goes on.
        self._changed = threading.Condition()
        self._queue: deque[_Ticket[Item, Outcome]] = deque()
        self._run: _Run[Item, Outcome] | None = None
        self._worker: threading.Thread | None = None
        self._problem: str | None = None
        self._left_behind: _Run[Item, Outcome] | None = None
        self._seconds_an_item = 0.0
        self._closed = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name=f"look-after-{kind}", daemon=True)
        self._supervisor.start()

    def run(self, work: Work[Item, Outcome], items: Sequence[Item], deadline: float | None = None) -> list[Outcome]:
        """The outcomes of items that are one caller's, in order; each is an item of its own.

        Args:
            work: what to do with them.
            items: at least one. More than may ever wait are taken only while nobody else waits.
            deadline: on the clock of `time.monotonic`; a run that has begun in this thread is not broken off.

        Raises:
            Overloaded: too many items wait.
            DeadlinePassed: no outcome in time.
            WorkerLost: the worker died meanwhile, or has not been replaced yet.
            Exception: what the work raised for one of the items alone.
        """
        tickets = [_Ticket(work, item, deadline) for item in items]
        own = self._begin_or_queue(tickets)
        if own is not None:
            try:
                self._run_together(own, tickets)
            finally:
                self._end(own)
        for ticket in tickets:
            if not ticket.wait():
                self._forget(tickets)
                raise self._too_late()
        return [ticket.result() for ticket in tickets]

    def waiting(self) -> int:
        """How many items wait for a run."""
        return len(self._queue)

    def problem(self) -> str | None:
        """Why it cannot serve now: the worker died or a run hangs; None if all is well."""
        if self._closed.is_set():
            return None
        if not self._supervisor.is_alive():
            return f"the thread that looks after the {self._kind} has died"
        return self._hung() or self._problem

    def close(self) -> None:
        """Let what waits be run, then end the threads; nobody may hand in items any more."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._supervisor.join(_CLOSING)

    def _begin_or_queue(self, tickets: list[_Ticket[Item, Outcome]]) -> _Run[Item, Outcome] | None:
        """The run of these alone, for the caller to perform, if none goes on; else they wait in the queue."""
        first = tickets[0]
        with self._changed:
            if self._problem is not None or self._closed.is_set():
                self._observer.refused(self._kind, "worker")
                raise self._lost()
            if first.deadline is not None and first.deadline <= time.monotonic():
                raise self._too_late()
            ahead = len(self._queue)
            idle = self._run is None and not ahead
            if idle and len(tickets) <= min(self._settings.max_batch, first.work.at_most):
                self._run = _Run(tickets)
                return self._run
            if ahead and ahead + len(tickets) > self._settings.max_waiting:
                self._observer.refused(self._kind, "overloaded")
                raise Overloaded(
                    f"{ahead} {self._kind} are waiting already",
                    "ask again a little later",
                    ahead * self._seconds_an_item,
                )
            self._queue.extend(tickets)
            if self._run is None:
                self._changed.notify_all()
        return None

    def _forget(self, tickets: list[_Ticket[Item, Outcome]]) -> None:
        """Take what nobody waits for any more off the queue; what runs already goes on, for nobody."""
        with self._changed:
            gone = set(map(id, tickets))
            self._queue = deque(ticket for ticket in self._queue if id(ticket) not in gone)

    def _too_late(self) -> DeadlinePassed:
        self._observer.refused(self._kind, "deadline")
        return DeadlinePassed(
            "the request could not be answered in time",
            "ask again a little later",
            len(self._queue) * self._seconds_an_item,
        )

    def _lost(self) -> WorkerLost:
        return WorkerLost(f"the thread that runs the {self._kind} was lost", "ask again: it is being replaced")

    # A run, in a caller's thread or the worker's.

    def _end(self, run: _Run[Item, Outcome]) -> None:
        with self._changed:
            run.ended = True
            if self._run is run:  # it was not given up meanwhile
                self._run = None
                if self._queue:
                    self._changed.notify_all()

    def _run_together(self, run: _Run[Item, Outcome], batch: Sequence[_Ticket[Item, Outcome]]) -> None:
        start = time.perf_counter()
        try:
            outcomes = _outcomes(batch)
        except Exception as error:
            if len(batch) == 1:
                self._settle(run, batch, [None], error)
            else:
                log.warning("%d %s failed together and are run one by one", len(batch), self._kind, exc_info=True)
                for ticket in batch:
                    self._run_together(run, [ticket])
            return
        seconds = time.perf_counter() - start
        self._settle(run, batch, outcomes)
        self._seconds_an_item += _LAST * (seconds / len(batch) - self._seconds_an_item)
        self._observer.ran(self._kind, len(batch), seconds)

    def _settle(
        self,
        run: _Run[Item, Outcome],
        batch: Sequence[_Ticket[Item, Outcome]],
        outcomes: Sequence[Outcome | None],
        error: Exception | None = None,
    ) -> None:
        with self._changed:
            if self._run is run:  # one that was given up speaks for nobody any more
                for ticket, outcome in zip(batch, outcomes, strict=True):
                    ticket.finish(outcome, error)

    # The worker.

    def _work(self) -> None:
        me = threading.current_thread()
        try:
            while (run := self._take(me)) is not None:
                for ticket in run.tickets:
                    self._observer.waited(self._kind, run.since - ticket.since)
                self._run_together(run, run.tickets)
                self._end(run)
        except BaseException:  # whatever ends this thread, the supervisor takes it from here
            log.exception("the thread that runs the %s died", self._kind)
            self._give_up(f"the thread that runs the {self._kind} has died and is being replaced")

    def _take(self, me: threading.Thread) -> _Run[Item, Outcome] | None:
        """The oldest item and those that may run with it, once no run goes on; None if this thread is to end."""
        with self._changed:
            while self._worker is me:
                if self._run is None:
                    batch = self._next_batch()
                    if batch:
                        self._run = _Run(batch)
                        return self._run
                    if self._closed.is_set():
                        break
                self._changed.wait()
        return None

    def _next_batch(self) -> list[_Ticket[Item, Outcome]]:
        batch: list[_Ticket[Item, Outcome]] = []
        others: list[_Ticket[Item, Outcome]] = []
        now, limit = time.monotonic(), 0
        while self._queue:
            ticket = self._queue.popleft()
            if ticket.deadline is not None and ticket.deadline <= now:
                continue  # whoever waits for it finds out by himself
            if not batch:
                limit = min(self._settings.max_batch, ticket.work.at_most)
            elif ticket.work != batch[0].work:
                others.append(ticket)
                continue
            batch.append(ticket)
            if len(batch) == limit:
                break
        self._queue.extendleft(reversed(others))
        return batch

    # The supervisor.

    def _supervise(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            started = time.monotonic()
            worker = threading.Thread(target=self._work, name=f"run-{self._kind}", daemon=True)
            with self._changed:
                self._worker, self._problem = worker, None
            worker.start()
            if not self._lost_it(worker):
                return
            if time.monotonic() - started > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            if self._closed.wait(pause):
                return
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _lost_it(self, worker: threading.Thread) -> bool:
        """Wait until the worker has to be replaced; False once it has ended as it was told."""
        while True:
            worker.join(_LOOK_EVERY)
            if not worker.is_alive():
                return self._problem is not None
            hung = self._hung()
            # One is left behind, not one after another: where the next hangs too, only a new process helps.
            if hung is not None and (self._left_behind is None or self._left_behind.ended):
                self._left_behind = self._run
                log.error("%s; it is left behind, and another thread takes over", hung)
                self._give_up(hung)
                return True

    def _hung(self) -> str | None:
        run = self._run
        seconds = 0.0 if run is None else time.monotonic() - run.since
        return f"a run of {self._kind} hangs since {seconds:.0f} s" if seconds > self._settings.hang_after else None

    def _give_up(self, problem: str) -> None:
        """Take leave of the worker and of the run that goes on, and fail those who wait."""
        with self._changed:
            self._problem, self._worker = problem, None
            lost = [*(self._run.tickets if self._run else ()), *self._queue]
            self._queue.clear()
            self._run = None
            for ticket in lost:
                ticket.finish(None, self._lost())
            self._changed.notify_all()
        for _ in lost:
            self._observer.refused(self._kind, "worker")


def _outcomes(batch: Sequence[_Ticket[Item, Outcome]]) -> Sequence[Outcome]:
    outcomes = batch[0].work([ticket.item for ticket in batch])
    if len(outcomes) != len(batch):
        raise ValueError(f"{len(batch)} items had {len(outcomes)} outcomes")
    return outcomes
