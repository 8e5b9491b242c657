"""The processes of the service: gunicorn's master, and one worker with many threads that owns the index.

gunicorn is used unmodified, through its custom application, settings, server hooks and threaded worker. Protection from
slow and hostile clients is left to a reverse proxy (docs/how-to/proxy.md).

There is one worker, because the embedded engine allows one owner, and a second copy of the graphs would double the
memory. Sessions and index are opened in the worker, since they do not survive a fork. The master imports nothing heavy,
holds the port, and starts another worker if this one dies; meanwhile requests wait in the port's queue. A worker that
cannot start sends its error to the master over a pipe, and the master exits with it instead of retrying.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIApplication

from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger

from sceneseek.errors import IndexUnavailable, NothingIndexed, SceneseekError, StartError
from sceneseek_server.listener import UNIX, listen, url_of
from sceneseek_server.service import Capacity, ServiceSettings, open_feedback, open_search, open_uploads

if TYPE_CHECKING:
    from sceneseek.search import Search
    from sceneseek_server.feedback import FeedbackStore
    from sceneseek_server.metrics_port import MetricsPort

log = logging.getLogger(__name__)

# Seconds before a shutdown is passed on: time for the worker to accept pending connections, which gunicorn would reset.
_DRAIN_SECONDS = 0.5
# Seconds between checks that the encoder works.
_CHECK_INTERVAL = 1.0
_PR_SET_PDEATHSIG = 1
_MAX_HANDLES = 65_536


def run(settings: ServiceSettings, announce: Callable[[str], None]) -> None:
    """Serve until TERM, INT or HUP; requests in flight are answered first.

    Args:
        settings: the settings of the service.
        announce: called with a line when the service is ready, and again when an index that was missing exists.

    Raises:
        SceneseekError: the service cannot start because of its port, bundle, index or runtime.
        SystemExit: the service has ended.
    """
    application = _Application(settings, listen(settings.host, settings.port), announce)
    try:
        application.run()
    except SystemExit:
        if application.failure is not None:
            raise application.failure from None
        raise


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """The gunicorn application: its settings, the start of the worker, and the server hooks."""

    def __init__(self, settings: ServiceSettings, listener: socket.socket, announce: Callable[[str], None]) -> None:
        self.failure: SceneseekError | None = None
        self._stopping = False
        self._capacity = Capacity.of(settings, _file_handles())
        self._settings = settings
        self._announce = announce
        self._url = url_of(listener)
        self._listener = listener.detach()
        # Opened by the master, so that a port in use fails early, and the socket survives a worker.
        self._metrics_listener = (
            listen(_metrics_host(settings.host), settings.metrics_port, "--metrics-port")
            if settings.metrics_port is not None
            else None
        )
        self._metrics_port: MetricsPort | None = None
        self._search: Search | None = None
        self._feedback: FeedbackStore | None = None
        self._from_worker, self._to_master = multiprocessing.Pipe(duplex=False)
        self._master = os.getpid()
        super().__init__()

    def load_config(self) -> None:
        gunicorn_settings = {
            "bind": f"fd://{self._listener}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": self._capacity.threads,
            "worker_connections": self._capacity.connections,
            "keepalive": 15,
            # Longer than the longest call that holds the interpreter lock: opening a large index.
            "timeout": 120,
            "graceful_timeout": self._settings.grace,
            # gunicorn's maximum; a query of 1,000 Cyrillic letters needs 6,000 characters.
            "limit_request_line": 8190,
            # gunicorn would trust any client on this machine; access control handles trusted proxies instead.
            "forwarded_allow_ips": "",
            "logger_class": _GunicornLog,
            "loglevel": logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower(),
            "control_socket_disable": True,
            "when_ready": self.on_master_ready,
            "post_fork": self.on_worker_start,
            "worker_exit": self.on_worker_exit,
            "child_exit": self.on_child_exit,
        }
        for name, value in gunicorn_settings.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """In the worker: open everything, report to the master, and return the application."""
        try:
            from sceneseek_server.admission import Admission  # noqa: PLC0415 - in the worker, see `open_search`
            from sceneseek_server.app import create_app  # noqa: PLC0415
            from sceneseek_server.instrumentation import count_rejected  # noqa: PLC0415
            from sceneseek_server.metrics import Metrics  # noqa: PLC0415
            from sceneseek_server.metrics_port import MetricsPort  # noqa: PLC0415

            metrics = Metrics()
            self._search = open_search(self._settings, metrics)
            self._feedback = open_feedback(self._settings)
            pending = open_uploads(self._settings, self._search)
            application = create_app(self._search, self._settings.access, metrics, self._feedback, pending)
            if self._metrics_listener is not None:
                self._metrics_port = MetricsPort(self._metrics_listener, application)
            reason = self._search.follower.waiting_for
            line = self._ready_line(self._search) if reason is None else self._waiting_line(reason)
        except Exception as error:
            log.debug("the worker cannot start", exc_info=True)
            self._to_master.send(_start_error(error))
            # Status 0, so that gunicorn does not log the error again.
            sys.exit(0)
        # Exclude the loaded objects, which stay, from garbage collection during queries.
        gc.collect()
        gc.freeze()
        self._to_master.send(None)
        threading.Thread(target=self._end_when_stuck, args=(self._search,), name="watchdog", daemon=True).start()
        self._announce(line)
        if reason is not None:
            threading.Thread(target=self._announce_first, args=(self._search,), name="first-index", daemon=True).start()
        settings = self._settings
        return Admission(
            application,
            settings.http_threads,
            self._capacity.queue,
            settings.deadline,
            partial(count_rejected, metrics),
        )

    def _end_when_stuck(self, search: Search) -> None:
        """End this worker when queries can no longer be encoded; the master then starts another one."""
        while (problem := search.encoder.problem()) is None:
            time.sleep(_CHECK_INTERVAL)
        log.critical("%s: the worker process ends, and is replaced", problem)
        os.kill(os.getpid(), signal.SIGTERM)  # lets requests in flight finish if they can
        time.sleep(self._settings.deadline)
        os._exit(1)

    def _ready_line(self, search: Search) -> str:
        with search.follower.borrow() as snapshot:
            return f"sceneseek searches {snapshot.collection.count():,} images at {self._url}"

    def _waiting_line(self, reason: IndexUnavailable) -> str:
        # The hint for an unreachable server applies to commands, not to a service that waits.
        why = str(reason) if isinstance(reason, NothingIndexed) else reason.what
        return f"{why}; sceneseek waits for it at {self._url}"

    def _announce_first(self, search: Search) -> None:
        """Announce the first index when it exists."""
        search.follower.ready.wait()
        try:
            line = self._ready_line(search)
        except IndexUnavailable:  # its server has just become unreachable
            line = f"sceneseek is ready at {self._url}"
        self._announce(line)

    def on_master_ready(self, master: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """In the master: handle signals so that no request is lost and no second worker is started.

        On HUP (a closed terminal), gunicorn would start a second worker, but an index has one owner; so HUP ends the
        service. The signals that add workers or replace the master are ignored for the same reason.
        """
        gunicorn_handler: Any = signal.getsignal(signal.SIGTERM)

        def stopping(number: int, frame: Any) -> None:
            self._stopping = True
            if number in (signal.SIGTERM, signal.SIGHUP):
                number = signal.SIGTERM
                time.sleep(_DRAIN_SECONDS)
            gunicorn_handler(number, frame)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, stopping)
        for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)

    def on_worker_start(self, master: Any, worker: Any) -> None:  # noqa: ARG002
        """In the worker: end with the master, however it dies, so that port and index are free."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._master:
            os._exit(0)

    def on_worker_exit(self, master: Any, worker: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """In the worker, at its exit: close the metrics port, the ratings and the index."""
        if self._metrics_port is not None:
            self._metrics_port.close()
        if self._feedback is not None:
            self._feedback.close()
        if self._search is not None:
            self._search.close()

    def on_child_exit(self, master: Any, worker: Any) -> None:  # noqa: ARG002
        """In the master: let gunicorn start another worker, unless this one failed to start."""
        died = StartError(
            f"the worker process {worker.pid} died while starting",
            "free memory, or run with --debug to find the cause",
        )
        failure = self._from_worker.recv() if self._from_worker.poll() else died
        if failure is not None and not self._stopping:
            self.failure = failure
            raise HaltServer("the worker cannot start", exit_status=0)


class _GunicornLog(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """Sends gunicorn's messages to the root logger, without its access log, which contains queries."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS[cfg.loglevel.lower()]
        self.error_log.setLevel(self.loglevel)
        self.error_log.propagate = True

    @property
    def access_log_enabled(self) -> bool:
        return False


def _file_handles() -> int:
    """Raise the limit of open files as far as allowed and useful, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_HANDLES if hard == resource.RLIM_INFINITY else min(hard, _MAX_HANDLES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # some systems allow less than the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _MAX_HANDLES if soft == resource.RLIM_INFINITY else soft


def _metrics_host(host: str) -> str:
    return "localhost" if host.startswith(UNIX) else host


def _start_error(error: Exception) -> SceneseekError:
    if isinstance(error, SceneseekError):
        return error
    return StartError(
        f"the service cannot start ({type(error).__name__}: {error})",
        "this is a bug: run again with --debug and report it",
    )
