"""An id to the file behind it. The only way to a file there is: no path ever comes from a request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sceneseek.errors import NotFound, one_line
from sceneseek.payload import source_file
from sceneseek.search import Search

_MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An indexed image's file.

    Attributes:
        file: where it is, proved to lie in its source folder.
        path: its source-relative path in printable characters.
        media_type: that of the format it was indexed as.
        tag: changes with its content.
    """

    file: Path
    path: str
    media_type: str
    tag: str


def find_image(search: Search, image_id: UUID) -> StoredImage:
    """The image of an id, in the live generation.

    Raises:
        NotFound: no such id, or its file is no longer in its source folder.
    """
    with search.live.borrow() as pair:
        records = pair.collection.retrieve([str(image_id)])
        info = pair.collection.info
    if not records:
        raise NotFound(f"no image has the id {image_id}", "search again: it may have left the index")
    payload = records[0].payload
    file = source_file(info, payload)
    media_type = _MEDIA_TYPES.get(str(payload["format"]), "application/octet-stream")
    return StoredImage(file, one_line(str(payload["path"])), media_type, _tag(file, payload))


def _tag(file: Path, payload: dict[str, Any]) -> str:
    """The indexed content's hash, and the file's own facts where it was touched since."""
    facts = file.stat()
    digest = str(payload["sha256"])
    if (facts.st_size, facts.st_mtime_ns) == (payload["bytes"], payload["mtime_ns"]):
        return digest
    return f"{digest}-{facts.st_size}-{facts.st_mtime_ns}"
