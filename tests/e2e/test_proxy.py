"""nginx with the stack's configuration before a real service: bad clients do not delay others."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

from sceneseek.bundle import Bundle
from tests.conftest import ROOT
from tests.e2e.test_http_overload import Service, searched

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx)")

HEAD = b"GET /v1/search?q=a+house HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = b'{"q": "a house"}'
# A search takes about 10 ms. If it waited for a slow client, it would take 10 s, the proxy's timeout.
MAX_SECONDS = 8.0
_ADDRESSES = itertools.count(1)


class Proxy:
    """nginx on a free port, in front of a service."""

    def __init__(self, folder: Path, service_port: int, tls: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        listen = f"127.0.0.1:{self.port}{' ssl' if tls else ''}"
        values = {"PROXY_LISTEN": listen, "PROXY_SERVER": f"127.0.0.1:{service_port}"}
        site = Template((ROOT / "deploy/proxy.conf").read_text()).safe_substitute(values)
        site = site.replace("/etc/nginx/tls", str(folder))
        (folder / "proxy.conf").write_text(site)
        main = (ROOT / "deploy/nginx.conf").read_text()
        main = main.replace(" /tmp/", f" {folder}/").replace("/etc/nginx/conf.d/*.conf", f"{folder}/proxy.conf")
        (folder / "nginx.conf").write_text(
            f"daemon off;\nuser root;\n{main}"
        )  # root owns the folder if root runs the tests
        command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self._process.poll() is None, "nginx does not start"
            assert time.monotonic() < until
            time.sleep(0.02)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """Connect from a source address."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(source, 0))

    def client(self) -> http.client.HTTPConnection:
        """A well-behaved client with another source address."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=("127.0.0.2", 0))

    def end(self) -> None:
        """Stop nginx."""
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="module")
def service(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with two threads, so that few clients can occupy them all."""
    index = Path(shutil.copytree(index_url.removeprefix("file:"), tmp_path_factory.mktemp("proxied") / "index"))
    running = Service(bundle, index, "--http-threads", "2", "--trusted-proxies", "1")
    yield running
    running.end()


@pytest.fixture(scope="module")
def proxy(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    running = Proxy(folder, service.port)
    yield running
    running.end()


@contextlib.contextmanager
def clients(proxy: Proxy, count: int, *parts: bytes, buffer: int = 0) -> Iterator[list[socket.socket]]:
    """Connect `count` clients, each of which sends these parts and then stays idle.

    They have one source address of their own: otherwise the proxy's rate limit would apply to other clients too.
    """
    address = f"127.0.1.{next(_ADDRESSES)}"
    with contextlib.ExitStack() as stack:
        connected = []
        for _ in range(count):
            client = socket.socket()
            if buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            client.settimeout(30)
            client.bind((address, 0))
            client.connect(("127.0.0.1", proxy.port))
            connected.append(stack.enter_context(client))
        for part in parts:
            for client in connected:
                client.sendall(part)
        yield connected


def assert_search_is_fast(proxy: Proxy) -> None:
    """Assert that another client's search is not delayed."""
    started = time.monotonic()
    with contextlib.closing(proxy.client()) as client:
        assert searched(client, "a+boat").status == 200
    assert time.monotonic() - started < MAX_SECONDS


def answer(client: socket.socket) -> tuple[bytes, bytes]:
    """Headers and body of a response, read until the proxy closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):  # the proxy leaves the rest of a rejected request unread
        while part := client.recv(65_536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def test_proxy_ignores_forwarded_headers_of_clients(proxy: Proxy) -> None:
    with contextlib.closing(proxy.client()) as client:
        forged = {"X-Forwarded-For": "8.8.8.8", "X-Forwarded-Prefix": "/elsewhere", "X-Forwarded-Host": "evil.example"}
        client.request("GET", "/v1/search?q=a+house&k=1", headers=forged)
        response = client.getresponse()
        assert response.status == 200
        (result,) = json.loads(response.read())["results"]
    assert result["image"].startswith("/v1/images/"), "neither the prefix nor the host of the client's headers"


SLOW = {
    "partial headers": HEAD[:40],
    "partial body": POST + b"Content-Length: 100\r\n\r\n{",
    "partial chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    "upload": POST + b"Content-Length: 9000000\r\n\r\n" + b"x" * 1000,
}


def test_slow_senders_do_not_delay_searches(proxy: Proxy) -> None:
    with contextlib.ExitStack() as stack:
        for part in SLOW.values():
            stack.enter_context(clients(proxy, 10, part))
        trickling = stack.enter_context(clients(proxy, 10))
        for i in range(20):  # a byte at a time
            for client in trickling:
                client.sendall(HEAD[i : i + 1])
        assert_search_is_fast(proxy)
        for client in trickling:
            client.sendall(HEAD[20:])
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 OK")


def test_clients_that_do_not_read_do_not_delay_searches(proxy: Proxy) -> None:
    # The responses exceed the socket buffers of a client that does not read.
    requests = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    with clients(proxy, 40, requests, buffer=4096):
        assert_search_is_fast(proxy)


def test_idle_connections_do_not_delay_searches(proxy: Proxy) -> None:
    with clients(proxy, 900):
        assert_search_is_fast(proxy)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /v1/search?q=" + b"w" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
        (POST + b"Content-Length: 99999999\r\n\r\n", 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
    ],
    ids=[
        "two content lengths",
        "content length and chunked",
        "long URL",
        "large headers",
        "TLS handshake",
        "large body",
        "invalid chunk",
        "metrics path",
    ],
)
def test_proxy_rejects_requests_with_a_problem_document(proxy: Proxy, sent: bytes, status: int) -> None:
    with proxy.connect() as client:
        client.sendall(sent)
        head, body = answer(client)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == status
    assert_search_is_fast(proxy)


def test_proxy_accepts_one_byte_chunks(proxy: Proxy) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    with proxy.connect() as client:
        client.sendall(POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        head, body = answer(client)
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"Content-Length" in head or b"chunked" in head
    assert b"results" in body


def test_proxy_passes_service_errors_unchanged(proxy: Proxy) -> None:
    with contextlib.closing(proxy.client()) as client:
        client.request("GET", "/v1/search?q=")
        refused = client.getresponse()
        assert refused.status == 400
        assert "X-Request-ID" in refused.headers
        assert json.loads(refused.read())["request_id"] == refused.headers["X-Request-ID"]


def test_proxy_returns_a_retryable_503_if_the_service_is_down(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    proxy = Proxy(tmp_path, port)
    try:
        with contextlib.closing(proxy.client()) as client:
            client.request("GET", "/v1/search?q=a")
            refused = client.getresponse()
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) >= 1
            assert json.loads(refused.read())["status"] == 503
    finally:
        proxy.end()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_proxy_with_a_certificate_answers_only_tls(service: Service, tmp_path: Path) -> None:
    key, certificate = tmp_path / "privkey.pem", tmp_path / "fullchain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    proxy = Proxy(tmp_path, service.port, tls=True)
    try:
        trusted = ssl.create_default_context(cafile=str(certificate))
        client = http.client.HTTPSConnection("localhost", proxy.port, timeout=30, context=trusted)
        with contextlib.closing(client):
            assert searched(client, "a+house").status == 200
        with contextlib.closing(proxy.client()) as plain:
            plain.request("GET", "/")
            refused = plain.getresponse()
            assert refused.status == 400
            assert json.loads(refused.read())["detail"] == "this port speaks TLS"
    finally:
        proxy.end()
