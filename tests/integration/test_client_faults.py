"""The client beside a service that is slow, breaks off, says no, or is something else: real HTTP, scripted."""

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
found = answering(ANSWER)


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set when the test is."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(closing, id="closed without a word"),
        pytest.param(halving, id="half an answer"),
        pytest.param(problem(429, "overloaded", {"Retry-After": "0"}, detail="too much"), id="too much at once"),
        pytest.param(problem(429, "overloaded", {"Retry-After": "soon"}, detail="too much"), id="a wait that is none"),
        pytest.param(problem(503, "deadline-passed", {"Retry-After": "0"}, detail="too late"), id="too late"),
    ],
)
def test_what_was_lost_or_came_too_early_is_asked_again(first: Step) -> None:
    with playing(first, found) as service, Client(service.url) as client:
        assert client.search("a dog").results[0].id == ID
        assert len(service.asked) == 2
        assert service.asked[0].body == service.asked[1].body


def test_retry_after_is_respected() -> None:
    busy = problem(429, "overloaded", {"Retry-After": "1"}, detail="too much")
    with playing(busy, found) as service, Client(service.url) as client:
        begun = time.monotonic()
        client.search("a dog")
        assert time.monotonic() - begun >= 1


def test_a_wait_beyond_the_calls_time_is_not_begun() -> None:
    busy = problem(429, "rate-limited", {"Retry-After": "6000"}, detail="too much", hint="wait")
    with playing(busy) as service, Client(service.url, timeout=600) as client:
        begun = time.monotonic()
        with pytest.raises(Overloaded, match="too much: wait") as caught:
            client.search("a dog")
        assert caught.value.retry_after == 6000
        assert time.monotonic() - begun < 300
        assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("step", "raised"),
    [
        pytest.param(closing, ServiceUnreachable, id="closed"),
        pytest.param(garbling, ServiceUnreachable, id="no HTTP"),
        pytest.param(problem(429, "overloaded", {"Retry-After": "0"}, detail="too much"), Overloaded, id="busy"),
    ],
)
def test_it_gives_up_after_the_last_try(step: Step, raised: type[SceneseekError]) -> None:
    with playing(step) as service, Client(service.url, retries=2) as client:
        with pytest.raises(raised):
            client.search("a dog")
        assert len(service.asked) == 3


def test_no_retries_are_one_try() -> None:
    with playing(closing, found) as service, Client(service.url, retries=0) as client:
        with pytest.raises(ServiceUnreachable, match="was lost before the response was complete"):
            client.search("a dog")
        assert len(service.asked) == 1


def test_a_service_that_says_nothing_is_given_up_in_time(over: threading.Event) -> None:
    with playing(waiting(over)) as service, Client(service.url, timeout=0.3) as client:
        with pytest.raises(ServiceUnreachable, match=r"has not answered within 0\.3 s"):
            client.search("a dog")
        over.set()


def test_an_answer_sent_byte_by_byte_times_out(over: threading.Event) -> None:
    with playing(trickling(over)) as service, Client(service.url, timeout=0.3) as client:
        with pytest.raises(ServiceUnreachable, match=r"has not answered within 0\.3 s"):
            client.image(ID)
        over.set()


def test_a_port_where_nothing_listens_and_a_host_that_is_unknown_are_named() -> None:
    with playing(found) as service:
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
def test_a_problem_is_the_error_that_the_service_met_in_its_own_words(
    status: int, kind: str, raised: type[SceneseekError]
) -> None:
    step = problem(status, kind, detail="it is so", hint="do that", request_id="r-1")
    with playing(step) as service, Client(service.url, retries=0) as client:
        with pytest.raises(SceneseekError) as caught:
            client.search("a dog")
        assert (type(caught.value), str(caught.value)) == (raised, "it is so: do that")
        assert "r-1" in caught.value.__notes__[0]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 502, 503])
def test_what_would_end_the_same_way_is_not_asked_again(status: int) -> None:
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
def test_an_invalid_answer_is_an_error_that_names_the_first_flaw(content: bytes, why: str) -> None:
    with playing(answering(content)) as service, Client(service.url) as client:
        with pytest.raises(ServiceError, match=why) as caught:
            client.search("a dog")
        assert service.url in str(caught.value)
        assert len(service.asked) == 1


def test_a_foreign_error_page_is_reported_by_its_status() -> None:
    with playing(answering(b"<html>", 502)) as service, Client(service.url) as client:
        with pytest.raises(ServiceError, match=f"{service.url} answered 502 Bad Gateway") as caught:
            client.search("a dog")
        assert caught.value.http_status == 502


def test_fields_of_a_newer_service_are_ignored_and_addresses_are_whole() -> None:
    newer: dict[str, Any] = {**ANSWER, "mood": 1, "results": [{**ANSWER["results"][0], "colour": "red"}]}
    with playing(answering(newer)) as service, Client(f"{service.url}/photos/") as client:
        answer = client.search("a dog")
        assert service.asked[0].path == "/photos/v1/search"
        (result,) = answer.results
        assert (result.score, result.path, result.explanation) == (1.0, None, None)
        assert result.thumbnail == f"{service.url}/photos/v1/images/{ID}/thumbnail"


def test_a_redirect_is_an_error_and_the_key_is_not_sent_on() -> None:
    with playing(found) as elsewhere:
        moved = answering(b"", 302, {"Location": f"{elsewhere.url}/v1/search"})
        with playing(moved) as service, Client(service.url, key=KEY) as client:
            with pytest.raises(ServiceError, match=f"redirects to {elsewhere.url}/v1/search"):
                client.search("a dog")
            assert len(service.asked) == 1
        assert elsewhere.asked == []


def test_the_key_is_sent_and_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refused = problem(401, "unauthorized", detail="this needs a key")
    with playing(answering(READY), refused) as service, Client(service.url, key=f"{KEY}\n") as client:
        assert client.ready().images == 12
        assert service.asked[0].headers["Authorization"] == f"Bearer {KEY}"
        with pytest.raises(KeyRefused) as caught:
            client.ready()
        assert KEY not in repr(client) + repr(vars(client)) + repr(caught.value)
    assert KEY not in caplog.text
    assert "without encryption" not in caplog.text, "it stays on this machine"


def test_a_key_that_goes_over_the_network_in_the_clear_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Client("http://photos.example", key=KEY).close()
    assert "the key is sent to http://photos.example without encryption" in caplog.text
    caplog.clear()
    Client("https://photos.example", key=KEY).close()
    Client("http://photos.example").close()
    assert caplog.text == ""


def test_feedback_that_is_sent_again_carries_the_same_key() -> None:
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


def test_pages_of_two_generations_are_not_mixed() -> None:
    first = answering({**ANSWER, "next_offset": 1})
    with playing(first, answering({**ANSWER, "generation": "g2"})) as service, Client(service.url) as client:
        pages = client.pages(Query("a dog", k=1))
        assert next(pages).generation == "g1"
        with pytest.raises(IndexChanged, match="the index changed after 1 results"):
            next(pages)
        assert service.asked[1].document == {"q": "a dog", "k": 1, "offset": 1}


def test_many_threads_share_one_client() -> None:
    with playing(found) as service, Client(service.url) as client, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: client.search("a dog"), range(64)))
        assert len({answer.results[0].id for answer in answers}) == 1
        assert len(service.asked) == 64


def test_what_cannot_be_sent_is_refused_before_it_is(tmp_path: Path) -> None:
    with playing(found) as service, Client(service.url) as client:
        for ask in (
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
                ask()
        with pytest.raises(SourceError, match=r"none\.jpg cannot be read"):
            client.search(image=tmp_path / "none.jpg")
        assert service.asked == []


def test_a_closed_client_says_so() -> None:
    with playing(found) as service:
        client = Client(service.url)
        client.close()
        with pytest.raises(InvalidRequest, match="the client is closed"):
            client.search("a dog")
