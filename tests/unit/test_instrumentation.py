"""The record of one request: its id, stages and problem."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek_server.instrumentation import (
    RequestRecord,
    current,
    record_problem,
    record_stages,
    request_id,
    valid_id,
)


@pytest.fixture
def record() -> Iterator[RequestRecord]:
    record = RequestRecord("abc", "GET")
    token = current.set(record)
    yield record
    current.reset(token)


@pytest.mark.parametrize("client_id", ["a", "0b1c", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "host:12.a_B", "x" * 64])
def test_valid_client_id_is_used(client_id: str) -> None:
    assert valid_id(client_id) == client_id


@pytest.mark.parametrize(
    "client_id", [None, "", "x" * 65, "a b", "a\nb", "a\n", 'a"b', "<b>", "ä", "٣", "a,b", "a;b", "../a", "$(a)"]
)
def test_invalid_client_id_is_replaced(client_id: str | None) -> None:
    assert valid_id(client_id) != client_id


@given(st.text())
def test_request_id_is_always_a_safe_header_value(client_id: str) -> None:
    result = valid_id(client_id)
    assert 1 <= len(result) <= 64
    assert result.isascii()
    assert result.isprintable()


def test_generated_ids_differ() -> None:
    assert len({valid_id(None) for _ in range(1000)}) == 1000


def test_stages_of_several_queries_add_up(record: RequestRecord) -> None:
    record_stages({"encode": 1.5, "score": 0.25, "total": 99.0})
    record_stages({"encode": 2.0})
    record.seconds = 0.0101
    assert record.stages == {"encode": 3.5, "score": 0.25}
    assert record.server_timing() == "encode;dur=3.50, score;dur=0.25, total;dur=10.10"


def test_problem_without_a_kind_is_recorded_by_its_status(record: RequestRecord) -> None:
    record_problem("index-unavailable", 503)
    assert record.problem == "index-unavailable"
    record_problem("", 404)
    assert record.problem == "http-404"


def test_nothing_is_recorded_outside_of_a_request() -> None:
    record_stages({"encode": 1.0})
    record_problem("", 500)
    assert request_id() is None


def test_request_id_is_available_within_a_request(record: RequestRecord) -> None:
    assert request_id() == "abc"
