"""The user's own metadata of images, from a file beside them: what `--metadata` names.

CSV (separated by commas, semicolons or tabs), TSV (without quoting rules) or JSON lines, UTF-8. A column `path`, or
where there is none `image`, names an image by its path below the folder; every other column is metadata. A header
may name a column's type: `year:int`, `taken:date`, `tags:list`; else it is inferred over the whole file, see
`fields`. `lat` and `lon` become one field `location`. Or one JSON object for each image, in a file beside
it: `photo.jpg.json` for `photo.jpg`.

A file is taken as a whole or not at all: the first thing that is wrong with it is an error that names its line.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from sceneseek.errors import DataError, one_line
from sceneseek.payload import PAYLOAD_FIELDS, path_fields
from sceneseek.tables import read_text
from sceneseek_indexer.fields import LISTS, SPELLINGS, Column, FieldType, Forced, Unfit, place, read_texts, read_values

WHAT = "metadata"
BESIDE = ".json"
_KEYS = ("path", "image")
_LAT, _LON = ("lat", "latitude"), ("lon", "lng", "longitude")
_LOCATION = "location"
_LONGEST_NAME = 64
_ODD = re.compile(r'[\x00-\x1f\x7f"\\\[\]]')
_LONGEST_FIELD = 10_000_000


@dataclass(frozen=True)
class Sidecar:
    """What is known of images: by path, and each field's type.

    Attributes:
        fields: the type of every field that has a value somewhere, for payload indexes.
    """

    fields: dict[str, FieldType]
    _rows: dict[str, dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, file: Path) -> Sidecar:
        """Read a file.

        Raises:
            DataError: it cannot be read, a row is malformed, a path comes twice, or a field cannot be used.
        """
        reader = _READERS.get(file.suffix.lower())
        if reader is None:
            raise DataError(f"{file} is of no known kind", f"metadata ends in {', '.join(sorted(_READERS))}")
        return _gathered(reader(read_text(file, WHAT), file))

    @classmethod
    def beside(cls, folder: Path, paths: Iterable[str]) -> Sidecar:
        """Read `NAME.json` beside each of these images below a folder, where there is one.

        Raises:
            DataError: as `of`.
        """
        names, objects, files = [], [], []
        for relative in paths:
            file = folder / f"{relative}{BESIDE}"
            if file.is_file():
                names.append(path_fields(relative)["path"])
                objects.append(_object(read_text(file, WHAT), str(file)))
                files.append(one_line(str(file)))
        for where, row in zip(files, objects, strict=True):
            row.pop("path", None)
            if not row:
                raise DataError(f"{where} holds no metadata", "give it a field, or remove it")
        return _gathered(_Raw(names, _by_field(objects), files.__getitem__, files.__getitem__))

    def __len__(self) -> int:
        return len(self._rows)

    def metadata(self, relative: str) -> dict[str, Any]:
        """The metadata of the image at a source-relative path; empty where nothing is known of it."""
        return dict(self._rows.get(_key(path_fields(relative)["path"]), {}))

    def unmatched(self, paths: Iterable[str]) -> list[str]:
        """The paths, in the file's order, at which there is no image; `paths` are those of the images."""
        there = {_key(path_fields(relative)["path"]) for relative in paths}
        return [path for path in self._rows if path not in there]

    def differs(self, relative: str, stored: Mapping[str, Any]) -> bool:
        """Whether the metadata that a point holds is not what this says, and so is to be written again."""
        return _canonical(stored) != _canonical(self.metadata(relative))


def read_metadata(named: str, folder: Path, paths: Iterable[str]) -> Sidecar:
    """What `--metadata` names: a file, or `sidecars` for a file beside each of these images below the folder.

    Raises:
        DataError: see `Sidecar.of` and `Sidecar.beside`.
    """
    return Sidecar.beside(folder, paths) if named == "sidecars" else Sidecar.of(Path(named))


@dataclass(frozen=True)
class _Raw:
    """A file's rows by column, before their types are known.

    Attributes:
        paths: the image of each row.
        columns: a row each; texts or JSON values, None where the row has no such field.
        row: what a row is called: ``line 5 of FILE``.
        whole: what to call the file, by one of its rows.
        forced: types that the header names; None where values have types of their own.
    """

    paths: list[str]
    columns: dict[str, list[Any]]
    row: Callable[[int], str]
    whole: Callable[[int], str]
    forced: dict[str, Forced] | None = None

    def typed(self) -> dict[str, Column]:
        """Every column that holds a value, with its type."""
        columns = {}
        for name, values in self.columns.items():
            column = self._checked(name, functools.partial(self._read, name, values))
            if column is not None:
                columns[name] = column
        return columns

    def _read(self, name: str, values: list[Any]) -> Column | None:
        as_list = name.lower() in LISTS
        if self.forced is None:
            return read_values(values, as_list)
        return read_texts(values, self.forced.get(name) or ("list" if as_list else None))

    def located(self, columns: dict[str, Column]) -> dict[str, Column]:
        """The same with degrees of latitude and longitude as one column of places."""
        lat = next((name for name in columns if name.lower() in _LAT), None)
        lon = next((name for name in columns if name.lower() in _LON), None)
        if lat is None or lon is None:
            return columns
        if _LOCATION in columns:
            raise DataError(
                f"{self.whole(0)} has {lat}, {lon} and {_LOCATION}", f"{lat} and {lon} become {_LOCATION}: rename one"
            )
        north, east = columns[lat], columns[lon]
        location = self._checked(_LOCATION, lambda: place(north, east))
        rest = {name: column for name, column in columns.items() if name not in (lat, lon)}
        return {**rest, _LOCATION: location} if location is not None else rest

    def _checked(self, name: str, reads: Callable[[], Column | None]) -> Column | None:
        try:
            return reads()
        except Unfit as error:
            raise DataError(
                f"{self.row(error.row)}: {one_line(name)} {error.what}", "correct it; nothing of the file was used"
            ) from None


def _gathered(raw: _Raw) -> Sidecar:
    """The rows by path, once every column has its type."""
    for name in raw.columns:
        _check_name(name, raw.whole(0))
    columns = raw.located(raw.typed())
    rows: dict[str, dict[str, Any]] = {}
    names = list(columns)
    for number, (path, values) in enumerate(
        zip(raw.paths, zip(*(column.values for column in columns.values()), strict=True), strict=True)
        if names
        else ((path, ()) for path in raw.paths)
    ):
        key = _key(path)
        if not key:
            raise DataError(f"{raw.row(number)} names no image", "give its path below the folder")
        if key in rows:
            first = next(row for row, earlier in enumerate(raw.paths) if _key(earlier) == key)
            raise DataError(
                f"{raw.row(number)} names {one_line(key)} again, after {raw.row(first)}", "give each image one row"
            )
        rows[key] = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    return Sidecar({name: column.type for name, column in columns.items()}, rows)


def _read_separated(text: str, file: Path) -> _Raw:
    first = text.lstrip("\r\n").splitlines()[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    limit = csv.field_size_limit(_LONGEST_FIELD)
    rows, lines, begun = [], [], 1
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(begun)
            begun = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"line {begun} of {file} is not CSV ({error})", "put a field that holds quotes or separators into quotes"
        ) from None
    finally:
        csv.field_size_limit(limit)
    return _from_rows(rows, lines, file)


def _read_tabs(text: str, file: Path) -> _Raw:
    rows, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append(line.removesuffix("\r").split("\t"))
            lines.append(number)
    return _from_rows(rows, lines, file)


def _from_rows(rows: list[list[str]], lines: list[int], file: Path) -> _Raw:
    header, *rows = rows
    names, forced = _header(header, file)
    for row, line in zip(rows, lines[1:], strict=True):
        if len(row) != len(names):
            raise DataError(
                f"line {line} of {file} has {len(row)} fields, the header has {len(names)}",
                "give every row as many fields as the header",
            )
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in names}
    key = _path_column(names, file)
    return _Raw(columns.pop(key), columns, lambda row: f"line {lines[row + 1]} of {file}", lambda _: str(file), forced)


def _header(cells: Sequence[str], file: Path) -> tuple[list[str], dict[str, Forced]]:
    """Names and the types that stand behind them."""
    names: list[str] = []
    forced = {}
    for cell in cells:
        name, colon, spelling = (part.strip() for part in cell.rpartition(":"))
        if not colon:
            name = spelling
        elif spelling.lower() not in SPELLINGS:
            raise DataError(
                f"the column {one_line(cell)[:80]} of {file} asks for the unknown type {one_line(spelling)[:40]!r}",
                f"types are {', '.join(SPELLINGS)}; a name holds no colon",
            )
        else:
            forced[name] = SPELLINGS[spelling.lower()]
        if name in names:
            raise DataError(f"{file} has the column {one_line(name)[:80]!r} twice", "give each a name of its own")
        names.append(name)
    return names, forced


def _path_column(names: Iterable[str], file: Path) -> str:
    known = list(names)
    for key in _KEYS:
        if key in known:
            return key
    raise DataError(
        f"{file} has no column path (its columns: {one_line(', '.join(known))[:80]})",
        "name the column of the images' paths `path` or `image`",
    )


def _read_objects(text: str, file: Path) -> _Raw:
    rows, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append(_object(line, f"line {number} of {file}"))
            lines.append(number)
    columns = _by_field(rows)
    key = _path_column(columns, file)
    paths = columns.pop(key)
    for number, path in zip(lines, paths, strict=True):
        if not isinstance(path, str):
            raise DataError(f"line {number} of {file} names no image", f"give its path below the folder as {key}")
    return _Raw(paths, columns, lambda row: f"line {lines[row]} of {file}", lambda _: str(file))


def _by_field(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = _DECODER.decode(text.strip())
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else one_line(str(error))[:80]
        raise DataError(f"{one_line(where)} is not JSON ({reason})", "put one JSON object on a line") from None
    if not isinstance(found, dict):
        raise DataError(f"{one_line(where)} is no JSON object", "put one JSON object on a line")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field comes twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _check_name(name: str, file: str) -> None:
    shown = one_line(name)[:80]
    if name in PAYLOAD_FIELDS:
        raise DataError(
            f"the field {shown} of {file} has a name of the index's own", "rename it, such as to my_" + shown
        )
    if not name.strip() or len(name) > _LONGEST_NAME or _ODD.search(name) or not name.isprintable():
        raise DataError(
            f"the field {shown!r} of {file} has an unfit name",
            f'names are of 1 to {_LONGEST_NAME} characters without ", \\, [, ] and control characters',
        )


def _key(path: str) -> str:
    """A path as it is looked up: composed, since one system's file names are written decomposed by another."""
    return unicodedata.normalize("NFC", path.strip().removeprefix("./"))


def _canonical(metadata: Mapping[str, Any]) -> str:
    # Compared as they are written: to Python 1, 1.0 and true are equal.
    return json.dumps(metadata, sort_keys=True)


_READERS: dict[str, Callable[[str, Path], _Raw]] = {
    ".csv": _read_separated,
    ".tsv": _read_tabs,
    ".tab": _read_tabs,
    ".jsonl": _read_objects,
    ".ndjson": _read_objects,
}
