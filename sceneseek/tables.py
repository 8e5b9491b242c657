"""Reads tables of captions, ratings and metadata from CSV, TSV or JSON lines, with the line number of each row.

Files are UTF-8, with or without a byte order mark. In tab-separated files, quotation marks have no special meaning.
With any other separator, files are CSV (RFC 4180). Columns are identified by name, in any order. Blank lines are
skipped. Line numbers begin with 1; a row that spans several lines has the number of its first line.
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
    """A row: its line number, and its values by column."""

    line: int
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """The columns and rows of a file."""

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
        what: its expected content, such as ``ratings``, for messages.
        required: columns that must exist.
        separator: the field separator, one character.
        headerless: called with the first row; returns the names of the columns if that is not a header.

    Raises:
        DataError: see `read_text`; or the file has another separator, a missing or duplicate column, or a row with
            more or fewer fields than columns.
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
                "write one row per line, without quoted tabs"
                if separator == "\t"
                else f"quote fields that contain {separator!r}",
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
            "quote fields that contain a separator, a line end or a quotation mark, and double quotation marks",
        ) from None


def _check_header(columns: list[str], path: Path, what: str, required: Sequence[str], separator: str) -> None:
    shown = one_line(", ".join(columns))[:80]
    missing = [name for name in required if name not in columns]
    if missing and len(columns) == 1 and any(mark in columns[0] for mark in _SEPARATORS):
        raise DataError(
            f"{path} is not separated by {_SEPARATORS[separator]} (its header is {shown!r})",
            f"separate the fields of {what} by {_SEPARATORS[separator]}",
        )
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r} (its columns: {shown})",
            f"the first line names the columns; {what} need {', '.join(required)}",
        )
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise DataError(f"{path} has two columns {one_line(twice[0])[:80]!r}", "use unique names")


def read_objects(path: Path, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file of JSON lines, each after its line number.

    Raises:
        DataError: see `read_text` and `parse_object`.
    """
    for number, line in enumerate(read_lines(path, what), start=1):
        if line.strip():
            yield number, parse_object(line, f"line {number} of {path}")


def parse_object(text: str, where: str) -> dict[str, Any]:
    """Parse a JSON object; `where` is its location, for the message.

    Raises:
        DataError: it is not JSON or not an object, or contains NaN, an infinity or duplicate fields.
    """
    hint = "write one JSON object, on one line if the file has several"
    try:
        found = _DECODER.decode(text.strip())
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else one_line(str(error))[:80]
        raise DataError(f"{one_line(where)} is not JSON ({reason})", hint) from None
    if not isinstance(found, dict):
        raise DataError(f"{one_line(where)} is not a JSON object", hint)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate field")
    return found


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_reject_constant)


def first_few(names: list[str], most: int = 3) -> str:
    """The first few names, and the number of the others, for a message."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def read_lines(path: Path, what: str) -> list[str]:
    """Read the lines of a UTF-8 file; split at line feeds only, as fields may contain other line separators.

    Raises:
        DataError: see `read_text`.
    """
    text = read_text(path, what)
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def read_text(path: Path, what: str) -> str:
    """Read a UTF-8 file, without its byte order mark.

    Raises:
        DataError: the file does not exist, cannot be read, is not UTF-8, or is empty.
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
