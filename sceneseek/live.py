"""The live generation, followed while queries run.

A query borrows the open collection. When the alias has moved, a watcher opens the new generation and
swaps it in; the old one is closed when its last borrower returns it. So a switch fails no query, and no
query sees two generations.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from sceneseek.errors import IndexUnavailable, SceneseekError
from sceneseek.store import Collection, VectorStore

log = logging.getLogger(__name__)


class _Lease:
    """An open collection and the number of those who use it; `retired` once it has been replaced."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.users = 0
        self.retired = False


class LiveCollection:
    """The generation behind a store's alias, for one bundle.

    Args:
        store: where the generations are.
        image_fingerprint: that of the bundle that will ask; a generation that another image graph
            filled is refused, since distances between two graphs' vectors mean nothing.

    Raises:
        IndexUnavailable: nothing was indexed yet, or the live generation is held or unfit.
    """

    def __init__(self, store: VectorStore, image_fingerprint: str) -> None:
        self._store = store
        self._fingerprint = image_fingerprint
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self.problem: str | None = None
        self._refused: str | None = None
        self._away: str | None = None
        name = store.live()
        if name is None:
            raise IndexUnavailable(
                f"nothing is indexed in {store.url}",
                f"index a folder first: sceneseek index DIR --index {store.url}",
            )
        self._lease = _Lease(self._open(name))

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Collection]:
        """The collection to answer one query from; it stays open until the block ends."""
        with self._guard:
            lease = self._lease
            lease.users += 1
        try:
            yield lease.collection
        finally:
            with self._guard:
                lease.users -= 1
                finished = lease.retired and lease.users == 0
            if finished:
                lease.collection.close()

    @property
    def name(self) -> str:
        """The generation that answers now."""
        return self._lease.collection.info.name

    def refresh(self) -> bool:
        """Follow the alias if it has moved; True if another generation answers now.

        A generation that cannot be opened is named in `problem` and the old one goes on answering.
        """
        name = self._store.live()
        if self.problem is not None and self.problem == self._away:  # it can be read again
            self.problem = self._away = None
        if name is None or name in (self.name, self._refused):
            return False
        try:
            fresh = _Lease(self._open(name))
        except SceneseekError as error:
            self.problem, self._refused = str(error), name
            log.error("generation %s is not followed, %s goes on answering: %s", name, self.name, error)
            return False
        with self._guard:
            old, self._lease = self._lease, fresh
            old.retired = True
            idle = old.users == 0
        if idle:
            old.collection.close()
        self.problem, self._refused = None, None
        log.info("generation %s answers in place of %s", name, old.collection.info.name)
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
        self._lease.collection.close()

    def _watch(self, every: float) -> None:
        while not self._stop.wait(every):
            try:
                self.refresh()
            except (OSError, SceneseekError) as error:  # a share or server that is away; the next round asks again
                problem = f"the index cannot be read ({error})"
                if self.problem != problem:
                    log.error("%s", problem)
                self.problem = self._away = problem

    def _open(self, name: str) -> Collection:
        collection = self._store.open(name)
        if collection.info.image_fingerprint != self._fingerprint:
            filled_by = collection.info.image_fingerprint[:12]
            collection.close()
            raise IndexUnavailable(
                f"the index {self._store.url} was filled by another image graph ({filled_by}) "
                f"than this bundle's ({self._fingerprint[:12]})",
                "use the bundle that filled it, or index the folder again with this one",
            )
        return collection
