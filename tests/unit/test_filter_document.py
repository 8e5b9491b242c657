"""Filters are parsed from JSON or rejected with an error that names the condition; the JSON schema agrees."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sceneseek.errors import InvalidRequest
from sceneseek.filters.conditions import All
from sceneseek.filters.document import condition_schema, filter_from_json

SCHEMA = Draft202012Validator({**condition_schema("#"), "$schema": "https://json-schema.org/draft/2020-12/schema"})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "the condition '[]' is not an object"),
        ({}, "the condition '{}' is not an object"),
        ("year", "is not an object"),
        ({"field": "year"}, "must have exactly one known operator"),
        ({"field": "year", "like": "x"}, "must have exactly one known operator"),
        ({"field": "year", "equals": 1, "gt": 2}, "must have exactly one known operator"),
        ({"equals": 1}, "has no field name"),
        ({"field": 5, "equals": 1}, "has no field name"),
        ({"field": "year", "equals": None}, "has 'null', which is not a number"),
        ({"field": "year", "gte": True}, "has 'true', which is not a number"),
        ({"field": "year", "gte": 1, "lt": "2024"}, "has numbers and dates in one range"),
        ({"field": "year", "gte": 10**400}, "has a number of too many digits"),
        ({"field": "taken", "gte": "soon"}, "has 'soon', which is not a date such as 2019-05-31 or May 2019"),
        ({"field": "taken", "gte": "2024-01", "gt": "2024-01"}, "has two bounds on one side"),
        ({"field": "year", "lt": 1, "lte": 2}, "has two bounds on one side"),
        ({"field": "tags", "any_of": []}, "has no list of values"),
        ({"field": "tags", "any_of": "dog"}, "has no list of values"),
        ({"field": "place", "near": {"lat": 1}}, "has no lat, lon and meters"),
        ({"field": "place", "within": 5}, "has no north, west, south and east"),
        ({"path_prefix": 5}, "names no folder"),
        ({"path_prefix": "a", "field": "tags"}, "has keys other than path_prefix"),
        ({"all": []}, "must have only the key all, with a list of conditions"),
        ({"any": [{"path_prefix": "a"}], "field": "x"}, "must have only the key any, with a list of conditions"),
        ({"not": {"path_prefix": "a"}, "field": "x"}, "has keys other than not"),
        ({"not": []}, "is not an object"),
        ({"any": [{"path_prefix": "a"}, {"field": "b"}]}, """'{"field": "b"}' must have"""),
    ],
)  # fmt: skip
def test_invalid_filter_is_rejected_and_its_condition_named(document: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        filter_from_json(document)
    assert message in raised.value.what
    # The schema validates neither the format of dates nor the size of numbers.
    assert SCHEMA.is_valid(document) == message.endswith(
        ("not a date such as 2019-05-31 or May 2019", "too many digits")
    )


@pytest.mark.parametrize("number", [5, -1.5, 2**53 + 1, 2**64, 10**30])
def test_numbers_of_any_size_are_accepted(number: float) -> None:
    document = {"all": [{"field": "x", "equals": number}, {"field": "x", "lte": number}]}
    assert SCHEMA.is_valid(document)
    assert isinstance(filter_from_json(document), All)


def test_filters_in_the_reference_page_are_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "filters.md").read_text(encoding="utf-8")
    rows = re.findall(r"`(\{\"(?:field|not|path_prefix).*?\})`", page)
    documents = [json.loads(row) for row in rows if "..." not in row]
    assert len(documents) > 7
    for document in documents:
        assert SCHEMA.is_valid(document), document
        filter_from_json(document)


def test_depth_and_size_of_a_filter_are_limited() -> None:
    deep: Any = {"path_prefix": "a"}
    for _ in range(8):
        deep = {"not": deep}
    with pytest.raises(InvalidRequest, match="nested deeper than 8 levels"):
        filter_from_json(deep)
    with pytest.raises(InvalidRequest, match="300 conditions"):
        filter_from_json({"field": "tags", "any_of": [str(i) for i in range(300)]})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["field", "all", "any", "not", "equals", "any_of", "gte", "lt", "near", "within", "path_prefix"]
            ),
            values,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_arbitrary_json_is_parsed_or_rejected(document: Any) -> None:
    try:
        filter_from_json(document)
    except InvalidRequest as error:
        assert str(error).isprintable()
