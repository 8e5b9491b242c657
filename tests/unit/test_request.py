"""Queries and numeric parameters are validated, with one-line errors."""

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
def test_blank_query_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        checked_query(text)


def test_overlong_query_is_rejected() -> None:
    with pytest.raises(InvalidRequest, match="59,999 characters"):
        checked_query(" ".join(["horse"] * 10_000))


@pytest.mark.parametrize(
    ("text", "named"), [("a\x00dog", "U+0000"), ("a \x1b[31mdog", "U+001B"), ("a\x7f", "U+007F"), ("a\udc80", "U+DC80")]
)
def test_control_character_is_rejected_with_code_point(text: str, named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_query(text)
    assert named in str(caught.value)


def test_whitespace_is_collapsed_and_unicode_composed() -> None:
    assert checked_query("  two\tdogs \n in  snow ") == "two dogs in snow"
    assert checked_query("cafe\u0301") == "café"


@given(st.text(max_size=MAX_QUERY_CHARACTERS))
def test_arbitrary_text_is_rejected_or_normalised_to_one_line(text: str) -> None:
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
def test_k_out_of_range_is_rejected_with_range(k: int) -> None:
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
def test_number_out_of_range_is_rejected_with_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        Query(text="a dog", **fields)


def test_query_requires_text_or_image_and_min_score_requires_text() -> None:
    with pytest.raises(InvalidRequest, match="the field q is missing"):
        Query().parts()
    assert Query().parts(pictures=1)
    with pytest.raises(InvalidRequest, match="without a text"):
        Query(image="bf8013b6-61f9-5d1d-94d6-cfa2c149805e", min_score=0.5)
