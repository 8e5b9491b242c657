"""A request that comes in parts: handed over when all of it is here, and read by gunicorn as it was sent."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from gunicorn.config import Config
from gunicorn.http import RequestParser
from gunicorn.http.errors import LimitRequestHeaders, ParseException
from hypothesis import given, settings
from hypothesis import strategies as st

from server.arrival import MAX_HEAD, SMALL_BODY, Arrival, BodyTooLong

PEER = ("127.0.0.1", 1)
MOST = 200_000
CFG = Config()

values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20).map(
    lambda text: text.encode("latin-1")
)
names = st.sampled_from([b"Host", b"X-A", b"x-content-length", b"Accept", b"X_Y", b"Content-Lengthy"])
bodies = st.one_of(st.binary(max_size=60), st.sampled_from([b"0\r\n\r\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]))


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    """A body in chunks, written in the ways that there are."""
    written = b""
    for chunk in draw(st.lists(bodies.filter(bool), max_size=4)):
        size = draw(st.sampled_from([b"%x", b"%X", b"000%x"])) % len(chunk)
        extension = draw(st.sampled_from([b"", b";a", b" ; a=b", b';a="x;y"']))
        written += size + extension + b"\r\n" + chunk + b"\r\n"
    return written + b"0\r\n" + draw(st.sampled_from([b"", b"X-Trailer: t\r\n"])) + b"\r\n"


@st.composite
def requests(draw: st.DrawFn, closing: bool = True) -> bytes:
    """A well-formed request; if wanted, one after which gunicorn closes."""
    lines = [
        draw(st.sampled_from([b"", b"\r\n"])) + draw(st.sampled_from([b"GET", b"POST"])) + b" /v1/search?q=a HTTP/1.1"
    ]
    seen: set[bytes] = set()
    for name, value in draw(st.lists(st.tuples(names, values), max_size=4)):
        if name not in seen:
            lines.append(name + b": " + value)
        seen.add(name)
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    body = b""
    if framing == "length":
        body = draw(bodies)
        lines.append(draw(st.sampled_from([b"Content-Length:%d", b"content-LENGTH: \t%d "])) % len(body))
    elif framing == "chunks":
        body = draw(chunked())
        codings = [b"Transfer-Encoding: chunked", b"transfer-encoding:\tChunked "]
        lines.append(draw(st.sampled_from([*codings, b"Transfer-Encoding: gzip, chunked"] if closing else codings)))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@contextlib.contextmanager
def arriving(most: int = MOST) -> Iterator[tuple[socket.socket, Arrival]]:
    """A client's socket, and what arrives of it."""
    client, served = socket.socketpair()
    served.setblocking(False)
    with client, served:
        yield client, Arrival(served, CFG, PEER, lambda _: most)


def sent(client: socket.socket, arrival: Arrival, data: bytes, cuts: list[int]) -> int:
    """Send in parts, and take each; how much had been sent when it was ready."""
    ends = [*sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    start = 0
    for end in ends:
        client.sendall(data[start:end])
        if arrival.receive():
            return end
        start = end
    return -1


def received(arrival: Arrival) -> bool:
    """Take what was sent, as often as it lasts; whether it was ready."""
    return any(arrival.receive() for _ in range(20))


def read(parser: RequestParser) -> tuple[str, str, list[tuple[str, str]], bytes]:
    request = next(parser)
    return request.method, request.uri, request.headers, request.body.read()


@settings(max_examples=300)
@given(requests(), st.lists(st.integers(0, 10_000), max_size=6))
def test_a_thread_is_asked_exactly_when_all_is_here_and_reads_what_was_sent(data: bytes, cuts: list[int]) -> None:
    with arriving() as (client, arrival):
        assert sent(client, arrival, data, cuts) == len(data)
        assert arrival.whole
        # Nothing more can come: who reads beyond what is here would meet BlockingIOError.
        assert read(RequestParser(CFG, arrival, PEER)) == read(RequestParser(CFG, iter([data]), PEER))


@settings(max_examples=100)
@given(st.lists(requests(closing=False), min_size=2, max_size=4), st.lists(st.integers(0, 10_000), max_size=6))
def test_what_comes_behind_a_request_is_the_next_one(several: list[bytes], cuts: list[int]) -> None:
    data = b"".join(several)
    with arriving() as (client, arrival):
        parser = RequestParser(CFG, arrival, PEER)
        ends = [*sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
        seen, start = [], 0
        for end in ends:
            client.sendall(data[start:end])
            start = end
            while received(arrival):
                ready = True
                while ready:
                    seen.append(read(parser))
                    ready = arrival.restart(parser.unreader.take_buffered()) and arrival.ready()
        assert seen == [read(RequestParser(CFG, iter([request]), PEER)) for request in several]


@pytest.mark.parametrize(
    "malformed",
    [
        b"GET / HTTP/9.9\r\nContent-Length: 5\r\n\r\n",
        b"HELLO\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: b",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\nb",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 9000,
        b"GET /" + b"x" * MAX_HEAD,
    ],
)
def test_what_gunicorn_refuses_is_handed_over_at_once_and_refused_without_waiting(malformed: bytes) -> None:
    with arriving() as (client, arrival):
        client.sendall(malformed)
        assert received(arrival)
        with pytest.raises((ParseException, OSError)) as refused:  # some errors of bodies are OSError by birth
            read(RequestParser(CFG, arrival, PEER))
        assert not isinstance(refused.value, BlockingIOError)


def test_a_body_that_is_refused_for_its_length_is_not_waited_for() -> None:
    with arriving() as (client, arrival):
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MOST + 1))
        assert received(arrival)
        assert not arrival.whole


def test_heads_and_bodies_without_a_length_have_bounds() -> None:
    with arriving() as (client, arrival):
        client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD)
        with pytest.raises(LimitRequestHeaders):
            received(arrival)
    with arriving(most=10) as (client, arrival):
        client.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n0123456789")
        with pytest.raises(BodyTooLong):
            arrival.receive()


def test_who_closes_within_a_request_has_gone() -> None:
    with arriving() as (client, arrival):
        client.sendall(b"GET / HT")
        assert not arrival.receive()
        client.close()
        with pytest.raises(ConnectionResetError):
            arrival.receive()


@pytest.mark.parametrize("framing", [b"Content-Length: 2", b"Transfer-Encoding: chunked"])
def test_who_waits_to_be_asked_for_his_body_is_asked_once(framing: bytes) -> None:
    with arriving() as (client, arrival):
        client.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\n" + framing + b"\r\n\r\n")
        assert not arrival.receive()
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert arrival.asked
        client.sendall(b"ok" if b"Length" in framing else b"2\r\nok\r\n0\r\n\r\n")
        assert arrival.receive()


def test_a_body_that_comes_gets_more_time_than_one_that_does_not() -> None:
    with arriving() as (client, arrival):
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 150000\r\n\r\n")
        assert not arrival.receive()
        before = arrival.until
        assert not arrival.large or arrival.held < SMALL_BODY
        client.sendall(b"x" * 100_000)
        assert not arrival.receive()
        assert arrival.large
        assert arrival.until > before
        arrival.hurry(0, 0)
        assert arrival.until <= before
