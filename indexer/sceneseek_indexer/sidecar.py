"""User metadata of images (`--metadata`), from one file or from a sidecar file per image.

A file is CSV, TSV or JSON lines (see `sceneseek.tables`). Its column `path`, or `image` if there is no `path`, is the
image's path relative to the folder; every other column is a field. A header may name the field's type, such as
`year:int` (see `fields`). Columns of latitude and longitude become one field `location`; `tags` and `keywords` are
lists. exiftool's CSV, with paths in the column `SourceFile`, is supported. A sidecar contains one JSON object:
`photo.jpg.json` for `photo.jpg`, also in Google Takeout's format.

A file is used as a whole or rejected, with the number of the invalid line. A file is also rejected if it contains no
image of the folder or would remove the metadata of many images: its paths are probably of another folder.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sceneseek.errors import DataError, InvalidRequest, one_line
from sceneseek.payload import PAYLOAD_FIELDS, composed, path_fields
from sceneseek.sources import Root
from sceneseek.tables import first_few, parse_object, read_objects, read_table, read_text
from sceneseek_indexer.fields import TYPES, Column, FieldType, Unfit, read_texts, read_values
from sceneseek_indexer.photo_facts import is_takeout, read_takeout

WHAT = "metadata"
_JSON_LINES = (".jsonl", ".ndjson")
_SEPARATED = (".csv", ".tsv", ".tab")
_EXIFTOOL = "SourceFile"
_PATHS = ("path", "image", _EXIFTOOL)
_LATITUDES, _LONGITUDES = ("lat", "latitude", "gpslatitude"), ("lon", "lng", "longitude", "gpslongitude")
_LOCATION = "location"
_LISTS = ("tags", "keywords")
_LONGEST_NAME = 64
_LONGEST_TAKEOUT = 46
_ODD = re.compile(r'[\x00-\x1f\x7f"\\\[\]]')


@dataclass(frozen=True)
class Sidecar:
    """Metadata by image.

    Attributes:
        fields: the type of every field with at least one value, for payload indexes.
    """

    fields: dict[str, FieldType]
    _rows: dict[str, dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, file: Path) -> Sidecar:
        """Read a file.

        Raises:
            DataError: it cannot be read, a row is malformed, a path is duplicated, or a field is invalid.
        """
        extension = file.suffix.lower()
        if extension in _JSON_LINES:
            return _objects(file)
        if extension in _SEPARATED:
            return _separated(file, _separator(file) if extension == ".csv" else "\t")
        supported = ", ".join((*_SEPARATED, *_JSON_LINES))
        raise DataError(f"{file} is not a supported metadata file", f"use one of {supported}")

    @classmethod
    def beside(cls, folder: Path, paths: Iterable[str]) -> Sidecar:
        """Read the JSON sidecar of each image of a folder that has one.

        Raises:
            DataError: see `of`.
        """
        rows = []
        for relative in paths:
            file = next((file for file in _files_beside(folder / relative) if file.is_file()), None)
            if file is not None:
                row = parse_object(read_text(file, WHAT), str(file))
                row.pop("path", None)
                if not row:
                    raise DataError(f"{one_line(str(file))} contains no metadata", "add a field, or remove the file")
                row = read_takeout(row) if is_takeout(row) else row
                row = {composed(name): value for name, value in row.items()}
                rows.append(_Row(one_line(str(file)), path_fields(relative)["path"], row))
        return _assembled(rows, lambda _, values: read_values(values), _as_place)

    def metadata(self, relative: str) -> dict[str, Any]:
        """Return the metadata of the image at a source-relative path; empty if there is none."""
        return dict(self._rows.get(_key(path_fields(relative)["path"]), {}))

    def unmatched(self, paths: Iterable[str]) -> list[str]:
        """Return the paths of the metadata without an image, in file order; `paths` are those of the images."""
        left = dict.fromkeys(self._rows)
        for relative in paths:
            left.pop(_key(path_fields(relative)["path"]), None)
        return list(left)

    def below(self, folder: Root, paths: Iterable[str]) -> Sidecar:
        """Convert absolute paths, and paths relative to the working directory, to `paths` of images in a folder.

        Raises:
            DataError: none of the images is named, or an image is named in two ways.
        """
        images = {_key(path_fields(relative)["path"]) for relative in paths}
        named = {folder.absolute(), folder.resolve()} if isinstance(folder, Path) else {folder}
        roots = [_key(str(root)) for root in named]
        rows: dict[str, dict[str, Any]] = {}
        for path, values in self._rows.items():
            key = next((spelling for spelling in _spellings(path, roots) if spelling in images), path)
            if key in rows:
                raise DataError(f"the metadata names {one_line(key)} in two ways", "give each image one row")
            rows[key] = values
        if images and not images & rows.keys():
            raise _no_match(list(rows), images, folder)
        return Sidecar(self.fields, rows)

    def check_loss(self, described: Iterable[str], most: float) -> None:
        """Check that not too many images would lose their metadata.

        Args:
            described: source-relative paths of images that have metadata in the index.
            most: the share of them that may lose all of it; two are always allowed.

        Raises:
            DataError: more images would lose it.
        """
        paths = [path_fields(relative)["path"] for relative in described]
        lost = sorted(path for path in paths if not self._rows.get(_key(path)))
        if len(lost) > max(2, most * len(paths)):
            raise DataError(
                f"the metadata has nothing for {len(lost):,} of the {len(paths):,} images that have metadata in the "
                f"index ({one_line(first_few(lost))})",
                "check the paths in it; then pass --yes, or a larger share as --max-removed",
            )

    def differs(self, relative: str, payload: Mapping[str, Any]) -> bool:
        """Whether a point's metadata differs from this and its EXIF block, and must be written again."""
        expected = {**payload.get("exif", {}), **self.metadata(relative)}
        return _canonical(payload.get("metadata", {})) != _canonical(expected)


def read_metadata(named: str, folder: Root, paths: Iterable[str]) -> Sidecar:
    """Read the value of `--metadata`: a file, or `sidecars` for a sidecar file per image of the folder.

    Raises:
        DataError: see `Sidecar.of`, `Sidecar.beside` and `Sidecar.below`.
        InvalidRequest: `sidecars` is given for a bucket.
    """
    if named != "sidecars":
        return Sidecar.of(Path(named)).below(folder, paths)
    if not isinstance(folder, Path):
        raise InvalidRequest(f"sidecars are not supported in {folder}", "write the metadata into one file")
    return Sidecar.beside(folder, paths)


@dataclass(frozen=True, slots=True)
class _Row:
    """The fields of one image, and where they were read: ``line 5 of FILE``."""

    where: str
    path: str
    values: dict[str, Any]


def _separated(file: Path, separator: str) -> Sidecar:
    table = read_table(file, WHAT, separator=separator)
    types: dict[str, str | None] = {}
    for cell in table.columns:
        name, colon, named = (part.strip() for part in cell.rpartition(":"))
        if colon and named not in TYPES and _EXIFTOOL in table.columns:
            colon = ""  # of a group name, which exiftool -G adds
        elif colon and named not in TYPES:
            raise DataError(
                f"the column {one_line(cell)[:80]} of {file} has the unknown type {one_line(named)[:40]!r}",
                f"types are {', '.join(TYPES)}; names must not contain colons",
            )
        name = composed(name if colon else cell)
        if name in types:
            raise DataError(f"{file} has two columns {one_line(name)[:80]!r}", "rename one of them")
        types[name] = named if colon else "list" if name.lower() in _LISTS else None
    key = _path_column(types, file)
    rows = []
    for row in table.rows:
        values = dict(zip(types, map(str.strip, row.fields.values()), strict=True))
        rows.append(_Row(f"line {row.line} of {file}", values.pop(key), values))
    types[_LOCATION] = types.get(_LOCATION, "geo")
    return _assembled(rows, lambda name, values: read_texts([text or "" for text in values], types[name]), ",".join)


def _objects(file: Path) -> Sidecar:
    objects = list(read_objects(file, WHAT))
    key = _path_column({name: None for _, values in objects for name in values}, file)
    rows = []
    for line, values in objects:
        where = f"line {line} of {file}"
        path = values.pop(key, None)
        if not isinstance(path, str):
            raise DataError(f"{where} names no image", f"add its path relative to the folder as {key}")
        rows.append(_Row(where, path, {composed(name): value for name, value in values.items()}))
    return _assembled(rows, lambda _, values: read_values(values), _as_place)


def _files_beside(image: Path) -> Iterator[Path]:
    """The possible sidecars of an image: `photo.jpg.json`, or truncated and numbered as by Google Takeout."""
    yield image.with_name(f"{image.name}.json")
    number = "".join(re.findall(r"\(\d+\)$", image.stem))
    stem = image.stem.removesuffix(number).removesuffix("-edited")
    for ending in ("", ".supplemental-metadata"):
        yield image.with_name(f"{f'{stem}{image.suffix}{ending}'[:_LONGEST_TAKEOUT]}{number}.json")


def _separator(file: Path) -> str:
    header = read_text(file, WHAT).lstrip().partition("\n")[0]
    return ";" if ";" in header and "," not in header else ","


def _path_column(names: Mapping[str, Any], file: Path) -> str:
    for key in _PATHS:
        if key in names:
            return key
    raise DataError(
        f"{file} has no column path (its columns: {one_line(', '.join(names))[:80]})",
        "name the column of paths `path` or `image`, and separate the columns of a .csv by commas or semicolons",
    )


def _as_place(degrees: list[Any]) -> dict[str, Any]:
    return dict(zip(("lat", "lon"), degrees, strict=True))


def _assembled(
    rows: list[_Row], read: Callable[[str, list[Any]], Column | None], place: Callable[[list[Any]], Any]
) -> Sidecar:
    """Convert every column to its type, and return the metadata by path.

    Args:
        rows: of one file or of one folder.
        read: converts the values of a column.
        place: joins latitude and longitude to a value for `read`.
    """
    _join_places(rows, place)
    known: dict[str, _Row] = {}
    for row in rows:
        key = _key(row.path)
        if not key:
            raise DataError(f"{row.where} names no image", "add its path relative to the folder")
        if first := known.get(key):
            raise DataError(f"{row.where} names {one_line(key)} again, after {first.where}", "give each image one row")
        known[key] = row
    metadata: dict[str, dict[str, Any]] = {key: {} for key in known}
    types: dict[str, FieldType] = {}
    for name in dict.fromkeys(name for row in rows for name in row.values):
        _check_name(name, rows[0].where)
        try:
            column = read(name, [row.values.get(name) for row in rows])
        except Unfit as error:
            raise DataError(
                f"{rows[error.row].where}: {one_line(name)} {error.what}", "correct it; no row of the file was used"
            ) from None
        if column is not None:
            types[name] = column.type
            for key, value in zip(metadata, column.values, strict=True):
                if value is not None:
                    metadata[key][name] = value
    return Sidecar(types, metadata)


def _join_places(rows: list[_Row], place: Callable[[list[Any]], Any]) -> None:
    """Join the columns of latitude and longitude, if both exist."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    axes = [next((name for name in names if name.lower() in axis), None) for axis in (_LATITUDES, _LONGITUDES)]
    if None in axes:
        return
    if _LOCATION in names:
        raise DataError(
            f"{rows[0].where} has {axes[0]}, {axes[1]} and {_LOCATION}",
            f"{axes[0]} and {axes[1]} become {_LOCATION}: rename one",
        )
    for row in rows:
        degrees = [row.values.pop(axis, None) for axis in axes if axis is not None]
        if any(part not in (None, "") for part in degrees):
            row.values[_LOCATION] = place(degrees)


def _check_name(name: str, where: str) -> None:
    shown = one_line(name)[:80]
    if name in PAYLOAD_FIELDS:
        raise DataError(
            f"{where} has the field {shown}, a name reserved by the index", "rename it, such as to my_" + shown
        )
    if not name.strip() or len(name) > _LONGEST_NAME or _ODD.search(name) or not name.isprintable():
        raise DataError(
            f"{where} has the field {shown!r}, which filters cannot use",
            f'names have 1 to {_LONGEST_NAME} characters except ", \\, [, ] and control characters',
        )


def _key(path: str) -> str:
    """The lookup key of a path: in composed form, since some systems store file names decomposed."""
    return composed(path.strip().removeprefix("./"))


def _spellings(path: str, roots: Iterable[str]) -> Iterator[str]:
    """The possible relative paths of a path: itself, or below a root (a path or URL); also with backslashes."""
    for spelling in (path, path.replace("\\", "/")):
        yield spelling
        for place in (spelling, _key(os.path.normpath(Path.cwd() / spelling))):
            yield from (place.removeprefix(f"{root}/") for root in roots)


def _no_match(paths: list[str], images: Collection[str], folder: Root) -> DataError:
    """The error for paths without any image; its hint contains the probable root of the paths, if found."""
    if not paths:
        return DataError(f"the metadata names none of the {len(images):,} images of {folder}", "add rows")
    by_name: dict[str, list[str]] = {}
    for image in images:
        by_name.setdefault(image.rpartition("/")[2], []).append(image)
    longer: Counter[str] = Counter()
    shorter: Counter[str] = Counter()
    for path in (path.replace("\\", "/") for path in paths):
        for image in by_name.get(path.rpartition("/")[2], ()):
            longer.update([path.removesuffix(image)] if path.endswith(f"/{image}") else ())
            shorter.update([image.removesuffix(path)] if image.endswith(f"/{path}") else ())
    hint = "write paths relative to the folder"
    for roots, advice in ((longer, "without {} {:,} of them are images"), (shorter, "with {} before {:,} of them are")):
        if roots:
            root, count = roots.most_common(1)[0]
            hint = f"{hint}: {advice.format(one_line(root), count)}"
            break
    return DataError(
        f"none of the {len(paths):,} paths of the metadata is an image of {folder} "
        f"(the first: {one_line(paths[0])[:200]}; an image: {one_line(min(images))[:200]})",
        hint,
    )


def _canonical(metadata: Mapping[str, Any]) -> str:
    # Compared as JSON: in Python, 1, 1.0 and True are equal.
    return json.dumps(metadata, sort_keys=True)
