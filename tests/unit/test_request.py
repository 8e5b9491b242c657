"""Queries and numbers are checked once, with one line that says what is wrong."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.errors import InvalidRequest
from sceneseek.queries import Query
from sceneseek.request import MAX_K, MAX_QUERY_CHARACTERS, MAX_SHORTLIST, checked_query


@pytest.mark.parametrize("text", ["", " ", "\t\n ", "\u2003"])
def test_a_query_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        checked_query(text)


def test_ten_thousand_words_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="59,999 characters"):
        checked_query(" ".join(["horse"] * 10_000))


@pytest.mark.parametrize(
    ("text", "named"), [("a\x00dog", "U+0000"), ("a \x1b[31mdog", "U+001B"), ("a\x7f", "U+007F"), ("a\udc80", "U+DC80")]
)
def test_control_characters_are_named(text: str, named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_query(text)
    assert named in str(caught.value)


def test_white_space_is_folded_and_unicode_composed() -> None:
    assert checked_query("  two\tdogs \n in  snow ") == "two dogs in snow"
    assert checked_query("cafe\u0301") == "café"


@given(st.text(max_size=MAX_QUERY_CHARACTERS))
def test_any_text_is_refused_or_becomes_one_printable_line(text: str) -> None:
    try:
        query = checked_query(text)
    except InvalidRequest as error:
        assert "\n" not in str(error)
        assert str(error).isprintable()
    else:
        assert query == query.strip() != ""
        assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in query)
        assert checked_query(query) == query


@pytest.mark.parametrize("k", [0, -1, MAX_K + 1, 10_000])
def test_k_out_of_range_is_refused_with_the_range(k: int) -> None:
    with pytest.raises(InvalidRequest, match="1 to 1,000"):
        Query(text="a dog", k=k)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shortlist": 0}, "shortlist is 0"),
        ({"offset": -1}, "offset is -1"),
        ({"offset": MAX_SHORTLIST}, "offset is 10000"),
        ({"text_weight": 1.1}, "text_weight is 1.1"),
        ({"min_score": float("nan")}, "min_score is nan"),
    ],
)
def test_numbers_out_of_range_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        Query(text="a dog", **fields)


def test_a_search_needs_a_text_or_an_image_and_a_score_needs_a_text() -> None:
    with pytest.raises(InvalidRequest, match="the field q is missing"):
        Query().parts()
    assert Query().parts(pictures=1)
    with pytest.raises(InvalidRequest, match="without a text"):
        Query(image="bf8013b6-61f9-5d1d-94d6-cfa2c149805e", min_score=0.5)
