"""Paths of field names in the payload, and conditions whose type differs from that of the field's index."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sceneseek.errors import InvalidRequest
from sceneseek.filters.conditions import All, AnyPart, DateRange, Equals, Not, NumberRange, field_path, json_path, typed

YEAR, TAKEN = ("metadata", "year"), ("metadata", "taken")


@pytest.mark.parametrize(
    ("name", "path", "written"),
    [
        ("year", ("metadata", "year"), "metadata.year"),
        ("metadata.year", ("metadata", "year"), "metadata.year"),
        ("width", ("width",), "width"),
        ("metadata.width", ("metadata", "width"), "metadata.width"),
        ("path_bytes", ("path_bytes",), "path_bytes"),
        ("camera.make", ("metadata", "camera", "make"), "metadata.camera.make"),
        ('"f.number"', ("metadata", "f.number"), 'metadata."f.number"'),
        ('camera."f.number"', ("metadata", "camera", "f.number"), 'metadata.camera."f.number"'),
        ("Date taken", ("metadata", "Date taken"), 'metadata."Date taken"'),
        ("größe", ("metadata", "größe"), 'metadata."größe"'),
    ],
)
def test_unreserved_field_name_refers_to_metadata(name: str, path: tuple[str, ...], written: str) -> None:
    assert (field_path(name), json_path(path)) == (path, written)


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", ".a", "a.", '"', '"a', 'a"b"', '""', 'a..b"c"', '.a"b"', "a\\b", '"\\"']
)
def test_invalid_field_name_is_rejected(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a field name"):
        field_path(name)


def test_condition_of_another_type_than_its_index_matches_nothing() -> None:
    dates, numbers = DateRange(YEAR, gte=datetime(2024, 1, 1, tzinfo=UTC)), NumberRange(TAKEN, gte=5)
    kinds: dict[tuple[str, ...], str] = {YEAR: "integer", TAKEN: "datetime"}
    condition = typed(All((AnyPart((dates,)), Not(numbers), Equals(YEAR, "x"))), kinds)
    assert condition == All(
        (AnyPart((All((dates, Not(dates))),)), Not(All((numbers, Not(numbers)))), Equals(YEAR, "x"))
    )
