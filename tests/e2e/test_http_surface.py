"""Malformed and unusual HTTP requests, sent as raw bytes: each gets the right status, and none causes a 500."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sceneseek.bundle import Bundle
from tests.hostile import encoded, picture
from tests.running import Running, running

PICTURE = encoded(picture(), "PNG")
SEARCH, SCORE, FEEDBACK = "/v1/search", "/v1/score", "/v1/feedback"
QUERY = f"{SEARCH}?q=a+house"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
BODY = b'{"q":"a"}'


@pytest.fixture(scope="module")
def service(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    index = shutil.copytree(index_url.removeprefix("file:"), tmp_path_factory.mktemp("surface") / "index")
    options: list[str | Path] = ["--bundle", bundle.path, "--index", f"file:{index}", "--trusted-proxies", "1"]
    with running(*options, "--cors-origin", "https://friend.example") as started:
        yield started


@pytest.fixture(scope="module")
def image(service: Running) -> str:
    address: str = json.loads(service.get(QUERY)[2])["results"][0]["image"]
    return address


def request(method: str, target: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
    """Build a request as bytes; headers are encoded as Latin-1."""
    fields = {"Host": "localhost", "Connection": "close", **(headers or {})}
    if body is not None and "Transfer-Encoding" not in fields:
        fields.setdefault("Content-Length", str(len(body)))
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode("latin-1") + b"\r\n" + (body or b"")


def chunked(body: bytes, target: str = SEARCH) -> bytes:
    return request("POST", target, {**JSON, "Transfer-Encoding": "chunked"}, body)


def form(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def part(parameters: bytes, content: bytes = b"x") -> bytes:
    return b"Content-Disposition: form-data" + parameters + b"\r\n\r\n" + content


def send(service: Running, raw: bytes) -> tuple[int, bytes, bytes]:
    """Send raw bytes, shut down the write side, and return status, head and body of the first response."""
    address = urlsplit(service.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=60) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        head, _, body = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


def count_500s(service: Running) -> float:
    """Number of 500 responses so far."""
    match = re.search(rb'^sceneseek_errors_total\{kind="http-500"\} (\S+)$', service.get("/metrics")[2], re.MULTILINE)
    return float(match[1]) if match else 0.0


FILE = part(b'; name="file"; filename="x.png"', PICTURE)
TEXT = part(b'; name="q"', b"a house")

CHUNKS = {
    "an invalid size": (b"zz\r\n{}\r\n0\r\n\r\n", 400),
    "a negative size": (b"-2\r\n{}\r\n0\r\n\r\n", 400),
    "a signed size": (b"+9\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "a prefixed size": (b"0x9\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "a size of 96 bits": (b"F" * 24 + b"\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "a missing chunk terminator": (b"9\r\n" + BODY + b"XX0\r\n\r\n", 400),
    "a truncated chunk": (b"50\r\n{}", 400),
    "no final chunk": (b"9\r\n" + BODY + b"\r\n", 400),
    "an empty body": (b"", 400),
    "bare line feeds": (b"9\n" + BODY + b"\n0\n\n", 400),
    "an extension": (b"9;a=b\r\n" + BODY + b"\r\n0\r\n\r\n", 200),
    "a malformed extension": (b"9;\x00=\x00\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "an unterminated quote": (b'9;a="\r\n' + BODY + b"\r\n0\r\n\r\n", 400),
    "a long extension": (b"9;" + b"x" * 20_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "a trailer": (b"9\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n", 200),
    "a malformed trailer": (b"9\r\n" + BODY + b"\r\n0\r\nBad Trailer\r\n\r\n", 400),
    "a trailer without a name": (b"9\r\n" + BODY + b"\r\n0\r\n: x\r\n\r\n", 400),
    "a truncated trailer": (b"9\r\n" + BODY + b"\r\n0\r\nX: y\r\n", 400),
    "many trailers": (b"9\r\n" + BODY + b"\r\n0\r\n" + b"X: y\r\n" * 5_000 + b"\r\n", 400),
}

PARTS = {
    "no name": part(b""),
    "a file without a name": part(b'; filename="x"'),
    "an empty name": part(b'; name=""'),
    "a control character as a name": part(b'; name="\x00"'),
    "a name that is not UTF-8": part(b'; name="\xff"'),
    "an escaped name that is not UTF-8": part(b"; name*=utf-8''%ff"),
    "an unknown charset": part(b"; name=q; filename*=nonsense''x"),
    "a text of an unknown charset": b"Content-Type: text/plain; charset=nonsense\r\n" + part(b"; name=more"),
    "a negative part length": b"Content-Length: -5\r\n" + part(b'; name="more"; filename="x"'),
    "a part head that is not UTF-8": b"\xff\xfe: x\r\n\r\nx",
    "no disposition": b"X: y\r\n\r\nx",
    "no part head": b"\r\n\r\n",
    "two names": part(b"; name=q; name=file; filename=x"),
}

REQUESTS = {
    **{f"chunks with {name}": (chunked(body), status) for name, (body, status) in CHUNKS.items()},
    "chunks to an unknown URL": (chunked(b"zz\r\n", "/nowhere"), 404),
    "chunks with a Content-Length": (
        request("POST", SEARCH, {**JSON, "Transfer-Encoding": "chunked", "Content-Length": "5"}, b"0\r\n\r\n"),
        400,
    ),
    "another transfer coding": (request("POST", SEARCH, {**JSON, "Transfer-Encoding": "gzip"}, BODY), 400),
    "a body that is too large": (request("POST", SEARCH, {**JSON, "Content-Length": "99999999"}, b""), 413),
    "a truncated body": (request("POST", SEARCH, {**JSON, "Content-Length": "10"}, b"{"), 400),
    "a negative length": (request("POST", SEARCH, {**JSON, "Content-Length": "-1"}, b""), 400),
    "a non-numeric length": (request("POST", SEARCH, {**JSON, "Content-Length": "\xb2"}, b""), 400),
    "two lengths": (request("POST", SEARCH, {**JSON, "Content-Length": "1, 2"}, b"12"), 400),
    "a gzip body": (request("POST", SEARCH, {**JSON, "Content-Encoding": "gzip"}, BODY), 415),
    "a Brotli form": (request("POST", SEARCH, {**FORM, "Content-Encoding": "BR"}, form(FILE, TEXT)), 415),
    "an identity content encoding": (
        request("POST", SEARCH, {**JSON, "Content-Encoding": "identity"}, BODY),
        200,
    ),
    "a form with a mixed-case content type": (
        request("POST", SEARCH, {"Content-Type": "Multipart/Form-Data; Boundary=b"}, form(FILE, TEXT)),
        200,
    ),
    "a large form with an upper-case content type": (
        request(
            "POST",
            SEARCH,
            {"Content-Type": "MULTIPART/FORM-DATA; boundary=b"},
            form(part(b'; name="file"; filename="x"', b"x" * 2_000_000), TEXT),
        ),
        422,
    ),
    "JSON with an upper-case content type": (request("POST", SEARCH, {"Content-Type": "APPLICATION/JSON"}, BODY), 200),
    "a large body with a content type that only starts like a form": (
        request("POST", SEARCH, {"Content-Type": "multipart/form-database", "Content-Length": "2000000"}, b""),
        415,
    ),
    **{
        f"the origin {origin!r}": (request("POST", SEARCH, {**JSON, "Origin": origin}, BODY), 403)
        for origin in ("http://[", "http://[::1", "http://a:b", "null", "\xff", "//", "http://localhost@x")
    },
    "the same origin": (request("POST", SEARCH, {**JSON, "Origin": "http://localhost"}, BODY), 200),
    **{
        f"the host {host!r}": (request("GET", QUERY, {"Host": host}), 421)
        for host in (
            *("", "x.example", "localhost.x.example", "[::1]evil", "localhost:evil", "localhost:1:2", "[::1", "::1"),
            *("a@localhost", "localhost,evil", "local host", "localhost/", "\xff", "%00", "[localhost]", "x" * 5_000),
            "localhost..",
        )
    },
    **{
        f"the host {host!r} of this machine": (request("GET", QUERY, {"Host": host}), 200)
        for host in ("localhost", "LocalHost:80", "localhost.", "localhost.:8080", "127.0.0.1", "[::1]:65535")
    },
    **{
        f"{name} from a client": (request("GET", "/", {name: "javascript:alert(1)//"}), 200)
        for name in ("X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Script-Name")
    },
    "a path with two slashes": (request("GET", "/v1//search?q=a"), 404),
    "an absolute URL": (request("GET", f"http://localhost{QUERY}"), 200),
    "a malformed absolute URL": (request("GET", "http://[::1/v1/search"), 400),
    "an asterisk as target": (request("OPTIONS", "*"), 404),
    "no target": (b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "10,000 words": (request("GET", f"{SEARCH}?q=" + "word+" * 10_000), 414),
    "1,500 query parameters": (request("GET", f"{SEARCH}?" + "a=b&" * 1_500), 400),
    "a long header": (request("GET", "/", {"X": "x" * 100_000}), 431),
    "a folded header": (request("GET", "/", {"X": "y\r\n z"}), 400),
    "an unknown HTTP version": (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
    "an unknown method": (request("BREW", "/"), 405),
    "an unknown expectation": (request("POST", SEARCH, {**JSON, "Expect": "a miracle"}, BODY), 417),
    "a control character": (request("GET", f"{SEARCH}?q=%00"), 400),
    "a path traversal": (request("GET", "/v1/images/../../../etc/passwd"), 405),  # the route of image uploads
}


@pytest.mark.parametrize(("raw", "status"), [pytest.param(*row, id=name) for name, row in REQUESTS.items()])
def test_request_gets_expected_status(service: Running, raw: bytes, status: int) -> None:
    actual, head, body = send(service, raw)
    assert actual == status, body
    if status >= 400 and b"problem+json" in head:
        problem = json.loads(body)
        assert problem["status"] == status
        assert f"X-Request-ID: {problem['request_id']}".encode() in head
        assert b"Cache-Control: no-store" in head
    assert b"javascript" not in head + body
    assert count_500s(service) == 0


@pytest.mark.parametrize("malformed", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("target", [SEARCH, SCORE, FEEDBACK])
def test_form_with_malformed_part_causes_no_500(service: Running, target: str, malformed: bytes) -> None:
    for parts in (
        [malformed],
        [malformed, malformed],
        [FILE, malformed],
        [FILE, TEXT, malformed],
        [FILE, TEXT, malformed, malformed],
    ):
        status, _, body = send(service, request("POST", target, FORM, form(*parts)))
        assert status in (200, 400, 415, 422), body
    assert count_500s(service) == 0


ODD = [
    *("", "\xff\xfe", '"', ",", ";", "===", "x" * 5_000, "a;b=c;;", "*", "*/*;q=x", 'W/"', "\xb2", "-1", "1e999"),
    *("bytes=\xb2-", "bytes=0-\xb3", "bytes=1-" + "9" * 400, "Basic", "Basic \xff", "Basic " + "/" * 21, "Bearer \xff"),
    *('Digest username="', "http://[", "null", "=?utf-8?q?=ff?=", "Thu, 99 Jan 0000 99:99:99 GMT", "gzip;q=", "h2c"),
]
HEADERS = [
    *(
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Access-Control-Request-Method",
        "Authorization",
        "Cache-Control",
    ),
    *("Content-Type", "Cookie", "Date", "Forwarded", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range"),
    *("If-Unmodified-Since", "Origin", "Range", "Referer", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Trailer", "Upgrade"),
    *("User-Agent", "Via", "X-API-Key", "X-Forwarded-For", "X-HTTP-Method-Override", "X-Request-ID"),
]


@pytest.mark.parametrize("name", HEADERS)
def test_header_with_unusual_value_causes_no_500(service: Running, image: str, name: str) -> None:
    for value in ODD:
        for method, target in (
            *(("GET", where) for where in (QUERY, image, f"{image}/thumbnail", "/metrics", "/readyz")),
            *(("POST", where) for where in (SEARCH, SCORE, FEEDBACK)),
        ):
            body = None if method == "GET" else BODY
            status, _, answer = send(service, request(method, target, {**JSON, name: value}, body))
            assert status < 500, (method, target, value, answer)
    assert count_500s(service) == 0


@pytest.mark.parametrize(
    ("header", "status"),
    [
        *((text, 206) for text in ("bytes=0-0", "bytes=-1", "bytes=0-", "BYTES=0-0", "bytes=0-" + "9" * 21)),
        ("bytes=999999999-", 416),
        *((text, 200) for text in ("bytes=-0", "bytes=0-0,2-3", "bytes=" + "0-0," * 1_000 + "0-0")),
        *((text, 200) for text in ("items=0-1", "seconds=999999999-", "x=", "none=0-0", "=0-1", "")),
        *((text, 200) for text in ("bytes", "bytes=", "bytes=a-b", "bytes=--1", "bytes=5-2", "bytes=\xb2-")),
    ],
)
def test_range_request_status(service: Running, image: str, header: str, status: int) -> None:
    actual, head, body = send(service, request("GET", image, {"Range": header}))
    assert actual == status, body
    assert (b"Content-Range: bytes " in head) == (status != 200)
    assert actual != 206 or len(body) == int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]
