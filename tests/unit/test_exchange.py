"""One request as it is observed: its id, its stages, what is noted of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek_server.observe import note_problem, record_stages, request_id
from sceneseek_server.observe.exchange import Exchange, accepted_id, current


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = Exchange("abc", "GET")
    token = current.set(made)
    yield made
    current.reset(token)


@pytest.mark.parametrize("given", ["a", "0b1c", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "host:12.a_B", "x" * 64])
def test_a_clients_id_is_taken(given: str) -> None:
    assert accepted_id(given) == given


@pytest.mark.parametrize(
    "given", [None, "", "x" * 65, "a b", "a\nb", "a\n", 'a"b', "<b>", "ä", "٣", "a,b", "a;b", "../a", "$(a)"]
)
def test_another_is_made_in_the_place_of_what_is_no_plain_token(given: str | None) -> None:
    assert accepted_id(given) != given


@given(st.text())
def test_whatever_a_client_sends_the_id_can_stand_in_a_header(given: str) -> None:
    taken = accepted_id(given)
    assert 1 <= len(taken) <= 64
    assert taken.isascii()
    assert taken.isprintable()


def test_made_ids_differ() -> None:
    assert len({accepted_id(None) for _ in range(1000)}) == 1000


def test_stages_of_many_queries_add_up_and_the_total_is_our_own(exchange: Exchange) -> None:
    record_stages({"encode": 1.5, "score": 0.25, "total": 99.0})
    record_stages({"encode": 2.0})
    exchange.seconds = 0.0101
    assert exchange.stages == {"encode": 3.5, "score": 0.25}
    assert exchange.server_timing() == "encode;dur=3.50, score;dur=0.25, total;dur=10.10"


def test_a_problem_without_a_kind_is_known_by_its_status(exchange: Exchange) -> None:
    note_problem("index-unavailable", 503)
    assert exchange.problem == "index-unavailable"
    note_problem("", 404)
    assert exchange.problem == "http-404"


def test_outside_of_a_request_nothing_is_noted() -> None:
    record_stages({"encode": 1.0})
    note_problem("", 500)
    assert request_id() is None


def test_within_one_its_id_is_known(exchange: Exchange) -> None:
    assert request_id() == "abc"
