"""The lease of one alias: one writer at a time, across machines.

The lease is one point in a collection of its own, `sceneseek-ALIAS-lease`. Its payload has

    token   "WRITER.N": a random name of the holder, and the number of renewals; empty if the lease is free
    holder  a description of the process, for messages

A thread renews the lease every few seconds, even while the process writes or encodes, or the server builds a graph. It
does not use the collections that are searched. Clocks of different machines are not compared: another writer polls the
lease, and takes it over once the token has not changed for `FREE_AFTER` seconds in which the server responded. An
outage does not count, because the holder cannot renew during it.

Every change is a conditional update: it applies only if the point still has the token that was read. On a cluster the
leader of the shard orders them. Each change is read back, so a lost response is harmless.

A holder that was paused or disconnected may have lost the lease. So `check` sends a request once the last renewal is
older than `TRUSTED` seconds, and `confirm` always does. One request lies between `confirm` and the switch of the alias:
only a process that is paused at that moment for longer than `FREE_AFTER`, while another writer waits, would switch
without the lease.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from qdrant_client import QdrantClient, models

from sceneseek.errors import IndexUnavailable
from sceneseek.store.lease import take_lease, this_process
from sceneseek.store.qdrant.connection import Connection, RequestFailed
from sceneseek.store.qdrant.failure import FAILURES, Outage
from sceneseek.store.qdrant.settings import QdrantSettings

log = logging.getLogger(__name__)

# A dead holder is detected after FREE_AFTER, a poll and a request, in less than thirty seconds.
RENEW_EVERY, FREE_AFTER, TRUSTED = 4.0, 20.0, 10.0
_POLL_SECONDS = 1.0
# If a waiting writer could not read the lease for so long (disconnected, or the server was down), it starts over.
_MAX_POLL_GAP = 6.0
# Of one request: short, so that a hanging one (the first write after a node has died) does not stop renewals.
_TIMEOUT = 5
# Seconds for retries of `is_held`, which a service may call while it handles a request.
_IS_HELD_PATIENCE = 1.0
_POINT = 1
# A clock that continues during suspend, if the system has one.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class _State(NamedTuple):
    """The payload of the lease's point."""

    token: str
    holder: str


class _Watch:
    """Measures how long a polled token has not changed; starts over after a gap of more than `max_gap` seconds."""

    def __init__(self, max_gap: float) -> None:
        self._max_gap, self._token = max_gap, ""
        self._since = self._last = -math.inf

    def seconds(self, token: str) -> float:
        now = _now()
        if token != self._token or now - self._last > self._max_gap:
            self._since = now
        self._token, self._last = token, now
        return now - self._since

    def restart(self) -> None:
        self._token = ""


class Lease:
    """The lease of one alias on one server. Thread-safe.

    Args:
        url: of the server.
        settings: see `QdrantSettings`; `held`, `check` and `confirm` use its patience.
        outage: shared with the other requests of this process to the same server.
    """

    def __init__(self, url: str, settings: QdrantSettings, outage: Outage | None = None) -> None:
        # A separate connection, with a shorter timeout than for the large requests of a run.
        self._connection = Connection(url, replace(settings, timeout=min(settings.timeout, _TIMEOUT)), outage)
        self._name, self._settings = collection_name(settings.alias), settings
        self._watch = _Watch(math.inf)
        self._mutex = threading.RLock()
        self._token = ""
        self._renewed = -math.inf
        self._lost: IndexUnavailable | None = None

    @contextlib.contextmanager
    def held(self, wait: bool) -> Iterator[None]:
        """Hold the lease for a block; see `VectorStore.writing`."""
        watch = _Watch(_MAX_POLL_GAP)
        hint = "wait until that run has ended, or choose another SCENESEEK_QDRANT_ALIAS"
        take_lease(lambda: self._take(watch), self._connection.url, hint, wait, _POLL_SECONDS)
        over = threading.Event()
        renewing = threading.Thread(target=self._renew_until, args=(over,), name="lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            over.set()
            renewing.join()
            self._release()

    def check(self) -> None:
        """Confirm the lease unless that was done recently; called before each write.

        Raises:
            IndexUnavailable: another writer holds the lease.
        """
        if self._lost is not None or _now() - self._renewed > TRUSTED:
            self.confirm()

    def confirm(self) -> None:
        """Renew the lease now, with the retries of a write.

        Raises:
            IndexUnavailable: another writer holds the lease.
        """
        self._renew(self._settings.patience)

    def is_held(self) -> bool:
        """Whether a process holds the lease; a dead one counts for `FREE_AFTER` seconds after the first call."""
        state = self._read(_IS_HELD_PATIENCE)
        return state is not None and state.token != "" and self._watch.seconds(state.token) < FREE_AFTER

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _take(self, watch: _Watch) -> str | None:
        """Take the lease if it is free; else return its holder."""
        patience = self._settings.patience
        state = self._read(patience)
        if state is None:
            self._create_collection()
            state = _State("", "")
        elif state.token and watch.seconds(state.token) < FREE_AFTER:
            return state.holder
        self._lost = None
        start, token = _now(), f"{uuid.uuid4().hex}.0"
        try:
            found = self._replace(state.token, _State(token, this_process()), 0.0 if state.token else patience)
        except RequestFailed as error:
            if not (state.token and error.failure.transient):
                raise
            # The same failure may have prevented its holder from renewing it.
            log.warning("the lease of %s cannot be taken over: %s", state.holder, error)
            watch.restart()
            return state.holder
        if found.token != token:
            return found.holder
        if state.token:
            log.warning("%s has not renewed its lease on the index for %.0f s: taken over", state.holder, FREE_AFTER)
        self._token, self._renewed = token, start
        return None

    def _renew_until(self, over: threading.Event) -> None:
        while self._lost is None and not over.wait(RENEW_EVERY):
            try:
                self._renew(0.0)
            except IndexUnavailable as error:  # the next attempt may succeed; a lost lease is reported by `check`
                log.debug("the lease was not renewed: %s", error)

    def _renew(self, patience: float) -> None:
        with self._mutex:
            if self._lost is not None:
                raise self._lost
            writer, count = self._token.split(".")
            start, token = _now(), f"{writer}.{int(count) + 1}"
            found = self._replace(self._token, _State(token, this_process()), patience)
            if found.token.partition(".")[0] != writer:
                self._lost = IndexUnavailable(
                    f"this run has lost its lease on the index {self._connection.url} to "
                    f"{found.holder or 'another run, which has ended'}: it did not reach the server in time",
                    "run the same command again",
                )
                raise self._lost
            self._token, self._renewed = found.token, start

    def _release(self) -> None:
        with self._mutex, contextlib.suppress(IndexUnavailable):  # else it becomes free after FREE_AFTER seconds
            if self._lost is None:
                self._replace(self._token, _State("", ""), 0.0)

    def _read(self, patience: float) -> _State | None:
        """The state of the lease; None if it was never taken."""
        try:
            return self._connection.call(self._state, patience)
        except RequestFailed as error:
            if error.failure.kind == "missing":
                return None
            raise

    def _replace(self, expected: str, state: _State, patience: float) -> _State:
        """Write a state if the token is the expected one or missing; return the resulting state."""
        point = models.PointStruct(id=_POINT, vector=[1.0], payload=state._asdict())
        unchanged = models.Filter(must=[models.FieldCondition(key="token", match=models.MatchValue(value=expected))])
        ordering = models.WriteOrdering.MEDIUM

        def replaced(client: QdrantClient) -> _State:
            try:
                client.upsert(self._name, [point], wait=True, ordering=ordering, update_filter=unchanged)
            except FAILURES:
                # If the write timed out on a dead replica, the other replicas may have applied it.
                if (found := self._state(client)).token != state.token:
                    raise
                return found
            return self._state(client)

        return self._connection.call(replaced, patience)

    def _state(self, client: QdrantClient) -> _State:
        found = client.retrieve(self._name, [_POINT], with_payload=True, with_vectors=False)
        payload = (found[0].payload or {}) if found else {}
        return _State(payload.get("token", ""), payload.get("holder", ""))

    def _create_collection(self) -> None:
        """Create the collection, with the payload index that a server in strict mode requires."""
        vectors = models.VectorParams(size=1, distance=models.Distance.DOT, hnsw_config=models.HnswConfigDiff(m=0))
        try:
            self._connection.call(
                lambda client: client.create_collection(
                    self._name,
                    vectors_config=vectors,
                    shard_number=1,
                    replication_factor=self._settings.replicas or None,
                )
            )
        except RequestFailed as error:
            if error.failure.kind != "exists":
                raise
        keyword = models.PayloadSchemaType.KEYWORD
        self._connection.call(lambda client: client.create_payload_index(self._name, "token", keyword, wait=True))


def collection_name(alias: str) -> str:
    """The name of the collection that contains the lease of an alias."""
    return f"sceneseek-{alias}-lease"


def _now() -> float:
    return time.clock_gettime(_CLOCK)
