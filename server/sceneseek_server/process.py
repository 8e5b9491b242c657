"""The service as processes: gunicorn's master, and one worker of many threads that owns the index.

gunicorn is run as it is: by its custom application, its settings, its server hooks and its threaded worker. Slow and
hostile clients are a reverse proxy's to handle (docs/how-to/proxy.md).

One worker, because the embedded engine allows one owner and a second copy of the graphs would double the
memory and win nothing. Sessions and index are opened in the worker, after the fork: neither survives one.
The master imports nothing heavy, holds the port, and starts another worker should this one die; requests
wait in the port's queue meanwhile. A worker that cannot start tells the master why over a pipe, and the
master ends with that error instead of trying for ever.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer

from sceneseek.errors import IndexUnavailable, NothingIndexed, SceneseekError, StartError
from sceneseek_server.admission import Admission
from sceneseek_server.listener import listen, url_of
from sceneseek_server.service import Service, open_feedback, open_search

if TYPE_CHECKING:
    from sceneseek.search import Search
    from sceneseek_server.feedback_log import FeedbackLog
    from sceneseek_server.metrics_port import MetricsPort

log = logging.getLogger(__name__)

_SPARE_THREADS = 16
# Until a stop is passed on: gunicorn resets connections that its worker has not accepted yet, which it does meanwhile.
_DRAIN_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


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
        application.run()
    except SystemExit:
        if application.failure is not None:
            raise application.failure from None
        raise


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """What gunicorn runs: its settings, how the worker starts, and what the master does when it ends."""

    def __init__(self, service: Service, listener: socket.socket, announce: Callable[[str], None]) -> None:
        self.failure: SceneseekError | None = None
        self._stopping = False
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
        self._master = os.getpid()
        super().__init__()

    def load_config(self) -> None:
        from sceneseek_server.gunicorn_log import GunicornLog  # noqa: PLC0415

        settings = {
            "bind": f"fd://{self._listener}",
            "workers": 1,
            "worker_class": "gthread",
            # A request that waits keeps its thread, see `Admission`; the rest refuse, and answer for health.
            "threads": self._service.http_threads + self._service.queue + _SPARE_THREADS,
            "keepalive": 15,
            # Longer than the longest call that holds the interpreter's lock: opening a large index.
            "timeout": 120,
            "graceful_timeout": self._service.grace,
            # The most that gunicorn takes; a query of 1,000 Cyrillic letters needs 6,000 characters.
            "limit_request_line": 8190,
            # gunicorn would trust any client on this machine; access control decides which proxy is trusted.
            "forwarded_allow_ips": "",
            "logger_class": GunicornLog,
            "loglevel": logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower(),
            "control_socket_disable": True,
            "when_ready": self.master_ready,
            "post_fork": self.worker_begins,
            "worker_exit": self.worker_ends,
            "child_exit": self.worker_ended,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Admission:
        """In the worker: open everything, tell the master, and hand over the application."""
        try:
            from sceneseek_server.app import create_app  # noqa: PLC0415 - in the worker, see `open_search`
            from sceneseek_server.metrics_port import MetricsPort  # noqa: PLC0415
            from sceneseek_server.observe import Metrics, note_refused  # noqa: PLC0415

            metrics = Metrics()
            self._search = open_search(self._service, metrics)
            self._feedback = open_feedback(self._service)
            application = create_app(self._search, self._service.access, metrics, self._feedback)
            if self._metrics_listener is not None:
                self._metrics_port = MetricsPort(self._metrics_listener, application)
            reason = self._search.follower.waiting_for
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
        service = self._service
        return Admission(
            application, service.http_threads, service.queue, service.deadline, partial(note_refused, application)
        )

    def _searches(self, search: Search) -> str:
        with search.follower.borrow() as snapshot:
            return f"sceneseek searches {snapshot.collection.count():,} images at {self._url}"

    def _waits(self, reason: IndexUnavailable) -> str:
        # The hint about a server that is away is meant for commands that end.
        why = str(reason) if isinstance(reason, NothingIndexed) else reason.what
        return f"{why}; sceneseek waits for it at {self._url}"

    def _announce_first(self, search: Search) -> None:
        """Announce the first index when it is there."""
        search.follower.ready.wait()
        try:
            line = self._searches(search)
        except IndexUnavailable:  # its server has gone away in this moment
            line = f"sceneseek is ready at {self._url}"
        self._announce(line)

    def master_ready(self, master: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """In the master: handle signals so that no request is lost and no second worker started.

        An index has one owner, so a closed terminal ends the service, where gunicorn would start a new worker beside
        the old one, and so would the signals that add workers or replace the master.
        """
        pass_on: Any = signal.getsignal(signal.SIGTERM)

        def stopping(number: int, frame: Any) -> None:
            self._stopping = True
            if number in (signal.SIGTERM, signal.SIGHUP):
                number = signal.SIGTERM
                time.sleep(_DRAIN_SECONDS)
            pass_on(number, frame)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, stopping)
        for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)

    def worker_begins(self, master: Any, worker: Any) -> None:  # noqa: ARG002
        """In the worker: die with the master, so that port and index are free however it ends."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._master:
            os._exit(0)

    def worker_ends(self, master: Any, worker: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """In the worker, at its end: close the metrics port, the file of ratings and the index."""
        if self._metrics_port is not None:
            self._metrics_port.close()
        if self._feedback is not None:
            self._feedback.close()
        if self._search is not None:
            self._search.close()

    def worker_ended(self, master: Any, worker: Any) -> None:  # noqa: ARG002
        """In the master: go on with another worker, unless this one never came to answer."""
        died = StartError(
            f"the worker process {worker.pid} died while starting",
            "free memory, or look for its cause with --debug",
        )
        heard = self._from_worker.recv() if self._from_worker.poll() else died
        if heard is not None and not self._stopping:
            self.failure = heard
            raise HaltServer("the worker cannot start", exit_status=0)


def _pipe() -> tuple[Connection, Connection]:
    return multiprocessing.Pipe(duplex=False)


def _as_ours(error: Exception) -> SceneseekError:
    if isinstance(error, SceneseekError):
        return error
    return StartError(
        f"the service cannot start ({type(error).__name__}: {error})",
        "a bug: run again with --debug and report it",
    )
