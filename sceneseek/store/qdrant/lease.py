"""The lease on one alias: one writer at a time, whatever machines the writers run on.

The lease is one point in a collection of its own, `sceneseek-ALIAS-lease`. Its payload has

    token   "WRITER.N": a random name for the holding, and how often it was renewed; empty when it is free
    holder  which process that is, for people

A holder renews it every few seconds from a thread of its own, so that writing, encoding and the server's building
of a graph do not keep it from doing so, and renewing touches no collection that is searched. No clocks are compared:
who wants the lease watches it, and takes it over once its token has stayed the same for `FREE_AFTER` seconds in which
the server answered. An outage does not count, since nobody can renew then.

Every change is one conditional update: it takes place only where the point still holds the token that was read. On
a cluster the shard's leader brings them into one order. What a change did is read back, so a lost answer does no harm.

A holder that was paused, or cut off while others were not, may have lost the lease. `check` therefore asks the server
once the last renewal is older than `TRUSTED` seconds, and `confirm` always asks. Between `confirm` and the switch of
the alias that follows it lies one request: only a process that is paused just there for longer than `FREE_AFTER`,
while another waits, would still switch.
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
from sceneseek.store.qdrant.connection import Connection, Refusal
from sceneseek.store.qdrant.failure import FAILURES
from sceneseek.store.qdrant.outage import Outage
from sceneseek.store.qdrant.settings import QdrantSettings

log = logging.getLogger(__name__)

# A holder's death is noticed after FREE_AFTER, a poll and a request: in less than thirty seconds.
RENEW_EVERY, FREE_AFTER, TRUSTED = 4.0, 20.0, 10.0
_POLL_SECONDS = 1.0
# Who has not looked at the lease for so long (it was cut off, or the server was away) begins to watch anew.
_BLIND_SECONDS = 6.0
# For one request: short, so that one that hangs (the first write after a node has died) does not stop the renewing.
_TIMEOUT = 5
# For the one who looks only, who may be a service that answers a request.
_LOOK_PATIENCE = 1.0
_POINT = 1
# Goes on while the machine sleeps, where the system has such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class _State(NamedTuple):
    """What the lease's point holds."""

    token: str
    holder: str


class _Watch:
    """For how long a token has stayed the same while it was watched."""

    def __init__(self, blind: float) -> None:
        self._blind, self._token = blind, ""
        self._since = self._last = -math.inf

    def seconds(self, token: str) -> float:
        now = _now()
        if token != self._token or now - self._last > self._blind:
            self._since = now
        self._token, self._last = token, now
        return now - self._since

    def restart(self) -> None:
        self._token = ""


class Lease:
    """The lease of one alias on one server. Thread-safe.

    Args:
        url: of the server.
        settings: see `QdrantSettings`; its patience is that of `held`, `check` and `confirm`.
        outage: of the same server, as the other requests of this process see it.
    """

    def __init__(self, url: str, settings: QdrantSettings, outage: Outage | None = None) -> None:
        # A connection of its own: beside the large requests of a run, with a timeout of its own.
        self._connection = Connection(url, replace(settings, timeout=min(settings.timeout, _TIMEOUT)), outage)
        self._name, self._settings = collection_name(settings.alias), settings
        self._looking = _Watch(math.inf)
        self._guard = threading.RLock()
        self._token = ""
        self._renewed = -math.inf
        self._lost: IndexUnavailable | None = None

    @contextlib.contextmanager
    def held(self, wait: bool) -> Iterator[None]:
        """Hold the lease in a block; see `VectorStore.writing`."""
        watch = _Watch(_BLIND_SECONDS)
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
        """Before a write: ask the server unless it has confirmed the lease a moment ago.

        Raises:
            IndexUnavailable: another writer has it.
        """
        if self._lost is not None or _now() - self._renewed > TRUSTED:
            self.confirm()

    def confirm(self) -> None:
        """Renew the lease now, waiting for the server as any write does.

        Raises:
            IndexUnavailable: another writer has it.
        """
        self._renew(self._settings.patience)

    def is_held(self) -> bool:
        """Whether somebody holds it; one who died counts for `FREE_AFTER` seconds after the first look."""
        state = self._read(_LOOK_PATIENCE)
        return state is not None and state.token != "" and self._looking.seconds(state.token) < FREE_AFTER

    def close(self) -> None:
        """Release the connection."""
        self._connection.close()

    def _take(self, watch: _Watch) -> str | None:
        """Take the lease if it is free; else its holder."""
        patience = self._settings.patience
        state = self._read(patience)
        if state is None:
            self._make_room()
            state = _State("", "")
        elif state.token and watch.seconds(state.token) < FREE_AFTER:
            return state.holder
        self._lost = None
        start, token = _now(), f"{uuid.uuid4().hex}.0"
        try:
            found = self._replace(state.token, _State(token, this_process()), 0.0 if state.token else patience)
        except Refusal as error:
            if not (state.token and error.failure.transient):
                raise
            # What keeps us from writing may have kept its holder from renewing it.
            log.warning("the lease of %s cannot be taken over: %s", state.holder, error)
            watch.restart()
            return state.holder
        if found.token != token:
            return found.holder
        if state.token:
            log.warning(
                "%s has not renewed its lease on the index for %.0f s: it is taken over", state.holder, FREE_AFTER
            )
        self._token, self._renewed = token, start
        return None

    def _renew_until(self, over: threading.Event) -> None:
        while self._lost is None and not over.wait(RENEW_EVERY):
            try:
                self._renew(0.0)
            except IndexUnavailable as error:  # the server is away: the next try may reach it; lost: `check` says so
                log.debug("the lease was not renewed: %s", error)

    def _renew(self, patience: float) -> None:
        with self._guard:
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
        with self._guard, contextlib.suppress(IndexUnavailable):  # else it is free when it was not renewed for a while
            if self._lost is None:
                self._replace(self._token, _State("", ""), 0.0)

    def _read(self, patience: float) -> _State | None:
        """None where there has never been a lease."""
        try:
            return self._connection.call(self._state, patience)
        except Refusal as error:
            if error.failure.kind == "missing":
                return None
            raise

    def _replace(self, expected: str, state: _State, patience: float) -> _State:
        """Write a state where the token is the expected one, or where there is none; the state that is there then."""
        point = models.PointStruct(id=_POINT, vector=[1.0], payload=state._asdict())
        unchanged = models.Filter(must=[models.FieldCondition(key="token", match=models.MatchValue(value=expected))])
        ordering = models.WriteOrdering.MEDIUM

        def replaced(client: QdrantClient) -> _State:
            try:
                client.upsert(self._name, [point], wait=True, ordering=ordering, update_filter=unchanged)
            except FAILURES:
                # A write that waits for a replica that has died is applied by the others, and read from them, at once.
                if (found := self._state(client)).token != state.token:
                    raise
                return found
            return self._state(client)

        return self._connection.call(replaced, patience)

    def _state(self, client: QdrantClient) -> _State:
        found = client.retrieve(self._name, [_POINT], with_payload=True, with_vectors=False)
        payload = (found[0].payload or {}) if found else {}
        return _State(payload.get("token", ""), payload.get("holder", ""))

    def _make_room(self) -> None:
        """The collection, and the index that a server in strict mode wants of a field that a condition reads."""
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
        except Refusal as error:
            if error.failure.kind != "exists":
                raise
        keyword = models.PayloadSchemaType.KEYWORD
        self._connection.call(lambda client: client.create_payload_index(self._name, "token", keyword, wait=True))


def collection_name(alias: str) -> str:
    """The collection of an alias's lease."""
    return f"sceneseek-{alias}-lease"


def _now() -> float:
    return time.clock_gettime(_CLOCK)
