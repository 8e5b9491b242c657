"""Tab-separated files with a header row: what captions and ratings come as.

UTF-8, one record a line, fields divided by tabs. No quoting rules: a quotation mark is a quotation mark.
Columns are found by their names, in any order; others may stand beside them. Lines are counted from 1,
the header's line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sceneseek.errors import DataError


@dataclass(frozen=True, slots=True)
class Record:
    """One line: its number in the file, and its fields by column."""

    line: int
    fields: dict[str, str]


def read_table(path: Path, what: str, columns: Sequence[str], headerless: bool = False) -> Iterator[Record]:
    """The records of a file; blank lines are skipped.

    Args:
        path: the file.
        what: what it should hold, such as ``ratings``, for the messages.
        columns: those that the header must name; of a headerless file all, in order.
        headerless: whether the first line is a record.

    Raises:
        DataError: no such file, not UTF-8, empty, another separator, a missing column, or a line with more or fewer
            fields than columns.
    """
    lines = read_lines(path, what)
    header = list(columns) if headerless else _header(lines[0], path, what, columns)
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and not headerless):
            continue
        fields = line.split("\t")
        if len(fields) != len(header):
            known = f"not the {len(header)} of {', '.join(header)}" if headerless else f"the header has {len(header)}"
            raise DataError(
                f"line {number} of {path} has {len(fields)} fields, {known}",
                "put one record on a line, and no tab into a field",
            )
        yield Record(number, dict(zip(header, fields, strict=True)))


def _header(line: str, path: Path, what: str, columns: Sequence[str]) -> list[str]:
    header = [name.strip() for name in line.split("\t")]
    missing = [name for name in columns if name not in header]
    if missing and len(header) == 1 and any(mark in line for mark in ",;|"):
        raise DataError(f"{path} is not separated by tabs (its header is {line[:80]!r})", "save it as TSV")
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r} (its columns: {', '.join(header)[:80]})",
            f"the first line names the columns; {what} need {', '.join(columns)}",
        )
    return header


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
        raise DataError(f"{path} is not UTF-8 (line {line})", "save it as UTF-8") from error
    if not text.strip():
        raise DataError(f"{path} is empty", f"name a file of {what}")
    return text
