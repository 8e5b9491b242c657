"""moto's S3 server behind a proxy that records requests and can fail them."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY_ID, SECRET = "AKIA5CENESEEKTEST", "n0t/a-real+secret"
_PATIENCE = 60.0


class Bucket:
    """A bucket.

    Attributes:
        name: of the bucket.
        environment: variables that let S3 clients reach it.
        asked: the requests since the list was last cleared, such as ``GET a/b.png`` or ``LIST``.
        refused: whether to answer a request, written as in `asked`, with status 500.
    """

    def __init__(self, name: str, server: ObjectStore) -> None:
        self.name, self._server = name, server
        self.asked: list[str] = []
        self.refused: Callable[[str], bool] = lambda _: False
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }
        server.buckets[name] = self
        self._send("PUT", "")

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._send("PUT", key, content)

    def put_folder(self, folder: Path, prefix: str) -> None:
        """Write the files of a folder."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.put(f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._send("DELETE", key)

    def _send(self, method: str, key: str, content: bytes = b"") -> None:
        # moto reads the key id, and ignores the signature.
        signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request"}
        status, _, _ = self._server.forward(method, f"/{self.name}/{urllib.parse.quote(key)}", signed, content)
        assert status < 300, (method, key, status)


class ObjectStore:
    """The proxy's port, and the buckets by name."""

    def __init__(self, inner: int) -> None:
        self._inner = inner
        self.buckets: dict[str, Bucket] = {}
        store = self

        class Proxy(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                store.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]

    def forward(
        self, method: str, path: str, headers: dict[str, str], content: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Forward a request to moto; return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self._inner, timeout=_PATIENCE)
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a GET, or fail it."""
        place = urllib.parse.urlsplit(request.path)
        name, _, key = urllib.parse.unquote(place.path).removeprefix("/").partition("/")
        what = f"GET {key}" if key else "LIST more" if "continuation-token" in place.query else "LIST"
        bucket = self.buckets.get(name)
        if bucket is not None:
            bucket.asked.append(what)
        if bucket is not None and bucket.refused(what):
            status, headers, body = 500, [("Content-Type", "text/plain")], b"refused"
        else:
            status, headers, body = self.forward("GET", request.path, dict(request.headers), b"")
        request.send_response_only(status)
        for field, value in headers:
            if field.lower() not in {"connection", "content-length", "transfer-encoding"}:
                request.send_header(field, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        with contextlib.suppress(ConnectionError):  # the client closed after the headers
            request.wfile.write(body)


@contextmanager
def serving(log: Path) -> Iterator[ObjectStore]:
    """Run the server; its listings have pages of five keys."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": "5"}
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process:
        try:
            _wait_for(port, process)
            store = ObjectStore(port)
            thread = threading.Thread(target=store.http.serve_forever, daemon=True)
            thread.start()
            yield store
            store.http.shutdown()
            store.http.server_close()
            thread.join()
        finally:
            process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("moto's server does not answer")
