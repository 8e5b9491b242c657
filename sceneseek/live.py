"""What answers now: the live generation and what belongs to it, followed while queries run.

A query borrows a pair: the open generation behind the alias, and its companion (what encodes and scores for that
generation). When the alias has moved, or a better companion has come for the same generation, a watcher makes the
new pair and swaps it in whole; what the old one alone held is closed when its last borrower returns it. So a switch
fails no query, and no query sees one half of each.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sceneseek.errors import IndexUnavailable, SceneseekError
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

    Raises:
        IndexUnavailable: nothing was indexed yet, or the live generation is held or unfit.
        SceneseekError: nothing fits the live generation.

    Attributes:
        problem: why what the alias points at is not followed; None if it is.
        switches: how often another generation has taken the place of the one that answered.
        renewals: how often a newer companion has, for the same generation.
    """

    def __init__(self, store: VectorStore, companions: Companions[Companion]) -> None:
        self._store = store
        self._companions = companions
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self.problem: str | None = None
        self.switches = self.renewals = 0
        self._refused: str | None = None
        self._refused_at = 0.0
        self._away: str | None = None
        name = store.live()
        if name is None:
            raise IndexUnavailable(
                f"nothing is indexed in {store.url}",
                f"index a folder first: sceneseek index DIR --index {store.url}",
            )
        self._lease = self._open(name)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Pair[Companion]]:
        """The pair to answer one query from; its collection stays open until the block ends."""
        with self._guard:
            lease = self._lease
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
    def name(self) -> str:
        """The generation that answers now."""
        return self._lease.pair.collection.info.name

    @property
    def companion(self) -> Companion:
        """What belongs to the generation that answers now."""
        return self._lease.pair.companion

    def refresh(self) -> bool:
        """Follow the alias if it has moved, or a companion if it is newer; True if another pair answers now.

        What cannot be followed is named in `problem` and the old pair goes on answering.
        """
        name = self._store.live()
        if self.problem is not None and self.problem == self._away:  # it can be read again
            self.problem = self._away = None
        again = time.monotonic() - self._refused_at >= _RETRY_SECONDS
        moved = name not in (None, self.name) and (name != self._refused or again)
        try:
            fresh = self._open(str(name)) if moved else self._renewed()
        except SceneseekError as error:
            if moved:
                self._refused, self._refused_at = name, time.monotonic()
            if str(error) != self.problem:
                self.problem = str(error)
                log.error("%s goes on answering as it does: %s", self.name, error)
            return False
        if fresh is None:
            return False
        with self._guard:
            old, self._lease = self._lease, fresh
            old.retired = True
            closing = self._closing(old)
        if closing:
            closing.close()
        self.problem, self._refused = None, None
        if moved:
            self.switches += 1
        else:
            self.renewals += 1
        log.info("generation %s answers in place of %s", self.name, old.pair.collection.info.name)
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
        self._lease.pair.collection.close()

    def _watch(self, every: float) -> None:
        while not self._stop.wait(every):
            try:
                self.refresh()
            except (OSError, SceneseekError) as error:  # a share or server that is away; the next round asks again
                problem = f"the index cannot be read ({error})"
                if self.problem != problem:
                    log.error("%s", problem)
                self.problem = self._away = problem

    def _open(self, name: str) -> _Lease[Companion]:
        collection = self._store.open(name)
        try:
            companion = self._companions.fitting(collection.info, self._store.url)
        except BaseException:
            collection.close()
            raise
        return self._leased(_Opened(collection), companion)

    def _renewed(self) -> _Lease[Companion] | None:
        """The same generation with a newer companion."""
        pair = self._lease.pair
        newer = self._companions.newer(pair.collection.info, pair.companion)
        return None if newer is None else self._leased(self._lease.opened, newer)

    def _leased(self, opened: _Opened, companion: Companion) -> _Lease[Companion]:
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
