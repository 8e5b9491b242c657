"""Clients that send slowly, break off or do not read: two threads answer everybody else meanwhile."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from tests.e2e.test_http_overload import Service, searched

SEVERAL = 10
HEAD = b"GET /v1/search?q=a+house HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = b'{"q": "a house"}'
UPLOAD = (
    b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 9000000\r\n\r\n--b\r\n"
)


@pytest.fixture(scope="module")
def service(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    index = Path(shutil.copytree(index_url.removeprefix("file:"), tmp_path_factory.mktemp("slow") / "index"))
    running = Service(bundle, index, "--http-threads", "2")
    yield running
    running.end()


@contextlib.contextmanager
def several(service: Service, *parts: bytes) -> Iterator[list[socket.socket]]:
    """As many clients, each of which sends these parts with a pause between them."""
    with contextlib.ExitStack() as clients:
        connected = []
        for _ in range(SEVERAL):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(15)
            client.connect(("127.0.0.1", service.port))
            connected.append(clients.enter_context(client))
        for part in parts:
            for client in connected:
                client.sendall(part)
            time.sleep(0.05)
        yield connected


def seconds_to_answer(service: Service) -> float:
    """How long another client waits for a search and for a search by POST."""
    begun = time.monotonic()
    with contextlib.closing(service.connect()) as connection:
        assert searched(connection, "a+boat").status == 200
    return time.monotonic() - begun


def answer(client: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(65_536)
        assert part, received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    declared = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert declared
    while len(body) < int(declared[1]):
        body += client.recv(65_536)
    return int(head.split()[1]), body


def test_who_sends_slowly_delays_nobody_and_is_told_that_it_took_too_long(service: Service) -> None:
    with (
        several(service),
        several(service, HEAD[:40]) as half_heads,
        several(service, POST + b"Content-Length: 100\r\n\r\n{") as half_bodies,
        several(service, POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab") as half_chunks,
        several(service, UPLOAD) as half_uploads,
        several(service, *(HEAD[i : i + 1] for i in range(12))) as trickled,
    ):
        assert seconds_to_answer(service) < 2
        for clients in (half_heads, half_bodies, half_chunks, half_uploads, trickled):
            status, body = answer(clients[0])
            assert status == 408
            assert json.loads(body)["detail"] == "the request did not come in time"
            assert clients[0].recv(1) == b"", "and the connection is closed"
        assert seconds_to_answer(service) < 2


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([HEAD[:10], HEAD[10:]], id="a head in two parts"),
        pytest.param([POST + b"Content-Length: %d\r\n\r\n" % len(BODY), BODY[:5], BODY[5:]], id="a body in two parts"),
        pytest.param(
            [POST + b"Transfer-Encoding: chunked\r\n\r\n", b"10\r\n" + BODY + b"\r\n", b"0\r\n\r\n"], id="chunks"
        ),
    ],
)
def test_what_comes_in_parts_is_answered_and_so_is_what_comes_behind_it(service: Service, parts: list[bytes]) -> None:
    *first, last = parts
    with several(service, *first, last + HEAD + HEAD[:30], HEAD[30:]) as clients:
        for client in clients:
            received = b""
            while received.count(b"HTTP/1.1 200 OK") < 3:
                part = client.recv(65_536)
                assert part, received
                received += part


def test_who_waits_to_be_asked_for_his_body_is_asked_once(service: Service) -> None:
    head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    with several(service, head) as clients:
        for client in clients:
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(BODY)
            assert answer(client)[0] == 200


def test_who_does_not_read_delays_nobody_and_gets_all_when_he_does(service: Service) -> None:
    """What is asked for is more than the system takes for a client that does not read."""
    with contextlib.closing(service.connect()) as connection:
        connection.request("GET", "/openapi.json")
        size = len(connection.getresponse().read())
    times = 6_000_000 // size
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * times
    with several(service, asked) as clients:
        time.sleep(0.5)
        assert seconds_to_answer(service) < 2
        clients[0].settimeout(10)
        received = 0
        while received < times * size:
            received += len(clients[0].recv(1 << 20))
