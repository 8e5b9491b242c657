"""An id to the file behind it. The only way to a file there is: no path ever comes from a request.

Nor, unless paths are shown, does one go into an answer: the file is then called by its id.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

from sceneseek.errors import NotFound, one_line
from sceneseek.payload import source_file
from sceneseek.search import Search
from sceneseek_server.access.control import shows_paths
from sceneseek_server.api.deadline import deadline

log = logging.getLogger(__name__)

_MEDIA_TYPE_OF = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
}
# Of a format that this program does not know: no browser makes anything of it.
UNKNOWN = "application/octet-stream"
# Of all that `/v1/images/{id}` may answer with.
MEDIA_TYPES = (*_MEDIA_TYPE_OF.values(), UNKNOWN)
_EXTENSIONS = {"JPEG": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An indexed image's file.

    Attributes:
        file: where it is, proved to lie in its source folder.
        called: its source-relative path in printable characters, or its id where paths are hidden.
        name: of a file that it is saved to: the end of its path, or its id and what its format goes by.
        media_type: that of the format it was indexed as.
        tag: changes with its content.
    """

    file: Path
    called: str
    name: str
    media_type: str
    tag: str


def find_image(search: Search, image_id: UUID) -> StoredImage:
    """The image of an id, in the live generation.

    Raises:
        NotFound: no such id, or its file is no longer in its source folder.
    """
    with search.follower.borrow() as snapshot:
        records = snapshot.collection.retrieve([str(image_id)], deadline())
        info = snapshot.collection.info
    if not records:
        raise NotFound(f"no image has the id {image_id}", "search again: it may have left the index")
    payload = records[0].payload
    image_format = str(payload["format"])
    if shows_paths():
        # Printable, unlike the file's own: that may hold a line break, or bytes that are no text.
        called = one_line(str(payload["path"]))
        name = PurePosixPath(called).name
    else:
        called = str(image_id)
        name = called + _EXTENSIONS.get(image_format, f".{image_format.lower()}")
    try:
        file = source_file(info, payload)
    except NotFound as error:
        log.info("%s: %s", image_id, error)
        raise NotFound(f"the file of {called} is no longer in its folder", error.hint) from None
    media_type = _MEDIA_TYPE_OF.get(image_format, UNKNOWN)
    return StoredImage(file, called, name, media_type, _tag(file, payload))


def _tag(file: Path, payload: dict[str, Any]) -> str:
    """The indexed content's hash, and the file's own facts where it was touched since."""
    facts = file.stat()
    digest = str(payload["sha256"])
    if (facts.st_size, facts.st_mtime_ns) == (payload["bytes"], payload["mtime_ns"]):
        return digest
    return f"{digest}-{facts.st_size}-{facts.st_mtime_ns}"
