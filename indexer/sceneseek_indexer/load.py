"""Loads an image file as pixel tensors: open, hash, decode, prepare. Runs in the loader threads.

A memory budget limits the total memory of these threads: without it, the peak for a folder of panoramas would grow
with the number of cores.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import threading
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from sceneseek.bundle import ImageInput
from sceneseek.containers import MAX_BYTES, MAX_PIXELS
from sceneseek.errors import ImageError, SourceAway
from sceneseek.local_folder import LeadsOut, NotAFile
from sceneseek.picture import BYTES_PER_PIXEL, decode
from sceneseek.preprocess import Pixels, enough_pixels, prepare
from sceneseek.sources import open_file
from sceneseek_indexer.fingerprints import fingerprint
from sceneseek_indexer.photo_facts import FIELDS, read_exif
from sceneseek_indexer.walk import UNREADABLE, ImageFile, Skipped

if TYPE_CHECKING:
    from sceneseek_indexer.ocr import TextReader


class MemoryBudget:
    """A limit on the total memory of several threads. A request above the limit waits for all of it.

    Args:
        units: the limit, in bytes.
        much: reservations of at least this size are returned to the operating system at once: the C library would keep
            them per thread, which doubled the peak.
    """

    def __init__(self, units: int, much: int) -> None:
        self.units = self._free = units
        self._much = much
        self._change = threading.Condition()

    @contextlib.contextmanager
    def take(self, units: int) -> Iterator[None]:
        """Reserve units for the block; waits until they are free."""
        taken = min(units, self.units)
        with self._change:
            self._change.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            if taken >= self._much:
                _trim()(0)
            with self._change:
                self._free += taken
                self._change.notify_all()


@functools.cache
def _trim() -> Callable[[int], object]:
    """The C library's `malloc_trim`, or a no-op without it."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda _: None


# Some decoders read the whole file, even twice. A file of more than this size reserves the whole budget.
_LONG = 16_000_000
_BUDGET = MemoryBudget(BYTES_PER_PIXEL * MAX_PIXELS, much=_LONG)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that is ready to be encoded, and the facts for its payload.

    `text` is the recognized text, None if text is not read; `seconds` is the duration of loading.
    """

    file: ImageFile
    pixels: tuple[Pixels, ...]
    sha256: str
    width: int
    height: int
    format: str
    dhash: str
    exif: dict[str, Any]
    text: str | None
    seconds: float


def load(
    file: ImageFile,
    inputs: tuple[ImageInput, ...],
    max_pixels: int = MAX_PIXELS,
    exif: Container[str] = FIELDS,
    reader: TextReader | None = None,
) -> Loaded | Skipped:
    """Read and prepare one image; return `Skipped` if it cannot be used, never raise.

    `exif` are the fields to read from the EXIF block; `reader` reads text in the picture.
    """
    try:
        content, facts = open_file(file.folder, file.relative)
        with content:
            length = facts.bytes
            if length > MAX_BYTES:
                raise ImageError("too-large", f"{length:,} bytes, over {MAX_BYTES:,}")
            with contextlib.ExitStack() as held:
                if length > _LONG:
                    held.enter_context(_BUDGET.take(_BUDGET.units))
                # A separate function, so that the picture, and an error that refers to it, are freed before the budget
                # is released.
                return _load(file, content, inputs, max_pixels, exif, reader, held if length <= _LONG else None)
    except ImageError as error:
        return Skipped(file.relative, error.reason, str(error), file.source)
    except LeadsOut:
        return Skipped(file.relative, "link-out", "a link that leads out of the folder", file.source)
    except NotAFile:
        return Skipped(file.relative, "not-a-file", "neither a file nor a folder", file.source)
    except OSError as error:
        return Skipped(file.relative, UNREADABLE, f"cannot be read ({error.strerror})", file.source)
    except SourceAway as error:
        return Skipped(file.relative, UNREADABLE, f"cannot be read ({error.why})", file.source)


def _load(
    file: ImageFile,
    content: BinaryIO,
    inputs: tuple[ImageInput, ...],
    max_pixels: int,
    exif: Container[str],
    reader: TextReader | None,
    held: contextlib.ExitStack | None,
) -> Loaded | Skipped:
    """Implement `load`; `held` reserves the picture's share of the budget; None if the whole budget is reserved."""
    start = time.perf_counter()

    def admission(taken: int) -> None:
        if held is not None:
            held.enter_context(_BUDGET.take(taken))

    try:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # a file of bytes
        content.seek(0)
        near = enough_pixels(inputs) if reader is None else max(enough_pixels(inputs), reader.side)
        picture = decode(content, near, max_pixels, admission)
        pixels = prepare(picture, inputs)
        dhash = fingerprint(picture)
        facts = read_exif(picture.exif, exif)
        text = None if reader is None else reader.read(picture.pixels)
    except ImageError as error:
        return Skipped(file.relative, error.reason, str(error), file.source)
    seconds = time.perf_counter() - start
    return Loaded(file, pixels, sha256, picture.width, picture.height, picture.format, dhash, facts, text, seconds)


def content_hash(file: ImageFile) -> str | None:
    """Return the sha256 of a file's content, hex; None if it cannot be read."""
    try:
        with open_file(file.folder, file.relative).content as content:
            return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # a file of bytes
    except (OSError, SourceAway):
        return None
