"""Tables in text files: captions, ratings and metadata as CSV, TSV or JSON lines, with the number of each row's line.

Files are UTF-8, with or without a byte order mark. Fields separated by tabs have no quoting rules: a quotation mark is
a quotation mark. With any other separator they are CSV (RFC 4180). Columns are found by their names, in any order.
Blank lines are skipped. Lines are counted from 1; a row that spans several has the number of its first.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from sceneseek.errors import DataError, one_line

_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the number of its line, and its texts by column."""

    line: int
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A file's columns and rows."""

    columns: list[str]
    rows: list[Row]


def read_table(
    path: Path,
    what: str,
    required: Sequence[str] = (),
    separator: str = "\t",
    headerless: Callable[[list[str]], Sequence[str] | None] = lambda _: None,
) -> Table:
    """Read a file of separated fields.

    Args:
        path: the file.
        what: what it should hold, such as ``ratings``, for the messages.
        required: columns that the header must name.
        separator: of the fields, one character.
        headerless: gives the columns' names if the first row, which it gets, is no header.

    Raises:
        DataError: see `read_text`; another separator, a missing column, two of one name, or a row with more or fewer
            fields than columns.
    """
    records = _records(path, what, separator)
    first = next(records, None)
    if first is None:
        raise DataError(f"{path} is empty", f"name a file of {what}")
    header = [name.strip() for name in first[1]]
    if columns := headerless(header):
        records = chain([first], records)
    else:
        columns = header
        _check_header(header, path, what, required, separator)
    rows = []
    for line, fields in records:
        if len(fields) != len(columns):
            raise DataError(
                f"line {line} of {path} has {len(fields)} fields, not the {len(columns)} of "
                f"{one_line(', '.join(columns))[:80]}",
                "put one row on a line, and quote no tab" if separator == "\t" else f"quote a field with {separator!r}",
            )
        rows.append(Row(line, dict(zip(columns, fields, strict=True))))
    return Table(list(columns), rows)


def _records(path: Path, what: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    if separator == "\t":
        for number, line in enumerate(read_lines(path, what), start=1):
            if line.strip():
                yield number, line.split("\t")
        return
    reader = csv.reader(io.StringIO(read_text(path, what), newline=""), delimiter=separator, strict=True)
    begun = 1
    try:
        for record in reader:
            if any(map(str.strip, record)):
                yield begun, record
            begun = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"line {begun} of {path} is not CSV ({error})",
            "quote a field that holds a separator, a line end or a quotation mark, and double that",
        ) from None


def _check_header(columns: list[str], path: Path, what: str, required: Sequence[str], separator: str) -> None:
    shown = one_line(", ".join(columns))[:80]
    missing = [name for name in required if name not in columns]
    if missing and len(columns) == 1 and any(mark in columns[0] for mark in _SEPARATORS):
        raise DataError(
            f"{path} is not separated by {_SEPARATORS[separator]} (its header is {shown!r})",
            f"{what} are read as fields separated by {_SEPARATORS[separator]}",
        )
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r} (its columns: {shown})",
            f"the first line names the columns; {what} need {', '.join(required)}",
        )
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise DataError(f"{path} has two columns {one_line(twice[0])[:80]!r}", "give each its own name")


def read_objects(path: Path, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with the number of its line.

    Raises:
        DataError: see `read_text` and `parse_object`.
    """
    for number, line in enumerate(read_lines(path, what), start=1):
        if line.strip():
            yield number, parse_object(line, f"line {number} of {path}")


def parse_object(text: str, where: str) -> dict[str, Any]:
    """One JSON object; `where` it stands is for the message.

    Raises:
        DataError: it is not JSON, no object, holds NaN or an infinity, or names a field twice.
    """
    hint = "write one JSON object, on one line if the file has several"
    try:
        found = _DECODER.decode(text.strip())
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else one_line(str(error))[:80]
        raise DataError(f"{one_line(where)} is not JSON ({reason})", hint) from None
    if not isinstance(found, dict):
        raise DataError(f"{one_line(where)} is no JSON object", hint)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field comes twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def first_few(names: list[str], most: int = 3) -> str:
    """Names for a message: the first few, and how many more."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a UTF-8 file; split at line feeds only, since fields may hold rarer line separators.

    Raises:
        DataError: see `read_text`.
    """
    text = read_text(path, what)
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def read_text(path: Path, what: str) -> str:
    """A UTF-8 file, without its byte order mark.

    Raises:
        DataError: no such file, unreadable, not UTF-8, or empty.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"no {what} at {path}", "check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", f"name a readable file of {what}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"line {line} of {path} is not UTF-8", "save it as UTF-8") from error
    if not text.strip():
        raise DataError(f"{path} is empty", f"name a file of {what}")
    return text
