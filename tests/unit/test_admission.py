"""A bounded number of requests is processed in arrival order; requests beyond the queue are rejected immediately."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sceneseek.errors import TryAgain
from sceneseek_server.admission import Admission
from sceneseek_server.responses import DEADLINE


class Application:
    """A WSGI application that holds each request until `release` is called once for it."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self._go = threading.Semaphore(0)
        self._entered = threading.Semaphore(0)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.began.append(environ["PATH_INFO"])
        self._entered.release()
        assert self._go.acquire(timeout=60)
        start_response("200 OK", [])
        return [b"done"]

    def release(self) -> None:
        self._go.release()

    def wait(self) -> None:
        """Wait until one more request has entered."""
        assert self._entered.acquire(timeout=60)


class Caller(threading.Thread):
    """A request in a separate thread."""

    def __init__(self, admission: Admission, path: str, method: str = "GET", content_type: str = "") -> None:
        super().__init__(daemon=True)
        self._admission, self._environ = (
            admission,
            {"PATH_INFO": path, "REQUEST_METHOD": method, "CONTENT_TYPE": content_type},
        )
        self.status, self.headers, self.body = "", dict[str, str](), b""
        self.start()

    def run(self) -> None:
        def started(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            self.status, self.headers = status, dict(headers)

        self.body = b"".join(self._admission(self._environ, started))

    @property
    def deadline(self) -> float:
        return float(self._environ[DEADLINE])


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@contextmanager
def full(slots: int, queue: int, seconds: float = 60.0) -> Iterator[tuple[Application, Admission, list[Caller]]]:
    """A service whose slots and queue are full of numbered requests."""
    application = Application()
    admission = Admission(application, slots, queue, seconds)
    callers = []
    for number in range(slots):
        callers.append(Caller(admission, f"/{number}"))
        application.wait()
    for number in range(slots, slots + queue):
        callers.append(Caller(admission, f"/{number}"))
        eventually(lambda already=number - slots: len(admission.others.waiting) > already)  # type: ignore[misc]
    yield application, admission, callers
    for _ in callers:
        application.release()
    for caller in callers:
        caller.join(60)


def test_queued_requests_are_processed_in_arrival_order() -> None:
    with full(slots=2, queue=5) as (application, _, callers):
        for _ in range(5):
            application.release()
            application.wait()
        assert application.began == [f"/{number}" for number in range(7)]
    assert [caller.status for caller in callers] == ["200 OK"] * 7


def test_request_is_rejected_with_429_when_queue_is_full() -> None:
    rejected: list[tuple[str, TryAgain]] = []
    with full(slots=1, queue=1) as (application, admission, _):
        admission.on_rejected = lambda method, error: rejected.append((method, error))
        caller = Caller(admission, "/v1/embeddings", "POST")
        caller.join(60)
        assert application.began == ["/0"]
    assert caller.status == "429 Too Many Requests"
    assert int(caller.headers["Retry-After"]) >= 1
    document = json.loads(caller.body)
    assert document["type"] == document["error"]["type"] == "urn:sceneseek:problem:overloaded"
    assert [(method, error.status) for method, error in rejected] == [("POST", 429)]


def test_queued_request_gets_503_when_its_deadline_passes() -> None:
    with full(slots=1, queue=1, seconds=0.05) as (application, _, callers):
        callers[1].join(60)
        assert callers[1].status == "503 Service Unavailable"
        assert json.loads(callers[1].body)["type"] == "urn:sceneseek:problem:deadline-passed"
        assert application.began == ["/0"]


def test_health_and_metrics_bypass_admission_when_full() -> None:
    with full(slots=1, queue=0) as (application, admission, callers):
        for path in ("/healthz", "/readyz", "/metrics"):
            callers.append(Caller(admission, path))
            application.wait()
        assert application.began == ["/0", "/healthz", "/readyz", "/metrics"]


def test_deadline_is_passed_to_application() -> None:
    start = time.monotonic()
    with full(slots=1, queue=0, seconds=7) as (_, _, (caller,)):
        assert start + 7 <= caller.deadline <= time.monotonic() + 7


def test_rejected_head_request_has_no_body() -> None:
    with full(slots=1, queue=0) as (_, admission, _):
        caller = Caller(admission, "/late", "HEAD")
        caller.join(60)
        assert (caller.status, caller.body) == ("429 Too Many Requests", b"")


def test_failed_request_frees_its_slot() -> None:
    def broken(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise RuntimeError(environ["PATH_INFO"])

    admission = Admission(broken, slots=1, queue=0, seconds=1)
    for _ in range(3):
        try:
            admission({"PATH_INFO": "/", "REQUEST_METHOD": "GET"}, None)  # type: ignore[arg-type]
        except RuntimeError:
            continue
        raise AssertionError("the request was rejected")


PICTURES = [
    ("/v1/search", "multipart/form-data; boundary=b"),
    ("/v1/score", "MULTIPART/form-data"),
    ("/1/thumbnail", ""),
]


@pytest.mark.parametrize(("path", "content_type"), PICTURES)
def test_picture_requests_have_separate_slots_and_queue(path: str, content_type: str) -> None:
    application = Application()
    admission = Admission(application, slots=4, queue=1, seconds=60)
    callers = [Caller(admission, path, content_type=content_type)]
    application.wait()
    callers.append(Caller(admission, path, content_type=content_type))
    eventually(lambda: len(admission.pictures.waiting) == 1)
    late = Caller(admission, path, content_type=content_type)
    late.join(60)
    assert late.status == "429 Too Many Requests"
    for number in range(4):
        callers.append(Caller(admission, f"/{number}"))
        application.wait()
    assert application.began == [path, "/0", "/1", "/2", "/3"], "searches are processed meanwhile"
    for _ in callers:
        application.release()
    for caller in callers:
        caller.join(60)
    assert {caller.status for caller in callers} == {"200 OK"}
