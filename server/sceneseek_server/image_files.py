"""The files of indexed images: an image's id to its file, and small JPEGs of files in a bounded cache.

Looking up an id is the only way to a file: no path ever comes from a request. Unless paths are shown, none goes into an
answer either; the file is then called by its id.

Thumbnails are JPEG, because encoding one takes some 2 ms, where WebP takes 7 to 30 for a seventh to a quarter fewer
bytes. They are encoded from pixels, so nothing hidden in a file (EXIF, profiles, trailing bytes) is sent with them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from uuid import UUID

from cachetools import LRUCache
from PIL import Image

from sceneseek.containers import MAX_PIXELS
from sceneseek.errors import NoSuchImage, NotFound, one_line
from sceneseek.local_folder import Facts
from sceneseek.payload import open_source_file
from sceneseek.picture import decode
from sceneseek.search import Search
from sceneseek.store import CollectionInfo, Record
from sceneseek_server.access.control import shows_paths
from sceneseek_server.admission import Decoders

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
# Of a format that this program does not know: a browser downloads it.
UNKNOWN = "application/octet-stream"
# All that `/v1/images/{id}` may answer with.
MEDIA_TYPES = (*_MEDIA_TYPE_OF.values(), UNKNOWN)
_EXTENSIONS = {"JPEG": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}

# The times that an archive knows.
_ZIP_BEGINS, _ZIP_ENDS = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
_ZIP64_FROM, _PART_BYTES = 2**31, 2**18
THUMBNAIL_SIDE = 320
THUMBNAIL_MEDIA_TYPE = "image/jpeg"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An indexed image's file; whoever asked for it closes `content`.

    Attributes:
        content: the file, open at its beginning; it lies in its source folder.
        facts: of the open file.
        called: its source-relative path in printable characters, or its id where paths are hidden.
        name: what a browser saves it as: the end of its path, or its id with its format's extension.
        media_type: of the format it was indexed as.
        tag: changes with its content.
    """

    content: BinaryIO
    facts: Facts
    called: str
    name: str
    media_type: str
    tag: str


def find_record(search: Search, image_id: UUID | str, deadline: float | None) -> tuple[Record, CollectionInfo]:
    """An image of the live generation, and that generation.

    The engine is waited for until `deadline`, by `time.monotonic`; None is for as long as it takes.

    Raises:
        NoSuchImage: no image has the id.
    """
    with search.follower.borrow() as snapshot:
        records, info = snapshot.collection.retrieve([str(image_id)], deadline), snapshot.collection.info
    if not records:
        raise NoSuchImage(image_id)
    return records[0], info


def find_image(search: Search, image_id: UUID, deadline: float | None) -> ImageFile:
    """The file of an image of the live generation.

    Raises:
        NotFound: no image has the id, or its file is no longer in its source folder.
        SourceAway: the object store of its source does not answer.
    """
    record, info = find_record(search, image_id, deadline)
    payload = record.payload
    image_format = str(payload["format"])
    if shows_paths():
        # Printable, unlike the file's own: that may hold a line break, or bytes that are no text.
        called = one_line(str(payload["path"]))
        name = PurePosixPath(called).name
    else:
        called = str(image_id)
        name = called + _EXTENSIONS.get(image_format, f".{image_format.lower()}")
    try:
        content, facts = open_source_file(info, payload)
    except NotFound as error:
        log.info("%s: %s", image_id, error)
        raise NotFound(f"the file of {called} is no longer in its folder", error.hint) from None
    media_type = _MEDIA_TYPE_OF.get(image_format, UNKNOWN)
    return ImageFile(content, facts, called, name, media_type, _tag(facts, payload))


def archived(images: Sequence[ImageFile]) -> Iterator[bytes]:
    """A ZIP archive of files, piece by piece: under their own names, uncompressed since pictures are. Closes them."""
    sink, names = _Sink(), set[str]()
    with contextlib.ExitStack() as opened, zipfile.ZipFile(sink, "w") as archive:
        for image in images:
            opened.enter_context(image.content)
        for image in images:
            changed = min(max(time.gmtime(image.facts.mtime_ns / 1e9)[:6], _ZIP_BEGINS), _ZIP_ENDS)
            entry = zipfile.ZipInfo(_unique(image.name, names), changed)
            with archive.open(entry, "w", force_zip64=image.facts.bytes > _ZIP64_FROM) as target:
                while part := image.content.read(_PART_BYTES):
                    target.write(part)
                    yield sink.taken()
    yield sink.taken()


def _unique(name: str, names: set[str]) -> str:
    """``name.jpg``, or ``name (2).jpg`` where that is taken."""
    path, number, found = PurePosixPath(name), 1, name
    while found in names:
        number += 1
        found = f"{path.stem} ({number}){path.suffix}"
    names.add(found)
    return found


class _Sink(io.RawIOBase):
    """What was written since it was taken last."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, part: Any, /) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _tag(facts: Facts, payload: dict[str, Any]) -> str:
    """The indexed content's hash; with the file's size and time of change if it was touched since."""
    digest = str(payload["sha256"])
    if facts == (payload["bytes"], payload["mtime_ns"], payload.get("ctime_ns")):
        return digest
    return f"{digest}-{facts.line()}"


def draw_thumbnail(data: bytes | BinaryIO, max_pixels: int = MAX_PIXELS, deadline: float | None = None) -> bytes:
    """A JPEG of at most `THUMBNAIL_SIDE` pixels a side, never enlarged; transparent parts lie on white.

    Raises:
        ImageError: the data is not a whole picture, or more than `max_pixels` would be decoded.
    """
    pixels = decode(data, THUMBNAIL_SIDE, max_pixels, deadline=deadline).pixels
    pixels.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
    if pixels.mode == "RGBA":
        canvas = Image.new("RGBA", pixels.size, "white")
        canvas.alpha_composite(pixels)
        pixels = canvas.convert("RGB")
    out = io.BytesIO()
    pixels.save(out, "JPEG", quality=82)
    return out.getvalue()


class Thumbnails:
    """A cache of thumbnails that drops the least recently used. Thread-safe.

    `on_sent` is called for each thumbnail with whether it had to be drawn.
    """

    def __init__(
        self,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = 32 * 2**20,
        decoders: Decoders | None = None,
        on_sent: Callable[[bool], object] = lambda _drawn: None,
    ) -> None:
        self._max_pixels = max_pixels
        self._on_sent = on_sent
        self._cache: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._lock = threading.Lock()
        self._decoders = decoders or Decoders()

    @property
    def cached_bytes(self) -> int:
        """How many bytes the cache holds."""
        return int(self._cache.currsize)

    def get(self, tag: str, content: BinaryIO, deadline: float | None = None) -> bytes:
        """The thumbnail of the content with a tag, which is read where it must be drawn.

        Raises:
            ImageError: see `draw_thumbnail`.
            DeadlinePassed: other pictures are decoded until the deadline, on the clock of `time.monotonic`.
        """
        with self._lock:
            thumbnail = self._cache.get(tag)
        drawn = thumbnail is None
        if thumbnail is None:
            with self._decoders.one(deadline):
                thumbnail = draw_thumbnail(content, self._max_pixels, deadline)
            with self._lock:
                self._cache[tag] = thumbnail
        self._on_sent(drawn)
        return thumbnail
