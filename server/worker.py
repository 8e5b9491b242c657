"""gunicorn's threaded worker, with manners of ours.

- It is never asked more than it can do: requests beyond a bound are answered 429 by two threads of their own, so
  that those inside are answered as fast as ever; see `admission`.
- A thread is given to a request that has come whole, and kept until it is answered: it waits neither for who sends
  slowly nor for who reads slowly, and who is too slow is cut off; see `arrival`, `departure` and `uptake`.
- A stop loses nobody, connections that the kernel has accepted but gunicorn has not yet included, and waits for
  nobody who has been answered and stays connected.
- It does not outlive its master.
- A request that is no HTTP gets a problem document, not gunicorn's page.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any

from gunicorn.http import RequestParser
from gunicorn.http import errors as malformed
from gunicorn.workers.gthread import TConn, ThreadWorker

from server.admission import ALWAYS_ANSWERED, DEADLINE, Admission, turned_away
from server.arrival import SMALL_BODY, Arrival, BodyTooLong
from server.departure import Departure, Memory
from server.file_part import FilePart
from server.headers import SECURITY_HEADERS
from server.lingering import Lingering
from server.problem import MEDIA_TYPE, Problem
from server.uptake import Uptake, cut_off

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask import Flask

    from sceneseek.errors import TryAgain
    from server.guard import Guard

_TOO_LONG = Problem(414, "the address is too long", "send a long query as JSON by POST /v1/search")
_TOO_MANY_HEADERS = Problem(431, "the headers are too large", "send fewer or shorter headers")
_TOO_SLOW = Problem(408, "the request did not come in time", "send it faster, or a smaller one")
_BODY_TOO_LONG = Problem(413, "the body is too large", "send at most 1 MB of JSON, an image of the size that is taken")
_NO_HTTP = Problem(400, "the request is not well-formed HTTP", "check the client")
_FAULT = Problem(500, "the service met a fault of its own", "its log says more")

# Refusing takes a thread a fraction of a millisecond; whoever comes while so many are being refused is cut off.
_REFUSING_THREADS, _MOST_REFUSALS = 2, 512
# How long a client may take to send a request that is being refused anyway.
_PATIENCE_FOR_REFUSED = 1.0
# How long a stopping service waits for requests that are on their way on open connections, and for clients to close;
# and for bodies that are on their way.
_STOP_LINGER, _STOP_BODY = 0.5, 5.0
# Bytes of large bodies on their way, waiting and being read, together; two of the largest at least.
_MEMORY = 128 * 2**20
# Bytes of answers that their clients have not taken yet.
_MEMORY_OF_ANSWERS = 64 * 2**20
# How often those who are too slow are looked for.
_SWEEP = 0.1

_PR_SET_PDEATHSIG = 1


class _Connection(TConn):  # type: ignore[misc]  # gunicorn ships no types
    """A client's connection, and what is known of its present request.

    Attributes:
        arrival: what has come of it.
        since: when it was whole.
        refused: whether it came while the service was full.
        uptake: its answer on its way, if it has been looked at.
    """

    since = 0.0
    refused = False
    uptake: Uptake | None = None

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any, most: Callable[[str], int]) -> None:
        super().__init__(cfg, sock, client, server)
        self.arrival = Arrival(sock, cfg, client, most)
        self.parser = RequestParser(cfg, self.arrival, client)
        self.data_ready = True  # whenever a thread gets it


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """The worker class that the service runs; its application has an `Admission` called `admission`."""

    wsgi: Any
    _application: Flask
    _last_notified = 0.0

    def init_process(self) -> None:
        """Prepare the process, and serve until it is told to stop."""
        # The port and the index must be free as soon as the master is gone, however it went.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self.ppid:
            os._exit(0)
        self._admission: Admission = self.app.admission
        self._refusing = ThreadPoolExecutor(_REFUSING_THREADS, thread_name_prefix="refuse")
        self._refusals = 0
        self._guard: Guard = self.app.guard
        self._memory = max(_MEMORY, 2 * self._guard.max_form)
        self._requests: set[_Connection] = set()
        # Whose request has begun to come.
        self._arriving: set[_Connection] = set()
        # Whose answer has been made, and not been taken yet.
        self._departing: set[_Connection] = set()
        self._answers = Memory(_MEMORY_OF_ANSWERS)
        self._swept = 0.0
        self._mine = threading.local()
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, and put the admission before it."""
        # In the worker, see `server.process`: it brings the whole library, and the master reads this module too.
        from server.observe import note_turned_away  # noqa: PLC0415

        super().load_wsgi()
        application: Flask = self.wsgi
        self._application = application

        def turn_away(error: TryAgain, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            note_turned_away(application, environ["REQUEST_METHOD"], error)
            return turned_away(error, environ, start_response)

        def admitted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            connection: _Connection = self._mine.connection
            if connection.refused and environ["PATH_INFO"] not in ALWAYS_ANSWERED:
                return turn_away(self._admission.overloaded(), environ, start_response)
            environ[DEADLINE] = deadline = connection.since + self._admission.seconds
            if time.monotonic() >= deadline:
                return turn_away(self._admission.too_late(), environ, start_response)
            answer = application(environ, start_response)
            return environ["wsgi.file_wrapper"](answer.file) if isinstance(answer, FilePart) else answer

        self.wsgi = admitted

    def run(self) -> None:
        """Serve until told to stop."""
        self._lingering = Lingering(self.poller, self._gone)
        super().run()
        self._refusing.shutdown(wait=False)

    def notify(self) -> None:
        """Tell the master that we live, once a second: at every request it costs a few per cent of a search."""
        now = time.monotonic()
        if now - self._last_notified >= 1.0:
            self._last_notified = now
            super().notify()

    # A connection's way: accepted, waited at, gathered from, given to a thread, waited at again or closed.

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, and wait for its first bytes."""
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        client = Departure(accepted, self._answers)
        self.nr_conns += 1
        connection = _Connection(self.cfg, client, address, listener.getsockname(), self._guard.max_body)
        connection.set_timeout()
        self.pending_conns.append(connection)
        self.poller.register(client, selectors.EVENT_READ, partial(self.on_pending_socket_readable, connection))

    def on_pending_socket_readable(self, conn: _Connection, client: socket.socket) -> None:
        """Take the first bytes of a new connection."""
        self.pending_conns.remove(conn)
        self._receive(conn, client)

    def on_client_socket_readable(self, conn: _Connection, client: socket.socket) -> None:
        """Take the first bytes of the next request of a connection."""
        self.keepalived_conns.remove(conn)
        self._receive(conn, client)

    def _receive(self, conn: _Connection, client: socket.socket) -> None:
        """Gather a request, and hand it over when a thread can read it without waiting."""
        try:
            ready = conn.arrival.receive()
        except OSError:
            self._arriving.discard(conn)
            self.poller.unregister(client)
            conn.close()
            self._gone()
        except malformed.LimitRequestHeaders:
            self._end(conn, self._malformed(_TOO_MANY_HEADERS))
        except BodyTooLong:
            self._end(conn, self._malformed(_BODY_TOO_LONG))
        else:
            self._go_on(conn, ready)

    def _receive_more(self, conn: _Connection, client: socket.socket) -> None:
        """Gather more of a request, unless it was given up while this was about to be called."""
        if conn in self._arriving:
            self._receive(conn, client)

    def _go_on(self, conn: _Connection, ready: bool) -> None:
        """Hand over a request that the poller holds, or wait for more of it."""
        if ready or (self._admission.full and conn.arrival.large and conn.arrival.held <= SMALL_BODY):
            # The latter is refused before it is sent.
            self._arriving.discard(conn)
            self.poller.unregister(conn.sock)
            self.enqueue_req(conn)
        elif conn not in self._arriving:
            self._arriving.add(conn)
            self.poller.modify(conn.sock, selectors.EVENT_READ, partial(self._receive_more, conn))
            if not self.alive:
                conn.arrival.hurry(_STOP_LINGER, _STOP_BODY)
        if conn.arrival.large:
            self._keep_memory()

    def _keep_memory(self) -> None:
        """Give up the slowest of the large requests on their way, where they take too much together."""
        held = sum(conn.arrival.held for conn in chain(self._arriving, self._requests) if conn.arrival.large)
        arriving = [conn for conn in self._arriving if conn.arrival.large]
        if held > self._memory and arriving:
            from server.observe import note_turned_away  # noqa: PLC0415 - see `load_wsgi`

            error = self._admission.out_of_memory()
            note_turned_away(self._application, "", error)
            retry_after = ("Retry-After", str(math.ceil(error.retry_after)))
            slowest = min(arriving, key=lambda conn: conn.arrival.rate())
            self._end(slowest, _http_answer(Problem.of(error), retry_after))

    def _end(self, conn: _Connection, answer: bytes) -> None:
        """Answer a request that is not whole, and close."""
        self._arriving.discard(conn)
        self.poller.unregister(conn.sock)
        with contextlib.suppress(OSError):  # it has gone, or has not read what it was sent before
            conn.sock.send(answer)
        conn.arrival.forget()
        self._lingering.take(conn.sock)

    def enqueue_req(self, conn: _Connection) -> None:
        """Hand a connection with a request to a thread that answers it, or to one that refuses it."""
        conn.since = time.monotonic()
        conn.refused = not self._admission.enter()
        if conn.refused:
            if self._refusals >= _MOST_REFUSALS:
                conn.close()
                self._gone()
                return
            self._refusals += 1
        self._requests.add(conn)
        handled: Future[Any] = (self._refusing if conn.refused else self.tpool).submit(self.handle, conn)
        handled.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def handle(self, conn: _Connection) -> Any:
        """Answer one request, in a thread; whether the connection may go on."""
        self._mine.connection = conn
        return super().handle(conn)

    def handle_request(self, req: Any, conn: _Connection) -> Any:
        """Answer one request in one packet: gunicorn sends head and body apart, which wakes the client twice."""
        if not conn.arrival.whole or (conn.refused and _has_large_body(req)):
            req.force_close()  # rather than read what nobody will look at
        if conn.arrival.asked:
            req._expected_100_continue = False
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            return super().handle_request(req, conn)
        finally:
            with contextlib.suppress(OSError):  # the client may have gone
                conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def finish_request(self, conn: _Connection, fs: Future[Any]) -> None:
        """Wait at a connection again, or close it."""
        self._requests.discard(conn)
        if conn.refused:
            self._refusals -= 1
        else:
            self._admission.leave()
        if conn.sock.left:
            conn.sock.setblocking(False)
            self._departing.add(conn)
            self.poller.register(conn.sock, selectors.EVENT_WRITE, partial(self._send_more, conn, fs))
        else:
            self._answered(conn, fs)

    def _send_more(self, conn: _Connection, fs: Future[Any], client: Departure) -> None:
        """Send what the client takes now of an answer that has been made."""
        if conn not in self._departing:  # it was given up while this was about to be called
            return
        try:
            client.go_on()
        except OSError:
            self._give_up(conn)
            return
        if not client.left:
            self._departing.discard(conn)
            self.poller.unregister(client)
            self._answered(conn, fs)

    def _give_up(self, conn: _Connection) -> None:
        """Close the connection of a client that has gone, or does not read its answer."""
        self._departing.discard(conn)
        self.poller.unregister(conn.sock)
        cut_off(conn.sock)
        conn.close()
        self._gone()

    def _answered(self, conn: _Connection, fs: Future[Any]) -> None:
        """Go on with the connection's next request, wait for it, or close."""
        conn.uptake = None
        if fs.cancelled() or fs.exception() is not None:
            super().finish_request(conn, fs)
        elif fs.result() is False:
            conn.arrival.forget()
            self._lingering.take(conn.sock)
        elif conn.arrival.restart(conn.parser.unreader.take_buffered()):
            self._continue(conn)
        else:
            super().finish_request(conn, fs)

    def _continue(self, conn: _Connection) -> None:
        """Go on with a request that came behind the one before it."""
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive_more, conn))
        try:
            self._go_on(conn, conn.arrival.ready())
        except malformed.LimitRequestHeaders:
            self._end(conn, self._malformed(_TOO_MANY_HEADERS))

    def murder_pending(self) -> None:
        """Close what has said nothing for too long, cut off who is too slow, and let go of who lingers."""
        super().murder_pending()
        self._lingering.sweep()
        now = time.monotonic()
        if now - self._swept < _SWEEP:
            return
        self._swept = now
        for conn in [conn for conn in self._arriving if conn.arrival.until < now]:
            self._end(conn, self._malformed(_TOO_SLOW))
        for conn in [conn for conn in self._departing if self._reads_too_slowly(conn)]:
            self._give_up(conn)
        for conn in self._requests:
            if self._reads_too_slowly(conn):
                cut_off(conn.sock)
            if now - conn.since > (_PATIENCE_FOR_REFUSED if conn.refused else self._admission.seconds):
                # Whoever reads from it reads its end; an answer that is being made can still be sent.
                with contextlib.suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)

    def _reads_too_slowly(self, conn: _Connection) -> bool:
        if conn.uptake is None:
            conn.uptake = Uptake(conn.sock)
        if conn.uptake.too_slow():
            self.log.debug("a client that did not read its answer is cut off")
            return True
        return False

    # The stop.

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or cease to accept; for good only after those who wait in the kernel's queue."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                taken = -1
                while taken != self.nr_conns:
                    taken = self.nr_conns
                    self.accept(listener)
                # From here on the kernel refuses at once, which a client can act on.
                listener.close()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait, while stopping no longer than what is waited for then may last."""
        super().wait_for_and_dispatch_events(timeout if self.alive else min(timeout, 0.05))

    def _cap_keepalive(self, deadline: float) -> None:
        """Called when the stop begins: leave those who are connected a moment, for requests on their way."""
        super()._cap_keepalive(min(deadline, time.monotonic() + _STOP_LINGER))
        for connection in self.pending_conns:
            connection.timeout = min(connection.timeout, time.monotonic() + _STOP_LINGER)
        for connection in self._arriving:
            connection.arrival.hurry(_STOP_LINGER, _STOP_BODY)
        self._lingering.hurry(_STOP_LINGER)

    def _gone(self) -> None:
        self.nr_conns -= 1

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:  # noqa: ARG002
        """Answer a request that never reached the application."""
        if isinstance(exc, malformed.LimitRequestLine):
            problem = _TOO_LONG
        elif isinstance(exc, malformed.LimitRequestHeaders):
            problem = _TOO_MANY_HEADERS
        elif isinstance(exc, malformed.ParseException):
            problem = _NO_HTTP
        else:
            self.log.exception("a request failed outside the application")
            problem = _FAULT
        answer = self._malformed(problem)
        try:
            client.sendall(answer)
        except OSError:
            self.log.debug("the client has gone before it was told what was wrong")

    def _malformed(self, problem: Problem) -> bytes:
        """The answer to a request that is none, which is counted."""
        from server.observe import note_malformed  # noqa: PLC0415 - see `load_wsgi`

        request_id = note_malformed(self._application, problem.status)
        return _http_answer(problem, ("X-Request-ID", request_id), request_id=request_id)


def _has_large_body(req: Any) -> bool:
    """Whether a request announces more than is worth reading for the sake of its connection."""
    announced = dict(req.headers)
    length = announced.get("CONTENT-LENGTH", "0")
    return "TRANSFER-ENCODING" in announced or not length.isdecimal() or int(length) > SMALL_BODY


def _http_answer(problem: Problem, *more: tuple[str, str], request_id: str | None = None) -> bytes:
    body = problem.encode(request_id)
    headers = (
        ("Content-Type", MEDIA_TYPE),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
        *more,
        *SECURITY_HEADERS,
    )
    lines = [
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        *(f"{n}: {v}" for n, v in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
