"""Filters are read from JSON and from short words, or refused in one sentence that names the condition."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sceneseek.errors import InvalidRequest
from sceneseek.filters import (
    All,
    AnyOf,
    AnyPart,
    DateRange,
    Equals,
    InFolder,
    Near,
    Not,
    NumberRange,
    Within,
    field_path,
    filter_from_json,
    filter_from_words,
    json_path,
    typed,
)
from sceneseek.filters.schema import condition_schema

YEAR, TAGS, TAKEN = ("metadata", "year"), ("metadata", "tags"), ("metadata", "taken")
X = ("metadata", "x")


SCHEMA = Draft202012Validator({**condition_schema("#"), "$schema": "https://json-schema.org/draft/2020-12/schema"})


def day(year: int, month: int, number: int) -> datetime:
    return datetime(year, month, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "path", "written"),
    [
        ("year", ("metadata", "year"), "metadata.year"),
        ("metadata.year", ("metadata", "year"), "metadata.year"),
        ("width", ("width",), "width"),
        ("metadata.width", ("metadata", "width"), "metadata.width"),
        ("camera.make", ("metadata", "camera", "make"), "metadata.camera.make"),
        ('"f.number"', ("metadata", "f.number"), 'metadata."f.number"'),
        ('camera."f.number"', ("metadata", "camera", "f.number"), 'metadata.camera."f.number"'),
        ("Date taken", ("metadata", "Date taken"), 'metadata."Date taken"'),
        ("größe", ("metadata", "größe"), 'metadata."größe"'),
    ],
)
def test_a_name_that_is_not_the_indexs_own_is_one_of_the_metadata(
    name: str, path: tuple[str, ...], written: str
) -> None:
    assert (field_path(name), json_path(path)) == (path, written)


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", ".a", "a.", '"', '"a', 'a"b"', '""', 'a..b"c"', '.a"b"', "a\\b", '"\\"']
)
def test_a_name_that_names_no_field_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="names no field"):
        field_path(name)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("year>=1990", AnyPart((NumberRange(YEAR, gte=1990), DateRange(YEAR, gte=day(1990, 1, 1))))),
        ("year < 19.5", NumberRange(YEAR, lt=19.5)),
        ("tags=dog", Equals(TAGS, "dog")),
        ("tags=dog|a cat", AnyOf(TAGS, ("dog", "a cat"))),
        ('tags="dog|cat"', Equals(TAGS, "dog|cat")),
        ("tags!=dog", Not(Equals(TAGS, "dog"))),
        ("year=-5", AnyPart((Equals(YEAR, "-5"), NumberRange(YEAR, gte=-5, lte=-5)))),
        ('year="1990"', Equals(YEAR, "1990")),
        ("tags=true", AnyPart((Equals(TAGS, "true"), Equals(TAGS, True)))),
        ("year=9007199254740993", AnyPart((Equals(YEAR, "9007199254740993"), Equals(YEAR, 2**53 + 1)))),
        ("path^=animals/dogs/", InFolder("animals/dogs")),
        ("path=a=b", Equals(("path",), "a=b")),
        ("place@48.85,2.35,5km", Near(("metadata", "place"), 48.85, 2.35, 5000)),
        ("place@-1,-2,30m", Near(("metadata", "place"), -1, -2, 30)),
        ("place@49,2..48,3", Within(("metadata", "place"), 49, 2, 48, 3)),
        ("taken>=2024-05", DateRange(TAKEN, gte=day(2024, 5, 1))),
        ("taken>2024-05", DateRange(TAKEN, gte=day(2024, 6, 1))),
        ("taken<=2024-12", DateRange(TAKEN, lt=day(2025, 1, 1))),
        ("taken<2024-02-29", DateRange(TAKEN, lt=day(2024, 2, 29))),
        ("taken<=2024-05-31T10:00:00+02:00", DateRange(TAKEN, lte=datetime(2024, 5, 31, 8, tzinfo=UTC))),
        ("x=2024-05", AnyPart((Equals(X, "2024-05"), DateRange(X, gte=day(2024, 5, 1), lt=day(2024, 6, 1))))),
        ('{"field": "year", "equals": 5}', NumberRange(YEAR, gte=5, lte=5)),
    ],
)  # fmt: skip
def test_a_word_is_one_condition(word: str, meaning: Any) -> None:
    assert filter_from_words([word]) == meaning


def test_several_words_must_all_hold_and_none_is_no_filter() -> None:
    assert filter_from_words(["tags=a", "tags=b"]) == All((Equals(TAGS, "a"), Equals(TAGS, "b")))
    assert filter_from_words([]) is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "the condition '' has no comparison"),
        ("year", "the condition 'year' has no comparison"),
        ("=5", "the condition '=5' has no comparison"),
        ("year>=", "the condition 'year>=' has no value"),
        ("year>old", "the condition 'year>old' compares with what is neither a number nor an ISO 8601 date"),
        ("taken>2024-13", "compares with what is neither"),
        ("taken>2024-02-30", "compares with what is neither"),
        ("tags=a||b", "has a value that is empty or quoted by half"),
        ('tags="a', "has a value that is empty or quoted by half"),
        ("tags^=a", "asks for a folder of another field than path"),
        ("path^=/", "names no folder"),
        ("place@1,2", "is neither LAT,LON,5km nor NORTH,WEST..SOUTH,EAST"),
        ("place@91,2,5km", "has 91 degrees, beyond 90"),
        ("place@1,2,0km", "has no distance above zero"),
        ("place@1,2..3,4", "has its north below its south"),
        ("year>1e999", "has a number that is not finite"),
        ("{", "the condition '{' is not JSON"),
        ("[" * 5000, "has no comparison"),
        ('{"any": ' * 500, "is not JSON"),
        ("a\nb", r"the condition 'a\\nb' has no comparison"),
    ],
)
def test_a_word_that_cannot_be_understood_is_named(word: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        filter_from_words([word])
    assert message in refusal.value.what
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "the condition '[]' is not an object"),
        ({}, "the condition '{}' is not an object"),
        ("year", "is not an object"),
        ({"field": "year"}, "does not have one condition that is known"),
        ({"field": "year", "like": "x"}, "does not have one condition that is known"),
        ({"field": "year", "equals": 1, "gt": 2}, "does not have one condition that is known"),
        ({"equals": 1}, "names no field"),
        ({"field": 5, "equals": 1}, "names no field"),
        ({"field": "year", "equals": None}, "has 'null', which is not a number"),
        ({"field": "year", "gte": True}, "has 'true', which is not a number"),
        ({"field": "year", "gte": 1, "lt": "2024"}, "has numbers and dates in one range"),
        ({"field": "year", "gte": 10**400}, "has a number of too many digits"),
        ({"field": "taken", "gte": "soon"}, "has 'soon', which is no ISO 8601 date"),
        ({"field": "taken", "gte": "2024-01", "gt": "2024-01"}, "has two bounds on one side"),
        ({"field": "year", "lt": 1, "lte": 2}, "has two bounds on one side"),
        ({"field": "tags", "any_of": []}, "has no list of values"),
        ({"field": "tags", "any_of": "dog"}, "has no list of values"),
        ({"field": "place", "near": {"lat": 1}}, "has no lat, lon and meters"),
        ({"field": "place", "within": 5}, "has no north, west, south and east"),
        ({"path_prefix": 5}, "names no folder"),
        ({"path_prefix": "a", "field": "tags"}, "has more than path_prefix"),
        ({"all": []}, "does not have all and a list of conditions alone"),
        ({"any": [{"path_prefix": "a"}], "field": "x"}, "does not have any and a list of conditions alone"),
        ({"not": {"path_prefix": "a"}, "field": "x"}, "has more than not"),
        ({"not": []}, "is not an object"),
        ({"any": [{"path_prefix": "a"}, {"field": "b"}]}, """'{"field": "b"}' does not have"""),
    ],
)  # fmt: skip
def test_json_that_cannot_be_understood_is_refused_and_the_condition_named(document: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        filter_from_json(document)
    assert message in refusal.value.what
    # What a date is, a schema leaves to the formats that a checker knows; and a number has no size in it.
    assert SCHEMA.is_valid(document) == message.endswith(("no ISO 8601 date", "too many digits"))


@pytest.mark.parametrize("number", [5, -1.5, 2**53 + 1, 2**64, 10**30])
def test_a_whole_number_of_any_size_is_compared(number: float) -> None:
    document = {"all": [{"field": "x", "equals": number}, {"field": "x", "lte": number}]}
    assert SCHEMA.is_valid(document)
    assert isinstance(filter_from_json(document), All)


def test_the_filters_page_has_no_json_that_the_schema_or_the_reader_refuses() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "filters.md").read_text(encoding="utf-8")
    rows = re.findall(r"`(\{\"(?:field|not|path_prefix).*?\})`", page)
    documents = [json.loads(row) for row in rows if "..." not in row]
    assert len(documents) > 7
    for document in documents:
        assert SCHEMA.is_valid(document), document
        filter_from_json(document)


def test_a_filter_has_bounds() -> None:
    deep: Any = {"path_prefix": "a"}
    for _ in range(8):
        deep = {"not": deep}
    with pytest.raises(InvalidRequest, match="nested deeper than 8 levels"):
        filter_from_json(deep)
    with pytest.raises(InvalidRequest, match="300 conditions"):
        filter_from_json({"field": "tags", "any_of": [str(i) for i in range(300)]})


def test_a_condition_of_another_kind_than_its_fields_index_holds_of_nothing() -> None:
    dates, numbers = DateRange(YEAR, gte=day(2024, 1, 1)), NumberRange(TAKEN, gte=5)
    kinds: dict[tuple[str, ...], str] = {YEAR: "integer", TAKEN: "datetime"}
    asked = typed(All((AnyPart((dates,)), Not(numbers), Equals(YEAR, "x"))), kinds)
    assert asked == All((AnyPart((All((dates, Not(dates))),)), Not(All((numbers, Not(numbers)))), Equals(YEAR, "x")))


anything = st.recursive(
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


@given(anything)
def test_any_json_is_a_filter_or_refused(document: Any) -> None:
    try:
        filter_from_json(document)
    except InvalidRequest as refusal:
        assert str(refusal).isprintable()


@given(st.text() | st.from_regex(r'[a-z".]+(\^=|!=|>=|<=|=|>|<|@)[-0-9a-z".,|]+', fullmatch=True))
def test_any_word_is_a_filter_or_refused(word: str) -> None:
    try:
        filter_from_words([word])
    except InvalidRequest as refusal:
        assert str(refusal).isprintable()


@given(st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])) | st.booleans())
def test_words_of_json_mean_what_the_json_means(value: Any) -> None:
    document = {"field": "x", "equals": value}
    assert filter_from_words([json.dumps(document)]) == filter_from_json(document)
