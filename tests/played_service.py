"""A fake service that answers over real HTTP as scripted, including failures that are hard to provoke."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Handler = BaseHTTPRequestHandler
Step = Callable[[Handler], None]

ANSWER: dict[str, Any] = {
    "query": "a dog",
    "truncated": False,
    "match": True,
    "threshold": 0.25,
    "results": [
        {
            "rank": 1,
            "id": "bf8013b6-61f9-5d1d-94d6-cfa2c149805e",
            "score": 1,
            "match": True,
            "similarity": 0.5,
            "width": 320,
            "height": 240,
            "format": "PNG",
            "metadata": {"title": "A dog"},
            "duplicates": 0,
            "image": "/photos/v1/images/bf8013b6-61f9-5d1d-94d6-cfa2c149805e",
            "thumbnail": "/photos/v1/images/bf8013b6-61f9-5d1d-94d6-cfa2c149805e/thumbnail",
        }
    ],
    "offset": 0,
    "next_offset": None,
    "shortlist": 1,
    "generation": "g1",
    "bundle": "b" * 64,
    "calibrated": True,
    "timings_ms": {"total": 1.5},
}
FEEDBACK = {"stored": True, "key": "k"}
RUNTIME = {
    "asked": "auto",
    "device": "cpu",
    "provider": "CPUExecutionProvider",
    "why": "there is no GPU",
    "onnxruntime": "1.23",
    "texts_together": True,
}
READY = {
    "status": "ready",
    "pack": "compact",
    "multilingual": False,
    "fingerprints": {"image": "i" * 64, "bundle": "b" * 64},
    "generation": "g1",
    "images": 12,
    "following": True,
    "problem": None,
    "runtime": RUNTIME,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A received request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The decoded JSON body."""
        return json.loads(self.body)


class PlayedService:
    """Answers each request with the next step of its script; the last step repeats.

    Attributes:
        script: the remaining steps.
        asked: the received requests.
        url: the base URL.
    """

    def __init__(self, *script: Step) -> None:
        self.script = [*script]
        self.asked: list[Asked] = []
        self._guard = threading.Lock()
        played = self

        class Played(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                played._next(Asked(self.command, self.path, dict(self.headers), body))(self)

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                """Log nothing; tests inspect `asked`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Played)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _next(self, asked: Asked) -> Step:
        with self._guard:
            self.asked.append(asked)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def serve(self) -> None:
        """Answer requests until `stop` is called."""
        self._server.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        """Stop answering, and release the port."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def playing(*script: Step) -> Iterator[PlayedService]:
    """Run a `PlayedService` during the block."""
    service = PlayedService(*script)
    thread = threading.Thread(target=service.serve, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join()


def answering(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Step:
    """Send a JSON document, or bytes unchanged."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()

    def step(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return step


def problem(status: int, kind: str = "", headers: Mapping[str, str] | None = None, **more: str) -> Step:
    """Send a problem document."""
    name = f"urn:sceneseek:problem:{kind}" if kind else "about:blank"
    document = {"type": name, "title": "", "status": status, **more}
    return answering(document, status, {"Content-Type": "application/problem+json", **(headers or {})})


def closing(handler: Handler) -> None:
    """Close the connection without a response."""
    handler.close_connection = True


def halving(handler: Handler) -> None:
    """Send less than the Content-Length, and close the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


def garbling(handler: Handler) -> None:
    """Send bytes that are not HTTP."""
    handler.wfile.write(b"\x00\x01 SSH-2.0-not-http\r\n\r\n")
    handler.close_connection = True


def waiting(until: threading.Event) -> Step:
    """Send nothing until the event is set."""

    def step(handler: Handler) -> None:
        until.wait(30)
        handler.close_connection = True

    return step


def trickling(until: threading.Event) -> Step:
    """Send one byte after another until the event is set."""

    def step(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.close_connection = True
        try:
            while not until.wait(0.05):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        except OSError:  # the client closed the connection
            pass

    return step
