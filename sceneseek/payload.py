r"""The payload of a point: the fields of an image that the index stores with its vectors.

    path        source-relative, as text; bytes that are not UTF-8 appear as \xNN
    path_bytes  the raw path in base64, only if it is not UTF-8
    folders     every folder above the image, topmost first, in Unicode NFC; for filters by path
    source      number of the source folder in the generation
    sha256      of the file's content, hex
    width, height, format, bytes, mtime_ns, ctime_ns
    indexed_at  start of the run that wrote the point, ISO 8601, UTC
    metadata    fields for results and filters: those of `exif`, overridden by the user's metadata
    ocr         only if OCR was enabled: `text`, its lines as recognized, and `tokens`, see `text_tokens`
    exif        fields read from the file's EXIF block, see `sceneseek_indexer.photo_facts`
    dhash       perceptual hash of the picture, see `sceneseek_indexer.fingerprints`
    duplicates  only for images with near-duplicates: their group, and the number of others in it

The id is the UUIDv5 of the source-relative path (RFC 9562), so the same file has the same id in every
generation and links stay valid. In a source with a label the hashed name is `LABEL//PATH`: no path contains two
consecutive slashes, so ids of different sources cannot collide.
"""

from __future__ import annotations

import base64
import hashlib
import os
import unicodedata
import uuid
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sceneseek.errors import NotFound
from sceneseek.local_folder import SourceFile
from sceneseek.sources import open_file, parse_root

if TYPE_CHECKING:  # the store imports the filters, which import this
    from sceneseek.store import CollectionInfo, Source
    from sceneseek.store.base import FieldType, Record

# UUIDv5 of the name "sceneseek" in the URL namespace; changing it would change every id.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "sceneseek")

# Top-level fields of the payload; reserved names for metadata.
PAYLOAD_FIELDS = frozenset(
    {
        *("path", "path_bytes", "folders", "source", "sha256", "width", "height", "format", "bytes", "mtime_ns"),
        "ctime_ns",
        *("indexed_at", "metadata", "exif", "dhash", "duplicates", "ocr"),
    }
)

# Fields with a payload index in every generation, in addition to metadata. Few, because the embedded engine syncs the
# disk several times for each.
INDEXED_FIELDS: dict[str, FieldType] = {
    "folders": "keyword",
    "format": "keyword",
    "width": "integer",
    "height": "integer",
}


def point_id(relative: str, label: str = "") -> str:
    """The id of the image at a source-relative path.

    Args:
        relative: POSIX path as returned by `os`; undecodable bytes may be surrogate-escaped.
        label: label of the source.
    """
    name = f"{label}//{relative}" if label else relative
    # uuid.uuid5 only accepts text, but file names are bytes. For UTF-8 names the UUID is the same.
    digest = hashlib.sha1(NAMESPACE.bytes + os.fsencode(name), usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def label_of(folder: str, sources: Sequence[Source]) -> str:
    """The existing label of a folder in an index with these sources, or a new one.

    Args:
        folder: absolute path.
        sources: sources of a generation; empty if nothing is indexed.
    """
    for source in sources:
        if source.folder == folder:
            return source.label
    if not sources:
        return ""
    name = Path(folder).name or "folder"
    taken = {source.label for source in sources}
    return next(label for label in chain([name], (f"{name}-{i}" for i in count(2))) if label not in taken)


def path_fields(relative: str) -> dict[str, str]:
    """The `path` (and `path_bytes`, if it is not UTF-8) of a source-relative path."""
    raw = os.fsencode(relative)
    try:
        return {"path": raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {
            "path": raw.decode("utf-8", "backslashreplace"),
            "path_bytes": base64.b64encode(raw).decode("ascii"),
        }


def composed(text: str) -> str:
    """Normalize a text to Unicode NFC, as filters do: some file systems return decomposed names."""
    return unicodedata.normalize("NFC", text)


def folders(relative: str) -> list[str]:
    """The folders above a source-relative path, topmost first, in Unicode NFC: ``a`` for ``a/b.jpg``."""
    parts = composed(path_fields(relative)["path"]).split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def relative_path(payload: dict[str, Any]) -> str:
    """The inverse of `path_fields`: the path for `os`."""
    if "path_bytes" in payload:
        return os.fsdecode(base64.b64decode(payload["path_bytes"]))
    return str(payload["path"])


def is_relative(name: str) -> bool:
    """Whether a name is a normalized relative path, without empty, ``.`` or ``..`` segments."""
    return not {"", ".", ".."} & set(name.split("/"))


def similar_images(payload: dict[str, Any]) -> tuple[str | None, int]:
    """The group of an image's near-duplicates (None if it has none), and the number of others in it."""
    mark = payload.get("duplicates")
    return (str(mark["group"]), int(mark["others"])) if mark else (None, 0)


def text_of(payload: dict[str, Any]) -> str:
    """The text recognized in the picture, separated by newlines; empty if there is none."""
    return str(payload.get("ocr", {}).get("text", ""))


def describe(record: Record) -> dict[str, Any]:
    """The fields of an `ImageDetails` for a stored point."""
    payload = record.payload
    return {
        "id": record.id,
        "path": str(payload.get("path", "")),
        "width": int(payload.get("width", 0)),
        "height": int(payload.get("height", 0)),
        "format": str(payload.get("format", "")),
        "metadata": dict(payload.get("metadata", {})),
        "text": text_of(payload) or None,
        "duplicates": similar_images(payload)[1],
    }


def values_at(payload: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Yield the values of the field at a path in the payload; lists are flattened."""
    for part in path:
        payload = payload.get(part) if isinstance(payload, dict) else None
    for value in payload if isinstance(payload, list) else (payload,):
        if value is not None:
            yield value


def user_metadata(payload: dict[str, Any]) -> dict[str, Any]:
    """The metadata that was not taken from the file's EXIF block."""
    metadata, exif = payload.get("metadata", {}), payload.get("exif", {})
    return {name: value for name, value in metadata.items() if name not in exif or value != exif[name]}


def address_of(info: CollectionInfo, payload: dict[str, Any]) -> str:
    """The address of the image's file at the time of indexing: a path, or a URL ``s3://...``."""
    return os.path.join(info.sources[payload["source"]].folder, relative_path(payload))  # noqa: PTH118 - or a URL


def open_source_file(info: CollectionInfo, payload: dict[str, Any]) -> SourceFile:
    """Open the image's file for reading, if it is inside its source folder (see `sceneseek.local_folder`).

    Raises:
        NotFound: the file does not exist any more, cannot be read, or a link now points outside the folder.
        SourceAway: the object store of its source does not respond.
    """
    try:
        return open_file(parse_root(info.sources[payload["source"]].folder), relative_path(payload), brief=True)
    except (OSError, ValueError) as error:  # ValueError: an invalid path
        what = getattr(error, "strerror", None) or error
        raise NotFound(f"the file {payload['path']} cannot be read ({what})", "index the folder again") from error
