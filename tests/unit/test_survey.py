"""What images can be filtered by, from their payloads."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest

from sceneseek.store import Record
from sceneseek.store.base import FieldType
from sceneseek_server.survey import MAX_FIELDS, MAX_VALUES, Surveyed, survey_fields

INDEXED: dict[str, FieldType] = {
    "width": "integer",
    "room": "keyword",
    "tags": "keyword",
    "year": "integer",
    "acquired": "datetime",
    "lent": "bool",
    "camera.maker": "keyword",
    "spot": "geo",
}


def records(*metadata: Mapping[str, object]) -> list[Record]:
    return [Record(str(i), {"width": 9, "metadata": each}) for i, each in enumerate(metadata)]


def test_each_field_has_its_values_or_its_bounds() -> None:
    found = survey_fields(
        INDEXED,
        records(
            {"room": "Red", "year": 1990, "acquired": "2024-05-31", "lent": True, "spot": {"lat": 1, "lon": 2}},
            {"room": "Blue", "year": 1985, "tags": ["a", "b"], "camera": {"maker": "Zeiss"}},
            {"room": "Red", "tags": ["b"], "year": None, "acquired": "2023-01-01", "lent": False},
        ),
    )
    assert (found.images, found.complete) == (3, True)
    assert found.fields == [
        Surveyed("room", "keyword", 3, [("Red", 2), ("Blue", 1)], 2),
        Surveyed("tags", "keyword", 2, [("b", 2), ("a", 1)], 2),
        Surveyed("year", "integer", 2, least=1985, greatest=1990),
        Surveyed("acquired", "datetime", 2, least="2023-01-01", greatest="2024-05-31"),
        Surveyed("lent", "bool", 2, [(False, 1), (True, 1)], 2),
        Surveyed("camera.maker", "keyword", 1, [("Zeiss", 1)], 1),
    ]


def test_a_field_that_no_image_has_is_none() -> None:
    assert survey_fields(INDEXED, records({}, {"other": 1})).fields == []


def test_an_object_where_words_were_expected_is_no_value() -> None:
    assert survey_fields({"room": "keyword"}, [Record("1", {"metadata": "none"}), Record("2", {})]).fields == []


def test_fields_and_values_are_bounded() -> None:
    indexed: dict[str, FieldType] = {f"f{i}": "keyword" for i in range(MAX_FIELDS + 5)}
    rows = records(*(dict.fromkeys(indexed, f"value {i}") for i in range(2_100)))
    found = survey_fields(indexed, rows, seconds=60)
    assert [field.name for field in found.fields] == list(indexed)[:MAX_FIELDS]
    assert {(len(field.values), field.distinct) for field in found.fields} == {(MAX_VALUES, 2_000)}


def test_long_texts_are_no_values_to_choose_by() -> None:
    found = survey_fields({"x": "keyword"}, records({"x": "a" * 201}, {"x": "b" * 200}))
    assert found.fields == [Surveyed("x", "keyword", 2, [("b" * 200, 1)], 1)]


def test_a_collection_that_takes_too_long_is_counted_in_part() -> None:
    def endless() -> Iterator[Record]:
        while True:
            yield Record("1", {"metadata": {"room": "Red"}})

    start = time.monotonic()
    found = survey_fields({"room": "keyword"}, endless(), seconds=0.05)
    assert time.monotonic() - start < 5
    assert not found.complete
    assert found.fields == [Surveyed("room", "keyword", found.images, [("Red", found.images)], 1)]


@pytest.mark.parametrize("kind", ["keyword", "bool"])
def test_values_of_equal_frequency_come_in_the_order_of_their_names(kind: FieldType) -> None:
    found = survey_fields({"x": kind}, records({"x": "b"}, {"x": "a"}, {"x": "c"}))
    assert [value for value, _ in found.fields[0].values] == ["a", "b", "c"]
