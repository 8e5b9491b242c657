"""Follows the alias of an index, so that searches always read the live generation.

A search borrows a `Snapshot`: the open collection behind the alias, and the models that encode and score for it. A
watcher thread replaces the snapshot as a whole when the alias has moved or when a newer bundle fits the same
generation. The replaced collection is closed when its last borrower returns it. So a switch does not fail any search,
and no search mixes two generations.

A service may start before anything is indexed, or before the store responds. Until there is a snapshot, `borrow` raises
an error with the reason; the watcher picks up the first generation like later ones.
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

from sceneseek.errors import IndexUnavailable, NothingIndexed, SceneseekError, UnfitGeneration
from sceneseek.next_step import DEFAULT_BUNDLE, index_command, missing_index_hint, public_index_command
from sceneseek.store import Collection, CollectionInfo, VectorStore

ModelsT = TypeVar("ModelsT")

# Interval of retries with a generation that could not be followed: its bundle may be copied to this machine meanwhile.
_RETRY_SECONDS = 10.0

log = logging.getLogger(__name__)


class ModelSource(Protocol[ModelsT]):
    """Provides the models for a generation."""

    def fitting(self, info: CollectionInfo, store_url: str) -> ModelsT:
        """The models for a generation.

        Raises:
            SceneseekError: no models fit; the generation is then not followed.
        """

    def newer(self, info: CollectionInfo, present: ModelsT) -> ModelsT | None:
        """Newer models for the same generation; None if there are none, which must be cheap to check.

        Raises:
            SceneseekError: the newer models do not fit, so the present ones stay in use. Raised by every call.
        """


def filled_by_another(info: CollectionInfo, store_url: str, fingerprint: str) -> IndexUnavailable:
    """The error for a generation whose vectors were computed by another image graph."""
    return IndexUnavailable(
        f"the index {store_url} was filled by another image graph ({info.image_fingerprint[:12]}) "
        f"than this bundle's ({fingerprint[:12]})",
        "use the bundle that filled it, or index the folder again with this one",
    )


@dataclass
class _Opened:
    """An open collection, and the number of snapshots that refer to it."""

    collection: Collection
    snapshots: int = 0


@dataclass(frozen=True)
class Snapshot(Generic[ModelsT]):
    """An open collection and the models that fit it, as used by one search."""

    collection: Collection
    models: ModelsT


class _Lease(Generic[ModelsT]):
    """A snapshot and the number of its borrowers; `retired` once it has been replaced."""

    def __init__(self, opened: _Opened, models: ModelsT) -> None:
        self.snapshot = Snapshot(opened.collection, models)
        self.opened = opened
        self.users = 0
        self.retired = False


class AliasFollower(Generic[ModelsT]):
    """The snapshot behind a store's alias. Thread-safe.

    Args:
        store: holds the generations.
        source: provides the models for each generation.
        bundle: directory of the bundle to suggest for indexing, in hints.
        wait: start without a snapshot if nothing is indexed yet or the store does not respond.
        prepare: called with each new snapshot before searches use it.

    Raises:
        IndexUnavailable: the live generation is locked or unfit; unless `wait`, nothing is indexed yet, or the store
            does not respond.
        SceneseekError: no models fit the live generation.

    Attributes:
        problem: why the alias is not followed; None if it is, or if nothing is indexed yet.
        ready: set once there is a snapshot.
        switches: number of times that the generation has been replaced.
        renewals: number of times that newer models have been loaded for the same generation.
    """

    def __init__(
        self,
        store: VectorStore,
        source: ModelSource[ModelsT],
        bundle: Path = DEFAULT_BUNDLE,
        wait: bool = False,
        prepare: Callable[[Snapshot[ModelsT]], object] = lambda _: None,
    ) -> None:
        self._store = store
        self._source = source
        self._bundle = bundle
        self._prepare = prepare
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self.problem: str | None = None
        self.ready = threading.Event()
        self.switches = self.renewals = 0
        self._refused: str | None = None
        self._refused_at = 0.0
        self._away: str | None = None
        self._lease: _Lease[ModelsT] | None = None
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
    def borrow(self) -> Iterator[Snapshot[ModelsT]]:
        """Borrow the snapshot for one search; its collection stays open until the block exits.

        Raises:
            IndexUnavailable: there is no snapshot yet.
        """
        with self._lock:
            lease = self._present()
            lease.users += 1
        try:
            yield lease.snapshot
        finally:
            with self._lock:
                lease.users -= 1
                closing = self._closing(lease)
            if closing:
                closing.close()

    @property
    def waiting_for(self) -> IndexUnavailable | None:
        """Why there is no snapshot yet; None once there is one."""
        return self._reason if self._lease is None else None

    @property
    def name(self) -> str:
        """The name of the live generation.

        Raises:
            IndexUnavailable: there is no snapshot yet.
        """
        return self._present().snapshot.collection.info.name

    @property
    def models(self) -> ModelsT:
        """The models for the live generation.

        Raises:
            IndexUnavailable: there is no snapshot yet.
        """
        return self._present().snapshot.models

    def refresh(self) -> bool:
        """Replace the snapshot if the alias has moved or newer models fit; True if it was replaced.

        If that fails, `problem` is set and the old snapshot stays in use.
        """
        name, old = self._store.live(), self._lease
        if self.problem is not None and self.problem == self._away:  # the index is readable again
            self.problem = self._away = None
        if name is None and old is None:
            self._set_nothing_indexed()
            return False
        retry = time.monotonic() - self._refused_at >= _RETRY_SECONDS
        moved = name is not None and (old is None or name != self.name) and (name != self._refused or retry)
        try:
            fresh = self._open(str(name)) if moved else self._renewed(old)
        except Exception as error:  # noqa: BLE001 - whatever fails, the present generation stays in use
            transient = isinstance(error, IndexUnavailable) and error.transient
            if moved and not transient:
                self._refused, self._refused_at = name, time.monotonic()
            self._not_followed(_explained(error, str(name)))
            return False
        if fresh is None:
            if name is None:
                self._not_followed(IndexUnavailable(f"the index {self._store.url} is gone", "restore it"))
            elif old is not None and name == self.name:
                self.problem = self._refused = None  # any earlier problem is resolved
            return False
        self._replace(old, fresh)
        self.problem, self._refused = None, None
        if old is not None:
            self.switches += moved
            self.renewals += not moved
        self.ready.set()
        log.info("generation %s is live", self.name)
        return True

    def follow(self, every: float = 0.5) -> None:
        """Start a thread that calls `refresh` every `every` seconds until `close`."""
        self._watcher = threading.Thread(target=self._watch, args=(every,), name="follow-alias", daemon=True)
        self._watcher.start()

    def watching(self) -> bool:
        """Whether the thread that `follow` started is alive."""
        return self._watcher is not None and self._watcher.is_alive()

    def close(self) -> None:
        """Stop following and close the collection; there must be no borrowers."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        if self._lease is not None:
            self._lease.snapshot.collection.close()

    def _watch(self, every: float) -> None:
        while not self._stop.wait(every):
            try:
                self.refresh()
            except BaseException as error:  # noqa: BLE001 - such as a server that is down; retried in the next round
                # The store logs an outage of its server once, although the errors differ between rounds.
                logged = isinstance(error, IndexUnavailable) and error.retry_after is not None
                problem = _unreadable(error)
                if self.problem != problem and not logged:
                    log.error("%s", problem)
                self.problem = self._away = problem
                if self._lease is None:
                    self._reason = error if isinstance(error, IndexUnavailable) else IndexUnavailable(problem)

    def _present(self) -> _Lease[ModelsT]:
        lease = self._lease
        if lease is None:
            # The same error is raised repeatedly: otherwise its traceback would grow each time.
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

    def _open(self, name: str) -> _Lease[ModelsT]:
        collection = self._store.open(name)
        try:
            models = self._source.fitting(collection.info, self._store.url)
            return self._leased(_Opened(collection), models)
        except BaseException:
            collection.close()
            raise

    def _not_followed(self, error: SceneseekError) -> None:
        """Record the problem, and log it once."""
        if self._lease is None:
            self._reason = IndexUnavailable(error.what, error.hint, error.retry_after or _RETRY_SECONDS)
        if str(error) != self.problem:
            self.problem = str(error)
            instead = "no generation is live yet" if self._lease is None else f"{self.name} stays live"
            log.error("%s: %s", instead, error)

    def _replace(self, old: _Lease[ModelsT] | None, fresh: _Lease[ModelsT]) -> None:
        closing = None
        with self._lock:
            self._lease = fresh
            if old is not None:
                old.retired = True
                closing = self._closing(old)
        if closing:
            closing.close()

    def _renewed(self, lease: _Lease[ModelsT] | None) -> _Lease[ModelsT] | None:
        """The same generation with newer models; None if there are none."""
        if lease is None:
            return None
        newer = self._source.newer(lease.snapshot.collection.info, lease.snapshot.models)
        return None if newer is None else self._leased(lease.opened, newer)

    def _leased(self, opened: _Opened, models: ModelsT) -> _Lease[ModelsT]:
        self._prepare(Snapshot(opened.collection, models))
        with self._lock:
            opened.snapshots += 1
        return _Lease(opened, models)

    @staticmethod
    def _closing(lease: _Lease[ModelsT]) -> Collection | None:
        """The collection to close; None while it or the lease is in use. The caller holds the lock."""
        if not lease.retired or lease.users:
            return None
        lease.opened.snapshots -= 1
        return None if lease.opened.snapshots else lease.opened.collection


def _explained(error: Exception, name: str) -> SceneseekError:
    if isinstance(error, SceneseekError):
        return error
    return UnfitGeneration(f"generation {name} cannot be opened ({type(error).__name__}: {error})", "index again")


def _unreadable(error: BaseException) -> str:
    return f"the index cannot be read ({error})"
