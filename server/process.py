"""The service as processes: gunicorn's master, and one worker of many threads that owns the index.

One worker, because the embedded engine allows one owner and a second copy of the graphs would double the
memory and win nothing. Sessions and index are opened in the worker, after the fork: neither survives one.
The master imports nothing heavy, holds the port, and starts another worker should this one die; requests
wait in the port's queue meanwhile. A worker that cannot start tells the master why over a pipe, and the
master ends with that error instead of trying for ever.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from sceneseek.errors import FeedbackUnavailable, IndexUnavailable, NothingIndexed, SceneseekError, StartError
from server.admission import Admission
from server.guard.settings import Guard
from server.listener import listen, url_of

if TYPE_CHECKING:
    from flask import Flask

    from sceneseek.runtime import Device
    from sceneseek.search import Search
    from server.feedback_log import FeedbackLog
    from server.metrics_port import MetricsPort
    from server.observe import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """What to serve, and how.

    Attributes:
        bundle: the directory that `export` wrote.
        index_url: where the generations are.
        device: where the graphs run.
        threads: threads within one run of a graph; 0 leaves it to the runtime.
        host: the name or address to answer at.
        port: 0 lets the system choose.
        metrics_port: where metrics and health are served to whoever reaches it (see `server.metrics_port`);
            None serves them at `port` alone.
        http_threads: how many requests are answered at a time.
        queue: how many more may wait; the next are refused.
        deadline: seconds that a request may take, once all of it is here.
        max_batch: the most texts of one run of the text graph.
        query_cache: how many texts' vectors are kept.
        grace: seconds that a stop waits for requests in flight.
        feedback: where ratings are kept; without it in the directory of a ``file:`` index, else nowhere.
        guard: who may ask, and what answers may tell.
    """

    bundle: Path
    index_url: str
    device: Device = "auto"
    threads: int = 0
    host: str = "127.0.0.1"
    port: int = 8080
    metrics_port: int | None = None
    http_threads: int = 32
    queue: int = 128
    deadline: float = 10.0
    max_batch: int = 32
    query_cache: int = 4096
    grace: int = 30
    feedback: Path | None = None
    guard: Guard = field(default_factory=Guard)


def run(service: Service, announce: Callable[[str], None]) -> None:
    """Serve until TERM, INT or HUP; requests in flight are answered first.

    Args:
        service: what to serve.
        announce: called with one line, with the address, once the service answers; with another once it searches, if
            it had to wait for its first index.

    Raises:
        SceneseekError: the service could not start: its port, bundle, index or runtime.
        SystemExit: it has ended.
    """
    application = _Application(service, listen(service.host, service.port), announce)
    try:
        _Master(application).run()
    except SystemExit:
        if application.failure is not None:
            raise application.failure from None
        raise


def open_search(service: Service, metrics: Metrics) -> Search:
    """The pipeline of a service, warm, following the alias, and counted by `metrics`; it may wait for its first index.

    Raises:
        SceneseekError: the bundle, the index or the runtime cannot be used.
    """
    # Imported here, in the worker, so that the master stays small and forks before any library has threads.
    from sceneseek.batching import Batching  # noqa: PLC0415
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.query_encoder import QueryEncoder  # noqa: PLC0415
    from sceneseek.search import Search  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415

    bundle, store = Bundle.load(service.bundle), open_store(service.index_url, searching=True)
    encoder = QueryEncoder(Batching(max_batch=service.max_batch), cached_texts=service.query_cache, observer=metrics)
    for kind in encoder.waiting():
        metrics.watch_queue(kind, lambda kind=kind: encoder.waiting()[kind])  # type: ignore[misc]  # one of its own each
    metrics.watch_query_cache(encoder.kept)
    search = Search(bundle, store, service.device, service.threads, encoder, serving=True)
    search.live.follow()
    return search


def open_feedback(service: Service) -> FeedbackLog | None:
    """Where the service keeps ratings; None if nowhere.

    Raises:
        FeedbackUnavailable: the file that it was told to keep them in cannot be written.
    """
    from server.feedback_log import FeedbackLog, feedback_path  # noqa: PLC0415 - in the worker, see `open_search`

    path = feedback_path(service.feedback, service.index_url)
    if path is None:
        return None
    try:
        return FeedbackLog(path)
    except FeedbackUnavailable as error:
        if service.feedback is not None:
            raise
        log.warning("no ratings are kept: %s", error)  # nobody asked for it; searching is what the service is for
        return None


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """What gunicorn runs: its settings, how the worker starts, and what the master does when it ends."""

    def __init__(self, service: Service, listener: socket.socket, announce: Callable[[str], None]) -> None:
        self.failure: SceneseekError | None = None
        self.admission = Admission(service.http_threads + service.queue, service.deadline)
        self.guard = service.guard
        self._service = service
        self._announce = announce
        self._url = url_of(listener)
        self._listener = listener.detach()
        # Opened by the master, so that a port that is taken is found before anything slow begins, and that it outlives
        # a worker.
        self._metrics_listener = (
            listen(service.host, service.metrics_port, "--metrics-port") if service.metrics_port is not None else None
        )
        self._metrics_port: MetricsPort | None = None
        self._search: Search | None = None
        self._feedback: FeedbackLog | None = None
        self._from_worker, self._to_master = _pipe()
        super().__init__()

    def load_config(self) -> None:
        from server.gunicorn_log import GunicornLog  # noqa: PLC0415
        from server.worker import Worker  # noqa: PLC0415 - gunicorn's worker brings the most of its imports

        settings = {
            "bind": f"fd://{self._listener}",
            "workers": 1,
            "worker_class": Worker,
            "threads": self._service.http_threads,
            "keepalive": 15,
            # Longer than the longest call that holds the interpreter's lock: opening a large index.
            "timeout": 120,
            "graceful_timeout": self._service.grace,
            # The most that gunicorn takes; a query of 1,000 Cyrillic letters needs 6,000 characters.
            "limit_request_line": 8190,
            # gunicorn would believe headers of any client on this machine; `guard` decides which proxy is believed.
            "forwarded_allow_ips": "",
            "logger_class": GunicornLog,
            "loglevel": logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower(),
            "control_socket_disable": True,
            "child_exit": self.worker_ended,
            "worker_exit": self.worker_ends,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """In the worker: open everything, tell the master, and hand over the application."""
        try:
            from server.app import create_app  # noqa: PLC0415 - in the worker, see `open_search`
            from server.metrics_port import MetricsPort  # noqa: PLC0415
            from server.observe import Metrics  # noqa: PLC0415

            metrics = Metrics()
            self._search = open_search(self._service, metrics)
            self._feedback = open_feedback(self._service)
            application = create_app(self._search, self._service.guard, metrics, self._feedback)
            if self._metrics_listener is not None:
                self._metrics_port = MetricsPort(self._metrics_listener, application)
            reason = self._search.live.waiting_for
            line = self._searches(self._search) if reason is None else self._waits(reason)
        except Exception as error:
            log.debug("the worker cannot start", exc_info=True)
            self._to_master.send(_as_ours(error))
            # Of this worker only; with 0, so that gunicorn does not write lines of its own about it.
            sys.exit(0)
        # What has been loaded stays: let the collector no longer look through it while a query waits.
        gc.collect()
        gc.freeze()
        self._to_master.send(None)
        self._announce(line)
        if reason is not None:
            threading.Thread(target=self._announce_first, args=(self._search,), name="first-index", daemon=True).start()
        return application

    def _searches(self, search: Search) -> str:
        with search.live.borrow() as pair:
            return f"sceneseek searches {pair.collection.count():,} images at {self._url}"

    def _waits(self, reason: IndexUnavailable) -> str:
        # The hint about a server that is away is meant for commands that end.
        why = str(reason) if isinstance(reason, NothingIndexed) else reason.what
        return f"{why}; sceneseek waits for it at {self._url}"

    def _announce_first(self, search: Search) -> None:
        """Announce the first index when it is there."""
        search.live.ready.wait()
        try:
            line = self._searches(search)
        except IndexUnavailable:  # its server has gone away in this moment
            line = f"sceneseek is ready at {self._url}"
        self._announce(line)

    def worker_ends(self, arbiter: Arbiter, worker: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """In the worker, at its end: close the metrics port, the file of ratings and the index."""
        if self._metrics_port is not None:
            self._metrics_port.close()
        if self._feedback is not None:
            self._feedback.close()
        if self._search is not None:
            self._search.close()

    def worker_ended(self, master: _Master, worker: Any) -> None:
        """In the master: go on with another worker, unless this one never came to answer."""
        died = StartError(
            f"the worker process {worker.pid} died while starting",
            "free memory, or look for its cause with --debug",
        )
        heard = self._from_worker.recv() if self._from_worker.poll() else died
        if heard is not None and not master.stopping:
            self.failure = heard
            raise HaltServer("the worker cannot start", exit_status=0)


class _Master(Arbiter):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's master for one worker, never two: the index has one owner."""

    stopping = False

    def stop(self, graceful: bool = True) -> None:
        self.stopping = True
        super().stop(graceful)

    def handle_hup(self) -> None:
        """The terminal was closed: end. gunicorn would start a second worker beside the first."""
        self.handle_term()

    def handle_ttin(self) -> None:
        self.log.warning("there is one worker; choose its threads with --http-threads")

    handle_ttou = handle_ttin

    def handle_usr2(self) -> None:
        self.log.warning("the index has one owner, so no second service is started beside this one")


def _pipe() -> tuple[Connection, Connection]:
    return multiprocessing.Pipe(duplex=False)


def _as_ours(error: Exception) -> SceneseekError:
    if isinstance(error, SceneseekError):
        return error
    return StartError(
        f"the service cannot start ({type(error).__name__}: {error})",
        "a bug: run again with --debug and report it",
    )
