"""The client against a scripted HTTP server that is slow, drops connections, returns errors or is another service."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sceneseek.client import Client, Query
from sceneseek.errors import (
    BundleError,
    Conflict,
    DeadlinePassed,
    FeedbackUnavailable,
    ImageError,
    IndexChanged,
    IndexUnavailable,
    InvalidRequest,
    KeyRefused,
    NotFound,
    Overloaded,
    RuntimeUnavailable,
    SceneseekError,
    ServiceError,
    ServiceUnreachable,
    SourceError,
    TryAgain,
    WorkerLost,
)
from tests.played_service import (
    ANSWER,
    FEEDBACK,
    READY,
    Step,
    answering,
    closing,
    garbling,
    halving,
    playing,
    problem,
    trickling,
    waiting,
)

ID = "bf8013b6-61f9-5d1d-94d6-cfa2c149805e"
KEY = "sceneseek_abcdef"
success = answering(ANSWER)


@pytest.fixture
def finished() -> Iterator[threading.Event]:
    """An event that is set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(closing, id="closed connection"),
        pytest.param(halving, id="truncated response"),
        pytest.param(problem(429, "overloaded", {"Retry-After": "0"}, detail="too much"), id="overloaded"),
        pytest.param(problem(429, "overloaded", {"Retry-After": "soon"}, detail="too much"), id="invalid Retry-After"),
        pytest.param(problem(503, "deadline-passed", {"Retry-After": "0"}, detail="too late"), id="deadline passed"),
    ],
)
def test_transient_failure_is_retried(first: Step) -> None:
    with playing(first, success) as service, Client(service.url) as client:
        assert client.search("a dog").results[0].id == ID
        assert len(service.asked) == 2
        assert service.asked[0].body == service.asked[1].body


def test_retry_after_is_respected() -> None:
    busy = problem(429, "overloaded", {"Retry-After": "1"}, detail="too much")
    with playing(busy, success) as service, Client(service.url) as client:
        start = time.monotonic()
        client.search("a dog")
        assert time.monotonic() - start >= 1


def test_retry_after_beyond_the_timeout_raises_at_once() -> None:
    busy = problem(429, "rate-limited", {"Retry-After": "6000"}, detail="too much", hint="wait")
    with playing(busy) as service, Client(service.url, timeout=600) as client:
        start = time.monotonic()
        with pytest.raises(Overloaded, match="too much: wait") as caught:
            client.search("a dog")
        assert caught.value.retry_after == 6000
        assert time.monotonic() - start < 300
        assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("step", "raised"),
    [
        pytest.param(closing, ServiceUnreachable, id="closed"),
        pytest.param(garbling, ServiceUnreachable, id="not HTTP"),
        pytest.param(problem(429, "overloaded", {"Retry-After": "0"}, detail="too much"), Overloaded, id="busy"),
    ],
)
def test_client_raises_after_the_last_retry(step: Step, raised: type[SceneseekError]) -> None:
    with playing(step) as service, Client(service.url, retries=2) as client:
        with pytest.raises(raised):
            client.search("a dog")
        assert len(service.asked) == 3


def test_zero_retries_sends_one_request() -> None:
    with playing(closing, success) as service, Client(service.url, retries=0) as client:
        with pytest.raises(ServiceUnreachable, match="was lost before the response was complete"):
            client.search("a dog")
        assert len(service.asked) == 1


def test_silent_service_times_out(finished: threading.Event) -> None:
    with playing(waiting(finished)) as service, Client(service.url, timeout=0.3) as client:
        with pytest.raises(ServiceUnreachable, match=r"has not answered within 0\.3 s"):
            client.search("a dog")
        finished.set()


def test_response_sent_byte_by_byte_times_out(finished: threading.Event) -> None:
    with playing(trickling(finished)) as service, Client(service.url, timeout=0.3) as client:
        with pytest.raises(ServiceUnreachable, match=r"has not answered within 0\.3 s"):
            client.image(ID)
        finished.set()


def test_refused_connection_and_unknown_host_raise_service_unreachable() -> None:
    with playing(success) as service:
        url = service.url
    with pytest.raises(ServiceUnreachable, match=f"nothing answers at {url}: ") as caught:
        Client(url, retries=1).search("a dog")
    assert caught.value.__cause__ is not None
    with pytest.raises(ServiceUnreachable, match=r"the host of http://nowhere\.invalid is unknown"):
        Client("http://nowhere.invalid", retries=0).ready()


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid-request", InvalidRequest),
        (404, "not-found", NotFound),
        (422, "image", ImageError),
        (401, "unauthorized", KeyRefused),
        (429, "rate-limited", Overloaded),
        (409, "conflict", Conflict),
        (503, "feedback-unavailable", FeedbackUnavailable),
        (503, "bundle", BundleError),
        (503, "index-unavailable", IndexUnavailable),
        (503, "runtime", RuntimeUnavailable),
        (503, "try-again", TryAgain),
        (503, "deadline-passed", DeadlinePassed),
        (503, "worker-lost", WorkerLost),
        (405, "", ServiceError),
        (415, "", InvalidRequest),
        (503, "", ServiceError),
        (500, "", ServiceError),
        (418, "of-a-newer-service", ServiceError),
    ],
)
def test_problem_response_raises_the_matching_error(status: int, kind: str, raised: type[SceneseekError]) -> None:
    step = problem(status, kind, detail="it is so", hint="do that", request_id="r-1")
    with playing(step) as service, Client(service.url, retries=0) as client:
        with pytest.raises(SceneseekError) as caught:
            client.search("a dog")
        assert (type(caught.value), str(caught.value)) == (raised, "it is so: do that")
        assert "r-1" in caught.value.__notes__[0]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 502, 503])
def test_permanent_failure_is_not_retried(status: int) -> None:
    with playing(problem(status, detail="no")) as service, Client(service.url) as client:
        with pytest.raises(SceneseekError):
            client.search("a dog")
        assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<html>router</html>", "application/json is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "has the unexpected value"),
        (b"{}", "query is missing"),
        (json.dumps({**ANSWER, "shortlist": "many"}).encode(), "shortlist has the unexpected value 'many'"),
        (json.dumps({**ANSWER, "results": [{"rank": 1}]}).encode(), r"results\[0\].id is missing"),
    ],
)
def test_invalid_response_raises_naming_the_first_flaw(content: bytes, why: str) -> None:
    with playing(answering(content)) as service, Client(service.url) as client:
        with pytest.raises(ServiceError, match=why) as caught:
            client.search("a dog")
        assert service.url in str(caught.value)
        assert len(service.asked) == 1


def test_error_page_without_problem_json_is_reported_by_status() -> None:
    with playing(answering(b"<html>", 502)) as service, Client(service.url) as client:
        with pytest.raises(ServiceError, match=f"{service.url} answered 502 Bad Gateway") as caught:
            client.search("a dog")
        assert caught.value.http_status == 502


def test_unknown_fields_are_ignored_and_urls_are_absolute() -> None:
    newer: dict[str, Any] = {**ANSWER, "mood": 1, "results": [{**ANSWER["results"][0], "colour": "red"}]}
    with playing(answering(newer)) as service, Client(f"{service.url}/photos/") as client:
        answer = client.search("a dog")
        assert service.asked[0].path == "/photos/v1/search"
        (result,) = answer.results
        assert (result.score, result.path, result.explanation) == (1.0, None, None)
        assert result.thumbnail == f"{service.url}/photos/v1/images/{ID}/thumbnail"


def test_redirect_raises_and_does_not_forward_the_key() -> None:
    with playing(success) as elsewhere:
        moved = answering(b"", 302, {"Location": f"{elsewhere.url}/v1/search"})
        with playing(moved) as service, Client(service.url, key=KEY) as client:
            with pytest.raises(ServiceError, match=f"redirects to {elsewhere.url}/v1/search"):
                client.search("a dog")
            assert len(service.asked) == 1
        assert elsewhere.asked == []


def test_key_is_sent_but_absent_from_logs_and_reprs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refused = problem(401, "unauthorized", detail="an API key is required")
    with playing(answering(READY), refused) as service, Client(service.url, key=f"{KEY}\n") as client:
        assert client.ready().images == 12
        assert service.asked[0].headers["Authorization"] == f"Bearer {KEY}"
        with pytest.raises(KeyRefused) as caught:
            client.ready()
        assert KEY not in repr(client) + repr(vars(client)) + repr(caught.value)
    assert KEY not in caplog.text
    assert "without encryption" not in caplog.text, "it stays on this machine"


def test_key_over_plain_http_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    Client("http://photos.example", key=KEY).close()
    assert "the key is sent to http://photos.example without encryption" in caplog.text
    caplog.clear()
    Client("https://photos.example", key=KEY).close()
    Client("http://photos.example").close()
    assert caplog.text == ""


def test_retried_feedback_has_the_same_idempotency_key() -> None:
    with playing(closing, answering(FEEDBACK, 201)) as service, Client(service.url) as client:
        assert client.feedback("a dog", ID, 4, rater="me").stored
        first, second = (asked.document for asked in service.asked)
        assert first == second
        assert first["key"]
        assert (first["query"], first["image"], first["rating"], first["rater"]) == ("a dog", ID, 4, "me")
        client.feedback("a dog", ID, 4)
        assert service.asked[2].document["key"] != first["key"]
        client.feedback("a dog", ID, 4, key="mine")
        assert service.asked[3].document["key"] == "mine"


def test_pages_raise_when_the_generation_changes() -> None:
    first = answering({**ANSWER, "next_offset": 1})
    with playing(first, answering({**ANSWER, "generation": "g2"})) as service, Client(service.url) as client:
        pages = client.pages(Query("a dog", k=1))
        assert next(pages).generation == "g1"
        with pytest.raises(IndexChanged, match="the index changed after 1 results"):
            next(pages)
        assert service.asked[1].document == {"q": "a dog", "k": 1, "offset": 1}


def test_client_is_thread_safe() -> None:
    with playing(success) as service, Client(service.url) as client, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: client.search("a dog"), range(64)))
        assert len({answer.results[0].id for answer in answers}) == 1
        assert len(service.asked) == 64


def test_invalid_arguments_raise_before_any_request(tmp_path: Path) -> None:
    with playing(success) as service, Client(service.url) as client:
        for call in (
            lambda: client.search(image="../../etc/passwd"),
            lambda: client.search(image="sea.jpg"),
            lambda: client.search("a dog", min_score=float("nan")),
            lambda: client.search("a dog", filter={"field": "x", "equals": object()}),
            lambda: client.search(image=b"...", filter={"field": "x", "equals": 1}),
            lambda: client.search("\ud800", image=b"..."),
            lambda: client.search_many([Query()]),
            lambda: client.score("a dog", [ID, b"..."]),
            lambda: client.image("nothing/../../readyz"),
        ):
            with pytest.raises(InvalidRequest):
                call()
        with pytest.raises(SourceError, match=r"none\.jpg cannot be read"):
            client.search(image=tmp_path / "none.jpg")
        assert service.asked == []


def test_closed_client_raises() -> None:
    with playing(success) as service:
        client = Client(service.url)
        client.close()
        with pytest.raises(InvalidRequest, match="the client is closed"):
            client.search("a dog")
