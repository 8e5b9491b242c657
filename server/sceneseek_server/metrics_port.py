"""A separate port for `/metrics`, `/healthz` and `/readyz`, for a private network.

A scraper sends no key and an IP address as host, so the public port rejects it. This port serves only these three
paths, without access control: anyone who can reach it may read them. It runs in the worker, which has the metrics. The
master opens the socket, so that it survives a worker that dies.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sceneseek_server.access.control import EXEMPT
from sceneseek_server.admission import ALWAYS_ANSWERED
from sceneseek_server.responses import PROBLEM_MEDIA_TYPE, encode_problem, problem

log = logging.getLogger(__name__)

# There are few scrapers and health checks; each connection needs a thread and a file handle.
_MAX_CONNECTIONS = 16
# Seconds between checks for shutdown, and the timeout for receiving a request.
_POLL, _TIMEOUT = 0.1, 10
_NOT_FOUND = encode_problem(
    problem(404, "this address does not exist", "this port serves only /metrics, /healthz and /readyz")
)


class MetricsPort:
    """Serves metrics and health of an application in a thread; `close` also closes the listener."""

    def __init__(self, listener: socket.socket, application: WSGIApplication) -> None:
        self._server = _Server(listener, application)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="metrics-port", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving. Returns within a tenth of a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    """The standard library's WSGI server, on an open socket."""

    daemon_threads = True
    block_on_close = False  # a client that does not read must not delay the shutdown

    def __init__(self, listener: socket.socket, application: WSGIApplication) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self._connections = threading.Semaphore(_MAX_CONNECTIONS)
        self.socket.close()
        self.socket = listener
        # `server_bind` would look up the name in DNS.
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()
        self.set_app(_operator_paths(application))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Process the request in a new thread, or close the connection if there are too many."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        log.debug("a request on the metrics port failed", exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Do nothing: the application logs its requests."""


def _operator_paths(application: WSGIApplication) -> WSGIApplication:
    """The three paths of an application, without access control."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] not in ALWAYS_ANSWERED:
            start_response("404 Not Found", [("Content-Type", PROBLEM_MEDIA_TYPE)])
            return [_NOT_FOUND]
        environ[EXEMPT] = True
        return application(environ, start_response)

    return serve
