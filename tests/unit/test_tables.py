"""Tables and JSON lines are read with line numbers and consistent errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.errors import DataError
from sceneseek.tables import Row, read_objects, read_table


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "table"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4\n",
        "\ufeffa,b\n1,2\n3,4",
        "a,b\r\n1,2\r\n3,4\r\n",
        " a , b \n1,2\n3,4\n",
    ],
    ids=["plain", "byte order mark", "CRLF", "spaces in the header"],
)
def test_rows_are_read_with_any_separator(tmp_path: Path, separator: str, content: str) -> None:
    table = read_table(written(tmp_path, content.replace(",", separator)), "data", ["a", "b"], separator)
    assert table.columns == ["a", "b"]
    assert table.rows == [Row(2, {"a": "1", "b": "2"}), Row(3, {"a": "3", "b": "4"})]


def test_row_has_number_of_its_first_line(tmp_path: Path) -> None:
    file = written(tmp_path, '\na,b\n\n"1\n""one""",2\n , \n3,4\n')
    assert read_table(file, "data", separator=",").rows == [
        Row(4, {"a": '1\n"one"', "b": "2"}),
        Row(7, {"a": "3", "b": "4"}),
    ]


def test_tab_separated_values_have_no_quoting(tmp_path: Path) -> None:
    file = written(tmp_path, 'a\tb\n\n"1\t2\x0b\u2028"\n')
    assert read_table(file, "data").rows == [Row(3, {"a": '"1', "b": '2\x0b\u2028"'})]


def test_headerless_table_includes_first_row(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "1\t2\n"), "data", ["x"], headerless=lambda first: ["a", "b"][: len(first)])
    assert (table.columns, table.rows) == (["a", "b"], [Row(1, {"a": "1", "b": "2"})])


@pytest.mark.parametrize(
    ("content", "separator", "message"),
    [
        ("", ",", "is empty: name a file of data"),
        (" \n\n", "\t", "is empty"),
        (",\n", ",", "is empty"),
        ("b,c\n1,2\n", ",", "has no column 'a' (its columns: b, c): the first line names the columns; data need a"),
        ("a\tb\n1\t2\n", ",", "is not separated by commas (its header is 'a\\\\tb')"),
        ("a;b\n1;2\n", "\t", "is not separated by tabs (its header is 'a;b')"),
        ("a,b\n1,2\n", "|", "is not separated by vertical bars"),
        ("a,b,b\n1,2,3\n", ",", "has two columns 'b'"),
        ("a,b\n1,2\n3\n", ",", "line 3 of {file} has 1 fields, not the 2 of a, b: quote fields that contain ','"),
        ("a\tb\n1\t2\t3\n", "\t", "line 2 of {file} has 3 fields, not the 2 of a, b"),
        ('a,b\n1,"2\n', ",", "line 2 of {file} is not CSV"),
        ('a,b\n1,"2" x\n', ",", "line 2 of {file} is not CSV"),
        (b"a,b\n1,\xff\n", ",", "line 2 of {file} is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), ",", "line 1 of {file} is not UTF-8"),
    ],
)
def test_invalid_table_is_rejected_with_one_line_error(
    tmp_path: Path, content: str | bytes, separator: str, message: str
) -> None:
    file = written(tmp_path, content)
    with pytest.raises(DataError) as error:
        read_table(file, "data", ["a"], separator)
    assert message.format(file=file) in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_file_is_rejected_with_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data at .*nowhere: check the path"):
        read_table(tmp_path / "nowhere", "data")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path, "data")


def test_json_lines_are_read_with_line_numbers(tmp_path: Path) -> None:
    file = written(tmp_path, '\ufeff{"a": 1}\r\n\n{"a": [2]}')
    assert list(read_objects(file, "data")) == [(1, {"a": 1}), (3, {"a": [2]})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON (Expecting property name enclosed in double quotes)"),
        ("[1]", "is not a JSON object"),
        ('{"a": 1, "a": 2}', "is not JSON (duplicate field)"),
        ('{"a": NaN}', "is not JSON (NaN is not allowed)"),
        ('{"a": -Infinity}', "is not JSON (-Infinity is not allowed)"),
        ("[" * 100_000, "is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
    ],
)
def test_invalid_json_line_is_rejected_with_line_number(tmp_path: Path, line: str, message: str) -> None:
    file = written(tmp_path, f'{{"a": 1}}\n{line}\n')
    with pytest.raises(DataError) as error:
        list(read_objects(file, "data"))
    assert f"line 2 of {file} {message}" in str(error.value)
