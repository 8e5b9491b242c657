"""The files of indexed images: finds the file of an image id, draws and caches thumbnails, limits concurrent decoding.

Files are found only by id; requests never contain paths. Unless paths are shown, responses do not contain paths either,
and a file is named by its id.

Thumbnails are JPEG: encoding one takes about 2 ms, against 7 to 30 ms for WebP, which saves a seventh to a quarter of
the bytes. They are encoded from pixels, so they contain no other data of the file (EXIF, profiles, trailing bytes).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
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
from sceneseek.errors import DeadlinePassed, NoSuchImage, NotFound, one_line
from sceneseek.local_folder import Facts
from sceneseek.payload import open_source_file
from sceneseek.picture import decode
from sceneseek.search import Search
from sceneseek.store import CollectionInfo, Record
from sceneseek_server.access.control import shows_paths

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
# For unknown formats: browsers download the file.
UNKNOWN = "application/octet-stream"
# The media types of `/v1/images/{id}`.
MEDIA_TYPES = (*_MEDIA_TYPE_OF.values(), UNKNOWN)
_EXTENSIONS = {"JPEG": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}

# The range of times in a ZIP archive.
_ZIP_FIRST, _ZIP_LAST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
_ZIP64_FROM, _PART_BYTES = 2**31, 2**18
THUMBNAIL_SIDE = 320
THUMBNAIL_MEDIA_TYPE = "image/jpeg"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The file of an indexed image; the caller closes `content`.

    Attributes:
        content: the open file, at its beginning; it is inside its source folder.
        facts: size and times of the open file.
        label: its path relative to the source in printable characters, or its id if paths are hidden.
        name: the file name for downloads: that of its path, or its id with the extension of its format.
        media_type: the media type of the indexed format.
        tag: its ETag, which changes with its content.
    """

    content: BinaryIO
    facts: Facts
    label: str
    name: str
    media_type: str
    tag: str


def find_record(search: Search, image_id: UUID | str, deadline: float | None) -> tuple[Record, CollectionInfo]:
    """Return an image of the live generation, and the generation.

    Waits for the engine until `deadline` (`time.monotonic`); without a limit if None.

    Raises:
        NoSuchImage: no image has the id.
    """
    with search.follower.borrow() as snapshot:
        records, info = snapshot.collection.retrieve([str(image_id)], deadline), snapshot.collection.info
    if not records:
        raise NoSuchImage(image_id)
    return records[0], info


def find_image(search: Search, image_id: UUID, deadline: float | None) -> ImageFile:
    """Open the file of an image of the live generation.

    Raises:
        NotFound: no image has the id, or its file is no longer in its source folder.
        SourceAway: the object store of its source does not respond.
    """
    record, info = find_record(search, image_id, deadline)
    payload = record.payload
    image_format = str(payload["format"])
    if shows_paths():
        # A file name may contain line breaks or bytes that are not text.
        label = one_line(str(payload["path"]))
        name = PurePosixPath(label).name
    else:
        label = str(image_id)
        name = label + _EXTENSIONS.get(image_format, f".{image_format.lower()}")
    try:
        content, facts = open_source_file(info, payload)
    except NotFound as error:
        log.info("%s: %s", image_id, error)
        raise NotFound(f"the file of {label} is no longer in its folder", error.hint) from None
    media_type = _MEDIA_TYPE_OF.get(image_format, UNKNOWN)
    return ImageFile(content, facts, label, name, media_type, _tag(facts, payload))


def zip_archive(images: Sequence[ImageFile]) -> Iterator[bytes]:
    """Yield a ZIP archive of files in chunks: under their own names, and uncompressed. Closes the files."""
    sink, names = _Buffer(), set[str]()
    with contextlib.ExitStack() as opened, zipfile.ZipFile(sink, "w") as archive:
        for image in images:
            opened.enter_context(image.content)
        for image in images:
            changed = min(max(time.gmtime(image.facts.mtime_ns / 1e9)[:6], _ZIP_FIRST), _ZIP_LAST)
            entry = zipfile.ZipInfo(_unique(image.name, names), changed)
            with archive.open(entry, "w", force_zip64=image.facts.bytes > _ZIP64_FROM) as target:
                while part := image.content.read(_PART_BYTES):
                    target.write(part)
                    yield sink.drain()
    yield sink.drain()


def _unique(name: str, names: set[str]) -> str:
    """Return ``name.jpg``, or ``name (2).jpg`` if that is in `names`; add it there."""
    path, number, unique = PurePosixPath(name), 1, name
    while unique in names:
        number += 1
        unique = f"{path.stem} ({number}){path.suffix}"
    names.add(unique)
    return unique


class _Buffer(io.RawIOBase):
    """Collects written bytes until they are drained."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, part: Any, /) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def drain(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _tag(facts: Facts, payload: dict[str, Any]) -> str:
    """The hash of the indexed content; if the file has changed since, followed by its size and times."""
    digest = str(payload["sha256"])
    if facts == (payload["bytes"], payload["mtime_ns"], payload.get("ctime_ns")):
        return digest
    return f"{digest}-{facts.line()}"


def draw_thumbnail(data: bytes | BinaryIO, max_pixels: int = MAX_PIXELS, deadline: float | None = None) -> bytes:
    """Return a JPEG of at most `THUMBNAIL_SIDE` pixels a side, never enlarged, on a white background.

    Raises:
        ImageError: the data is not a complete picture, or more than `max_pixels` would be decoded.
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


class Decoders:
    """Limits the number of pictures decoded at a time. Thread-safe.

    Args:
        at_once: the limit; defaults to half of the CPUs, which leaves the others to searches. A large picture needs
            hundreds of megabytes.
    """

    def __init__(self, at_once: int | None = None) -> None:
        self._free = threading.Semaphore(at_once or max(1, len(os.sched_getaffinity(0)) // 2))

    @contextlib.contextmanager
    def slot(self, deadline: float | None) -> Iterator[None]:
        """Wait for a decoder, and hold it during the block, which decodes one picture.

        Args:
            deadline: when to stop waiting (`time.monotonic`); None for no limit.

        Raises:
            DeadlinePassed: no decoder became free before the deadline.
        """
        left = None if deadline is None else deadline - time.monotonic()
        if (left is not None and left <= 0) or not self._free.acquire(timeout=left):
            hint = "ask again a little later"
            raise DeadlinePassed("the deadline passed while other pictures were decoded", hint, 1.0)
        try:
            yield
        finally:
            self._free.release()


class Thumbnails:
    """An LRU cache of thumbnails. Thread-safe.

    `on_sent` is called for each thumbnail, with True if it was drawn, False if it was cached.
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
        """The size of the cache in bytes."""
        return int(self._cache.currsize)

    def get(self, tag: str, content: BinaryIO, deadline: float | None = None) -> bytes:
        """Return the thumbnail of the content with a tag, and draw it if it is not cached.

        Raises:
            ImageError: see `draw_thumbnail`.
            DeadlinePassed: the deadline (`time.monotonic`) passed while other pictures were decoded.
        """
        with self._lock:
            thumbnail = self._cache.get(tag)
        drawn = thumbnail is None
        if thumbnail is None:
            with self._decoders.slot(deadline):
                thumbnail = draw_thumbnail(content, self._max_pixels, deadline)
            with self._lock:
                self._cache[tag] = thumbnail
        self._on_sent(drawn)
        return thumbnail
