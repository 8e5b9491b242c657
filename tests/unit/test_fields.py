"""Type inference and conversion of metadata columns."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.payload import composed
from sceneseek_indexer.fields import Column, Unfit, read_texts, read_values


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "", "-20"], Column("integer", [1, None, -20])),
        ([" 7 "], Column("integer", [7])),
        (["1", "2.5", "1e3"], Column("float", [1.0, 2.5, 1000.0])),
        (["true", "FALSE", ""], Column("bool", [True, False, None])),
        (["0", "1"], Column("integer", [0, 1])),
        (["yes", "no"], Column("keyword", ["yes", "no"])),
        (["00501", "10001"], Column("keyword", ["00501", "10001"])),
        (["+49 30", "1"], Column("keyword", ["+49 30", "1"])),
        (["9223372036854775807"], Column("integer", [2**63 - 1])),
        (["9223372036854775808"], Column("keyword", ["9223372036854775808"])),
        (["1", "9" * 5000], Column("text", ["1", "9" * 5000])),
        (["1e999", "1"], Column("keyword", ["1e999", "1"])),
        (["nan", "inf"], Column("keyword", ["nan", "inf"])),
        (["١٢"], Column("keyword", ["١٢"])),
        (["1_000"], Column("keyword", ["1_000"])),
        (["1", "two"], Column("keyword", ["1", "two"])),
        (["x" * 101], Column("text", ["x" * 101])),
        (["two\nlines"], Column("text", ["two\nlines"])),
    ],
)
def test_text_column_type_is_inferred_from_all_values(texts: list[str], expected: Column) -> None:
    assert read_texts(texts) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2024-05-31", "1999-01-01"], ["2024-05-31", "1999-01-01"]),
        (["2024-05-31", "2024-05-31 12:30"], ["2024-05-31", "2024-05-31T12:30:00"]),
        (["2024-05-31T12:30:00Z"], ["2024-05-31T12:30:00Z"]),
        (["2024-05-31T12:30:00+02:00"], ["2024-05-31T10:30:00Z"]),
        (["2024-05-31T23:30:00-0130"], ["2024-06-01T01:00:00Z"]),
        (["2024-05-31T12:30:00,5"], ["2024-05-31T12:30:00.500000"]),
        (["2024-05-31T12:30:00.123456789"], ["2024-05-31T12:30:00.123456"]),
    ],
)
def test_datetimes_with_an_offset_become_utc_and_dates_stay_dates(texts: list[str], expected: list[str]) -> None:
    assert read_texts(texts) == Column("datetime", expected)


@pytest.mark.parametrize("text", ["2024-02-30", "2024-5-1", "2024-05", "20240531", "2024-W20-1", "2024-05-31T25:00"])
def test_invalid_date_is_text(text: str) -> None:
    column = read_texts([text])
    assert column is not None
    assert column.type in ("keyword", "integer")
    assert str(column.values[0]) == text


def test_datetime_outside_the_utc_range_is_text() -> None:
    assert read_texts(["0001-01-01T00:00+10:00"]) == Column("keyword", ["0001-01-01T00:00+10:00"])


def test_empty_column_is_none() -> None:
    assert read_texts(["", "  "]) is None
    assert read_texts([]) is None
    assert read_values([None, None]) is None


@pytest.mark.parametrize(
    ("texts", "named", "expected"),
    [
        (["1", "2"], "keyword", Column("keyword", ["1", "2"])),
        (["1", ""], "int", Column("integer", [1, None])),
        (["2024-05-31"], "date", Column("datetime", ["2024-05-31"])),
        (["52.5, -13", ""], "geo", Column("geo", [{"lat": 52.5, "lon": -13.0}, None])),
        (["1", ""], "float", Column("float", [1.0, None])),
        (["1", "no", ""], "bool", Column("bool", [True, False, None])),
        (["short"], "text", Column("text", ["short"])),
        (["a; b;;a", ""], "list", Column("keyword", [["a", "b"], None])),
        (["a,b", "c"], "list", Column("keyword", [["a", "b"], ["c"]])),
        (["one thing"], "list", Column("keyword", [["one thing"]])),
        ([" ; "], "list", Column("keyword", [None])),
    ],
)
def test_explicit_type_is_applied(texts: list[str], named: str, expected: Column) -> None:
    assert read_texts(texts, named) == expected


@pytest.mark.parametrize(
    ("named", "text", "what"),
    [
        ("int", "1.5", "is '1.5', which is not a 64-bit integer"),
        ("float", "much", "is 'much', which is not a number"),
        ("bool", "maybe", "is 'maybe', which is neither true nor false"),
        ("geo", "91,0", "is '91,0', which is not a latitude from -90 to 90 and a longitude from -180 to 180"),
        ("geo", "52.5", "is '52.5', which is not a latitude from -90 to 90 and a longitude from -180 to 180"),
        ("date", "31.5.2024", "is '31.5.2024', which is not an ISO 8601 date such as 2024-05-31"),
    ],
)
def test_value_that_does_not_fit_its_type_raises_with_its_row(named: str, text: str, what: str) -> None:
    with pytest.raises(Unfit) as error:
        read_texts(["", text], named)
    assert (error.value.row, error.value.what) == (1, what)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None, 2], Column("integer", [1, None, 2])),
        ([1, 2.5], Column("float", [1.0, 2.5])),
        ([[1, 2], 2.5], Column("float", [[1.0, 2.0], 2.5])),
        ([True, False], Column("bool", [True, False])),
        (["1", "2"], Column("keyword", ["1", "2"])),
        (["2024-05-31T12:00+01:00", None], Column("datetime", ["2024-05-31T11:00:00Z", None])),
        ([["a"], "b", []], Column("keyword", [["a"], "b", None])),
        ([{"lat": 1, "lon": 2.5}, None], Column("geo", [{"lat": 1.0, "lon": 2.5}, None])),
    ],
)
def test_json_values_keep_their_type(values: list[object], expected: Column) -> None:
    assert read_values(values) == expected


@pytest.mark.parametrize(
    ("values", "row", "what"),
    [
        ([1, "one"], 1, "is text, and was a number before"),
        ([True, None, 1], 2, "is a number, and was true or false before"),
        ([[1, "a"]], 0, "is text, and was a number before"),
        ([2**63], 0, "is an integer of more than 64 bits: write it as text"),
        ([1.5, float("inf")], 1, "is a number that does not fit in 64 bits"),
        (["\ud800"], 0, "contains half of a surrogate pair, which is not a character"),
        ([{"a": 1}], 0, "contains a nested object"),
        ([[[1]]], 0, "contains a nested object"),
        ([[None]], 0, "contains a nested object"),
        ([{"lat": 91, "lon": 0}], 0, "is {'lat': 91, 'lon': 0}, which is not a latitude from -90 to 90"),
        ([{"lat": 0, "lon": "0"}], 0, "is {'lat': 0, 'lon': '0'}, which is not a latitude"),
        ([{"lat": True, "lon": 0}], 0, "is {'lat': True, 'lon': 0}, which is not a latitude"),
    ],
)
def test_mixed_or_invalid_json_values_raise_with_their_row(values: list[object], row: int, what: str) -> None:
    with pytest.raises(Unfit) as error:
        read_values(values)
    assert error.value.row == row
    assert error.value.what.startswith(what)


@settings(max_examples=40)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_round_trip_through_csv(numbers: list[int]) -> None:
    assert read_texts([str(number) for number in numbers]) == Column("integer", numbers)


@settings(max_examples=40)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1).filter(lambda all_: any(x % 1 for x in all_))
)
def test_floats_round_trip_through_csv(numbers: list[float]) -> None:
    column = read_texts([repr(number) for number in numbers])
    assert column == Column("float", numbers)


@settings(max_examples=40)
@given(st.lists(st.dates(), min_size=1))
def test_dates_round_trip_through_csv(dates: list[date]) -> None:
    texts = [day.isoformat() for day in dates]
    assert read_texts(texts) == Column("datetime", texts)


_OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(max_examples=40)
@given(st.lists(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=_OFFSETS), min_size=1))
def test_datetime_in_any_offset_denotes_the_same_instant(moments: list[datetime]) -> None:
    column = read_texts([moment.isoformat() for moment in moments])
    assert column is not None
    assert column.type == "datetime"
    assert [datetime.fromisoformat(text) for text in column.values] == moments
    assert all(datetime.fromisoformat(text).tzinfo == UTC for text in column.values)


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_text_column_has_one_value_per_text(texts: list[str]) -> None:
    column = read_texts(texts)
    if column is None:
        assert not any(text.strip() for text in texts)
        return
    assert len(column.values) == len(texts)
    assert [value is None for value in column.values] == [not text.strip() for text in texts]
    if column.type in ("keyword", "text"):
        assert column.values == [composed(text.strip()) or None for text in texts]


@settings(max_examples=40)
@given(st.lists(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)))
def test_json_values_are_read_or_raise_unfit(values: list[object]) -> None:
    try:
        column = read_values(values)
    except Unfit:
        return
    assert column is None or column.type in ("keyword", "integer", "float", "bool", "datetime", "text")
