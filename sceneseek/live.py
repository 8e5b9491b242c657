"""The live generation and the models that belong to it, followed while queries run.

A query borrows a pair: the open generation behind the alias, and its companion (what encodes and scores for that
generation). When the alias has moved, or a better companion has come for the same generation, a watcher makes the
new pair and swaps it in whole; what the old one alone held is closed when its last borrower returns it. So a switch
fails no query, and no query sees one half of each.

A service may begin before anything is indexed, or before the store answers: it then has no pair, `borrow` raises the
reason, and the watcher takes up the first generation as it takes up later ones.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from sceneseek.errors import IndexUnavailable, NothingIndexed, SceneseekError
from sceneseek.next_step import DEFAULT_BUNDLE, index_command, missing_index_hint, public_index_command
from sceneseek.store import Collection, CollectionInfo, VectorStore

Companion = TypeVar("Companion")

# What could not be followed is tried again: its bundle may only be on its way to this machine.
_RETRY_SECONDS = 10.0

log = logging.getLogger(__name__)


class Companions(Protocol[Companion]):
    """Where companions come from."""

    def fitting(self, info: CollectionInfo, store_url: str) -> Companion:
        """The companion of a generation.

        Raises:
            SceneseekError: none fits; the generation is then not followed.
        """

    def newer(self, info: CollectionInfo, present: Companion) -> Companion | None:
        """A companion to take the place of the present one of the same generation, or None; cheap if None.

        Raises:
            SceneseekError: there is one, but it does not fit; the present one goes on.
        """


def filled_by_another(info: CollectionInfo, store_url: str, fingerprint: str) -> IndexUnavailable:
    """The error of a generation that another image graph filled: its vectors mean nothing to this one."""
    return IndexUnavailable(
        f"the index {store_url} was filled by another image graph ({info.image_fingerprint[:12]}) "
        f"than this bundle's ({fingerprint[:12]})",
        "use the bundle that filled it, or index the folder again with this one",
    )


@dataclass
class _Opened:
    """An open collection, and how many pairs hold it."""

    collection: Collection
    pairs: int = 0


@dataclass(frozen=True)
class Pair(Generic[Companion]):
    """What answers a query: a generation, and what belongs to it."""

    collection: Collection
    companion: Companion


class _Lease(Generic[Companion]):
    """A pair and the number of those who use it; `retired` once it has been replaced."""

    def __init__(self, opened: _Opened, companion: Companion) -> None:
        self.pair = Pair(opened.collection, companion)
        self.opened = opened
        self.users = 0
        self.retired = False


class Live(Generic[Companion]):
    """The pair behind a store's alias.

    Args:
        store: where the generations are.
        companions: what belongs to each.
        bundle: the directory of the bundle that a folder would be indexed with; for hints.
        wait: begin without a pair where nothing was indexed yet, or where the store does not answer.
        prepare: called with each new pair before it answers.

    Raises:
        IndexUnavailable: the live generation is held or unfit; unless `wait`, nothing was indexed yet, or the store
            does not answer.
        SceneseekError: nothing fits the live generation.

    Attributes:
        problem: why what the alias points at is not followed; None if it is, or if nothing was indexed yet.
        ready: set once there is a pair.
        switches: how often another generation has taken the place of the one that answered.
        renewals: how often a newer companion has, for the same generation.
    """

    def __init__(
        self,
        store: VectorStore,
        companions: Companions[Companion],
        bundle: Path = DEFAULT_BUNDLE,
        wait: bool = False,
        prepare: Callable[[Pair[Companion]], object] = lambda _: None,
    ) -> None:
        self._store = store
        self._companions = companions
        self._bundle = bundle
        self._prepare = prepare
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self.problem: str | None = None
        self.ready = threading.Event()
        self.switches = self.renewals = 0
        self._refused: str | None = None
        self._refused_at = 0.0
        self._away: str | None = None
        self._lease: _Lease[Companion] | None = None
        self._reason: IndexUnavailable = self._nothing_indexed()
        try:
            name = store.live()
            if name is None:
                raise self._reason
            self._lease = self._open(name)
            self.ready.set()
        except IndexUnavailable as error:
            if not (wait and error.transient):
                raise
            self._reason = error
            if not isinstance(error, NothingIndexed):
                self.problem = self._away = _unreadable(error)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Pair[Companion]]:
        """The pair to answer one query from; its collection stays open until the block ends.

        Raises:
            IndexUnavailable: there is none yet.
        """
        with self._guard:
            lease = self._present()
            lease.users += 1
        try:
            yield lease.pair
        finally:
            with self._guard:
                lease.users -= 1
                closing = self._closing(lease)
            if closing:
                closing.close()

    @property
    def waiting_for(self) -> IndexUnavailable | None:
        """Why nothing answers yet; None once something does."""
        return self._reason if self._lease is None else None

    @property
    def name(self) -> str:
        """The generation that answers now.

        Raises:
            IndexUnavailable: there is none yet.
        """
        return self._present().pair.collection.info.name

    @property
    def companion(self) -> Companion:
        """What belongs to the generation that answers now.

        Raises:
            IndexUnavailable: there is none yet.
        """
        return self._present().pair.companion

    def refresh(self) -> bool:
        """Follow the alias if it has moved, or a companion if it is newer; True if another pair answers now.

        What cannot be followed is named in `problem` and the old pair goes on answering.
        """
        name, old = self._store.live(), self._lease
        if self.problem is not None and self.problem == self._away:  # it can be read again
            self.problem = self._away = None
        if name is None and old is None:
            self._set_nothing_indexed()
            return False
        again = time.monotonic() - self._refused_at >= _RETRY_SECONDS
        moved = name is not None and (old is None or name != self.name) and (name != self._refused or again)
        try:
            fresh = self._open(str(name)) if moved else self._renewed(old)
        except SceneseekError as error:
            transient = isinstance(error, IndexUnavailable) and error.transient
            if moved and not transient:
                self._refused, self._refused_at = name, time.monotonic()
            self._not_followed(error)
            return False
        if fresh is None:
            return False
        self._replace(old, fresh)
        self.problem, self._refused = None, None
        if old is not None:
            self.switches += moved
            self.renewals += not moved
        self.ready.set()
        log.info("generation %s answers", self.name)
        return True

    def follow(self, every: float = 0.5) -> None:
        """Start a thread that refreshes every so many seconds until `close`."""
        self._watcher = threading.Thread(target=self._watch, args=(every,), name="follow-alias", daemon=True)
        self._watcher.start()

    def watching(self) -> bool:
        """Whether the thread that `follow` started is alive."""
        return self._watcher is not None and self._watcher.is_alive()

    def close(self) -> None:
        """Stop following and close the collection; nobody may be borrowing."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        if self._lease is not None:
            self._lease.pair.collection.close()

    def _watch(self, every: float) -> None:
        while not self._stop.wait(every):
            try:
                self.refresh()
            except (OSError, SceneseekError) as error:  # a share or server that is away; the next round asks again
                # A server's outage is logged by its store, once, though its errors differ from one look to the next.
                logged = isinstance(error, IndexUnavailable) and error.retry_after is not None
                problem = _unreadable(error)
                if self.problem != problem and not logged:
                    log.error("%s", problem)
                self.problem = self._away = problem
                if self._lease is None:
                    self._reason = error if isinstance(error, IndexUnavailable) else IndexUnavailable(problem)

    def _present(self) -> _Lease[Companion]:
        lease = self._lease
        if lease is None:
            # One error for all who ask: without this its traceback would grow with each of them.
            raise self._reason.with_traceback(None)
        return lease

    def _set_nothing_indexed(self) -> None:
        before, self._reason = self._reason, self._nothing_indexed()
        self.problem = None
        if not isinstance(before, NothingIndexed):
            log.warning("%s", self._reason)

    def _nothing_indexed(self) -> NothingIndexed:
        url, bundle = self._store.url, self._bundle
        hint = missing_index_hint(url, bundle)
        return NothingIndexed(url, hint, index_command(url, bundle), public_index_command(url, bundle))

    def _open(self, name: str) -> _Lease[Companion]:
        collection = self._store.open(name)
        try:
            companion = self._companions.fitting(collection.info, self._store.url)
            return self._leased(_Opened(collection), companion)
        except BaseException:
            collection.close()
            raise

    def _not_followed(self, error: SceneseekError) -> None:
        """Name what could not be taken up, once in the log."""
        if self._lease is None:
            self._reason = IndexUnavailable(error.what, error.hint, error.retry_after or _RETRY_SECONDS)
        if str(error) != self.problem:
            self.problem = str(error)
            instead = "nothing answers yet" if self._lease is None else f"{self.name} goes on answering"
            log.error("%s: %s", instead, error)

    def _replace(self, old: _Lease[Companion] | None, fresh: _Lease[Companion]) -> None:
        closing = None
        with self._guard:
            self._lease = fresh
            if old is not None:
                old.retired = True
                closing = self._closing(old)
        if closing:
            closing.close()

    def _renewed(self, lease: _Lease[Companion] | None) -> _Lease[Companion] | None:
        """The same generation with a newer companion; None if there is none."""
        if lease is None:
            return None
        newer = self._companions.newer(lease.pair.collection.info, lease.pair.companion)
        return None if newer is None else self._leased(lease.opened, newer)

    def _leased(self, opened: _Opened, companion: Companion) -> _Lease[Companion]:
        self._prepare(Pair(opened.collection, companion))
        with self._guard:
            opened.pairs += 1
        return _Lease(opened, companion)

    @staticmethod
    def _closing(lease: _Lease[Companion]) -> Collection | None:
        """The collection to close now that this lease is done with, under the guard; None if it is not, or shared."""
        if not lease.retired or lease.users:
            return None
        lease.opened.pairs -= 1
        return None if lease.opened.pairs else lease.opened.collection


def _unreadable(error: Exception) -> str:
    return f"the index cannot be read ({error})"
