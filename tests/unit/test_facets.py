"""Facets: fields and values that images can be filtered by, counted from payloads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from sceneseek.store import Record
from sceneseek.store.base import FieldType
from sceneseek_server.facets import MAX_FIELDS, MAX_VALUES, FieldDocument, count_facets

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


def field(
    name: str,
    kind: FieldType,
    images: int,
    values: Sequence[tuple[str | bool, int]] = (),
    least: float | str | None = None,
    greatest: float | str | None = None,
) -> FieldDocument:
    return {
        "name": name,
        "type": kind,
        "images": images,
        "values": [{"value": value, "images": count} for value, count in values],
        "distinct": len(values),
        "min": least,
        "max": greatest,
    }


def test_facets_have_values_or_bounds_per_field() -> None:
    found = count_facets(
        "live",
        INDEXED,
        records(
            {"room": "Red", "year": 1990, "acquired": "2024-05-31", "lent": True, "spot": {"lat": 1, "lon": 2}},
            {"room": "Blue", "year": 1985, "tags": ["a", "b"], "camera": {"maker": "Zeiss"}},
            {"room": "Red", "tags": ["b"], "year": None, "acquired": "2023-01-01", "lent": False},
        ),
    )
    assert (found["images"], found["complete"]) == (3, True)
    assert found["fields"] == [
        field("room", "keyword", 3, [("Red", 2), ("Blue", 1)]),
        field("tags", "keyword", 2, [("b", 2), ("a", 1)]),
        field("year", "integer", 2, least=1985, greatest=1990),
        field("acquired", "datetime", 2, least="2023-01-01", greatest="2024-05-31"),
        field("lent", "bool", 2, [(False, 1), (True, 1)]),
        field("camera.maker", "keyword", 1, [("Zeiss", 1)]),
    ]


def test_field_without_values_is_omitted() -> None:
    assert count_facets("live", INDEXED, records({}, {"other": 1}))["fields"] == []


def test_object_is_not_a_keyword_value() -> None:
    assert (
        count_facets("live", {"room": "keyword"}, [Record("1", {"metadata": "none"}), Record("2", {})])["fields"] == []
    )


def test_number_of_fields_and_values_is_bounded() -> None:
    indexed: dict[str, FieldType] = {f"f{i}": "keyword" for i in range(MAX_FIELDS + 5)}
    rows = records(*(dict.fromkeys(indexed, f"value {i}") for i in range(2_100)))
    found = count_facets("live", indexed, rows, seconds=60)
    assert [each["name"] for each in found["fields"]] == list(indexed)[:MAX_FIELDS]
    assert {(len(each["values"]), each["distinct"]) for each in found["fields"]} == {(MAX_VALUES, 2_000)}


def test_long_values_are_not_listed() -> None:
    found = count_facets("live", {"x": "keyword"}, records({"x": "a" * 201}, {"x": "b" * 200}))
    assert found["fields"] == [field("x", "keyword", 2, [("b" * 200, 1)])]


def test_time_limit_gives_partial_counts() -> None:
    def endless() -> Iterator[Record]:
        while True:
            yield Record("1", {"metadata": {"room": "Red"}})

    found = count_facets("live", {"room": "keyword"}, endless(), seconds=0.05)
    assert not found["complete"]
    assert found["fields"] == [field("room", "keyword", found["images"], [("Red", found["images"])])]


@pytest.mark.parametrize("kind", ["keyword", "bool"])
def test_equally_frequent_values_are_sorted_by_value(kind: FieldType) -> None:
    found = count_facets("live", {"x": kind}, records({"x": "b"}, {"x": "a"}, {"x": "c"}))
    assert [each["value"] for each in found["fields"][0]["values"]] == ["a", "b", "c"]
