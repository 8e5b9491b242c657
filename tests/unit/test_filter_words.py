"""Filters are parsed from short words, or rejected with an error that names the condition."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.errors import InvalidRequest
from sceneseek.filters.conditions import (
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
)
from sceneseek.filters.document import filter_from_json
from sceneseek.filters.words import filter_from_words

YEAR, TAGS, TAKEN = ("metadata", "year"), ("metadata", "tags"), ("metadata", "taken")
X = ("metadata", "x")


def day(year: int, month: int, number: int) -> datetime:
    return datetime(year, month, number, tzinfo=UTC)


YEAR_2024 = DateRange(TAKEN, gte=day(2024, 1, 1), lt=day(2025, 1, 1))


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
        ("path^=./animals//dogs/.", InFolder("animals/dogs")),
        ("path^=/animals", InFolder("animals")),
        ("ok=TRUE", AnyPart((Equals(("metadata", "ok"), "TRUE"), Equals(("metadata", "ok"), True)))),
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
        ("taken=2024", AnyPart((Equals(TAKEN, "2024"), NumberRange(TAKEN, gte=2024, lte=2024), YEAR_2024))),
        ("taken!=2024", Not(AnyPart((Equals(TAKEN, "2024"), NumberRange(TAKEN, gte=2024, lte=2024), YEAR_2024)))),
        ('taken="2024"', Equals(TAKEN, "2024")),
        ("taken=2024|x", AnyPart((AnyOf(TAKEN, ("2024", "x")), NumberRange(TAKEN, gte=2024, lte=2024), YEAR_2024))),
        ('{"field": "taken", "equals": "2024"}', AnyPart((Equals(TAKEN, "2024"), YEAR_2024))),
        ('{"field": "taken", "any_of": ["2024", "x"]}', AnyPart((AnyOf(TAKEN, ("2024", "x")), YEAR_2024))),
        ("format=jpg", Equals(("format",), "JPEG")),
        ("format=JPG|.png|tif|heic|webp", AnyOf(("format",), ("JPEG", "PNG", "TIFF", "HEIF", "WEBP"))),
        ("format!=jpeg", Not(Equals(("format",), "JPEG"))),
        ('{"field": "format", "any_of": ["jpe", "Gif"]}', AnyOf(("format",), ("JPEG", "GIF"))),
        ("metadata.format=jpg", Equals(("metadata", "format"), "jpg")),
        ("tags=Zu\u0308rich", Equals(TAGS, "Zürich")),
        ("Gro\u0308ße=x", Equals(("metadata", "Größe"), "x")),
        ('{"field": "tags", "equals": "Zu\u0308rich"}', Equals(TAGS, "Zürich")),
        ("path^=Bu\u0308cher", InFolder("Bücher")),
        ('{"path_prefix": "Bu\u0308cher/"}', InFolder("Bücher")),
        ("path=Bücher/a.jpg", AnyOf(("path",), ("Bücher/a.jpg", "Bu\u0308cher/a.jpg"))),
        ('{"field": "year", "equals": 5}', NumberRange(YEAR, gte=5, lte=5)),
    ],
)  # fmt: skip
def test_word_is_parsed_as_one_condition(word: str, meaning: Any) -> None:
    assert filter_from_words([word]) == meaning


def test_words_are_combined_with_and_and_empty_list_is_no_filter() -> None:
    assert filter_from_words(["tags=a", "tags=b"]) == All((Equals(TAGS, "a"), Equals(TAGS, "b")))
    assert filter_from_words([]) is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "the condition '' has no comparison"),
        ("year", "the condition 'year' has no comparison"),
        ("=5", "the condition '=5' has no comparison"),
        ("year>=", "the condition 'year>=' has no value"),
        ("year>old", "the condition 'year>old' has a value that is neither a number nor a date"),
        ("taken>2024-13", "has a value that is neither"),
        ("taken>2024-02-30", "has a value that is neither"),
        ("tags=a||b", "has an empty value or an unclosed quote"),
        ('tags="a', "has an empty value or an unclosed quote"),
        ("tags^=a", "uses ^= with a field other than path"),
        ("path^=/", "names no folder"),
        ("place@1,2", "is neither LAT,LON,5km nor NORTH,WEST..SOUTH,EAST"),
        ("place@91,2,5km", "has 91 degrees, beyond 90"),
        ("place@1,2,0km", "has a distance that is not positive"),
        ("place@1,2..3,4", "has its north below its south"),
        ("year>1e999", "has a number that is not finite"),
        ("{", "the condition '{' is not JSON"),
        ("[" * 5000, "has no comparison"),
        ('{"any": ' * 500, "is not JSON"),
        ("a\nb", r"the condition 'a\\nb' has no comparison"),
    ],
)
def test_invalid_word_is_rejected_with_reason(word: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        filter_from_words([word])
    assert message in refusal.value.what
    assert refusal.value.hint


@given(st.text() | st.from_regex(r'[a-z".]+(\^=|!=|>=|<=|=|>|<|@)[-0-9a-z".,|]+', fullmatch=True))
def test_arbitrary_word_is_parsed_or_rejected(word: str) -> None:
    try:
        filter_from_words([word])
    except InvalidRequest as refusal:
        assert str(refusal).isprintable()


@given(st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])) | st.booleans())
def test_json_word_equals_json_document(value: Any) -> None:
    document = {"field": "x", "equals": value}
    assert filter_from_words([json.dumps(document)]) == filter_from_json(document)
