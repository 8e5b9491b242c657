"""The service as processes: gunicorn's master, and one worker of many threads that owns the index.

gunicorn runs unchanged: through its custom application, settings, server hooks and threaded worker. Slow and hostile
clients are left to a reverse proxy (docs/how-to/proxy.md).

One worker, because the embedded engine allows one owner, and a second copy of the graphs would double the memory for
nothing. Sessions and index are opened in the worker, after the fork, which neither survives. The master imports nothing
heavy, holds the port, and starts another worker if this one dies; requests wait in the port's queue meanwhile. A worker
that cannot start sends its error to the master over a pipe, and the master ends with it instead of retrying for ever.
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

# Until a stop is passed on: gunicorn resets connections that its worker has not accepted yet, which it does meanwhile.
_DRAIN_SECONDS = 0.5
# How often the worker checks that its encoder can run, in seconds.
_CHECK_INTERVAL = 1.0
_PR_SET_PDEATHSIG = 1
_MAX_HANDLES = 65_536


def run(settings: ServiceSettings, announce: Callable[[str], None]) -> None:
    """Serve until TERM, INT or HUP; requests in flight are answered first.

    Args:
        settings: what to serve, and how.
        announce: called with a line once the service answers, and with another once an index that was missing is there.

    Raises:
        SceneseekError: the service could not start: its port, bundle, index or runtime.
        SystemExit: it has ended.
    """
    application = _Application(settings, listen(settings.host, settings.port), announce)
    try:
        application.run()
    except SystemExit:
        if application.failure is not None:
            raise application.failure from None
        raise


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """What gunicorn runs: its settings, how the worker starts, and what the master does when it ends."""

    def __init__(self, settings: ServiceSettings, listener: socket.socket, announce: Callable[[str], None]) -> None:
        self.failure: SceneseekError | None = None
        self._stopping = False
        self._capacity = Capacity.of(settings, _file_handles())
        self._settings = settings
        self._announce = announce
        self._url = url_of(listener)
        self._listener = listener.detach()
        # Opened by the master, so that a taken port is found before anything slow begins, and it outlives a worker.
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
            # The most that gunicorn takes; a query of 1,000 Cyrillic letters needs 6,000 characters.
            "limit_request_line": 8190,
            # gunicorn would trust any client on this machine; access control decides which proxy is trusted.
            "forwarded_allow_ips": "",
            "logger_class": _GunicornLog,
            "loglevel": logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower(),
            "control_socket_disable": True,
            "when_ready": self.master_ready,
            "post_fork": self.worker_begins,
            "worker_exit": self.worker_ends,
            "child_exit": self.worker_ended,
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
            line = self._searches(self._search) if reason is None else self._waits(reason)
        except Exception as error:
            log.debug("the worker cannot start", exc_info=True)
            self._to_master.send(_as_ours(error))
            # With 0, so that gunicorn does not log it as well.
            sys.exit(0)
        # What has been loaded stays: keep the garbage collector from walking it while a query waits.
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
        log.critical("%s: the worker process ends, and another one takes its place", problem)
        os.kill(os.getpid(), signal.SIGTERM)  # requests that can be answered still are
        time.sleep(self._settings.deadline)
        os._exit(1)

    def _searches(self, search: Search) -> str:
        with search.follower.borrow() as snapshot:
            return f"sceneseek searches {snapshot.collection.count():,} images at {self._url}"

    def _waits(self, reason: IndexUnavailable) -> str:
        # The hint for a server that is unreachable is meant for commands that end.
        why = str(reason) if isinstance(reason, NothingIndexed) else reason.what
        return f"{why}; sceneseek waits for it at {self._url}"

    def _announce_first(self, search: Search) -> None:
        """Announce the first index when it is there."""
        search.follower.ready.wait()
        try:
            line = self._searches(search)
        except IndexUnavailable:  # its server has just become unreachable
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
        """In the worker, when it ends: close the metrics port, the ratings and the index."""
        if self._metrics_port is not None:
            self._metrics_port.close()
        if self._feedback is not None:
            self._feedback.close()
        if self._search is not None:
            self._search.close()

    def worker_ended(self, master: Any, worker: Any) -> None:  # noqa: ARG002
        """In the master: let gunicorn start another worker, unless this one failed to start."""
        died = StartError(
            f"the worker process {worker.pid} died while starting",
            "free memory, or look for its cause with --debug",
        )
        failure = self._from_worker.recv() if self._from_worker.poll() else died
        if failure is not None and not self._stopping:
            self.failure = failure
            raise HaltServer("the worker cannot start", exit_status=0)


class _GunicornLog(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """Sends gunicorn's messages to the root logger. Its access log is off: it has URLs with their queries."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS[cfg.loglevel.lower()]
        self.error_log.setLevel(self.loglevel)
        self.error_log.propagate = True

    @property
    def access_log_enabled(self) -> bool:
        return False


def _file_handles() -> int:
    """How many files this process may open, once its limit is raised as far as it can be, or as is useful."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_HANDLES if hard == resource.RLIM_INFINITY else min(hard, _MAX_HANDLES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # where a system allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _MAX_HANDLES if soft == resource.RLIM_INFINITY else soft


def _metrics_host(host: str) -> str:
    return "localhost" if host.startswith(UNIX) else host


def _as_ours(error: Exception) -> SceneseekError:
    if isinstance(error, SceneseekError):
        return error
    return StartError(
        f"the service cannot start ({type(error).__name__}: {error})",
        "a bug: run again with --debug and report it",
    )
