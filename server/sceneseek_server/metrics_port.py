"""A separate port for `/metrics`, `/healthz` and `/readyz`, inside the network that the service runs in.

A scraper uses an address and no key, which the public port rejects, and should. So a second listener serves these three
paths of the same application and nothing else, without access control: whoever reaches the port may read them. It runs
in the worker, which has the figures. The master opens the socket, so that the next worker serves it if this one dies.
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
from sceneseek_server.responses import PROBLEM_MEDIA_TYPE, encoded, problem

log = logging.getLogger(__name__)

# Scrapers and health checks are few; each connection takes a thread and a file handle.
_MAX_CONNECTIONS = 16
# How often the thread checks whether to end, and how long a client may take to send its request: seconds.
_POLL, _TIMEOUT = 0.1, 10
_NOT_HERE = encoded(problem(404, "nothing is at this address", "this port serves /metrics, /healthz and /readyz alone"))


class MetricsPort:
    """Serves metrics and health of the service's application from a thread; closes the listener when it is closed."""

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
    """The standard library's WSGI server, on a socket that is open already."""

    daemon_threads = True
    block_on_close = False  # a client that does not read must not hold up a stop

    def __init__(self, listener: socket.socket, application: WSGIApplication) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self._places = threading.Semaphore(_MAX_CONNECTIONS)
        self.socket.close()
        self.socket = listener
        # `server_bind` would ask DNS for the name.
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()
        self.set_app(_operator_paths_of(application))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, or close the connection if there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        log.debug("a request at the metrics port failed", exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing: the application logs its requests itself."""


def _operator_paths_of(application: WSGIApplication) -> WSGIApplication:
    """The three paths of an application, without access control."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] not in ALWAYS_ANSWERED:
            start_response("404 Not Found", [("Content-Type", PROBLEM_MEDIA_TYPE)])
            return [_NOT_HERE]
        environ[EXEMPT] = True
        return application(environ, start_response)

    return serve
