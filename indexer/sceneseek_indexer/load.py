"""One image file to pixel tensors: open, hash, decode, prepare. Runs in the loader threads.

A memory budget bounds what these threads take together: a folder may hold nothing but panoramas, and without it the
peak would grow with the number of cores.
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
    """A limit on the memory that threads use together. A request for more than all of it waits until it is alone.

    Args:
        units: the limit, in bytes.
        much: blocks of at least this size are returned to the system at once: the C library would keep them for
            each thread, which doubled the peak.
    """

    def __init__(self, units: int, much: int) -> None:
        self.units = self._free = units
        self._much = much
        self._change = threading.Condition()

    @contextlib.contextmanager
    def take(self, units: int) -> Iterator[None]:
        """Reserve so many units for the block; waits until they are free."""
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
    """The C library's `malloc_trim`, where it has one."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda _: None


# Some decoders also read a file as a whole, and twice; one as long as this gets all of the budget before it is opened.
_LONG = 16_000_000
_BUDGET = MemoryBudget(BYTES_PER_PIXEL * MAX_PIXELS, much=_LONG)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image ready to be encoded, and the facts for its payload.

    `text` is what was read in it, None where nothing reads; `seconds` is the time that loading took.
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
    """Read and prepare one image; a file that cannot be used is returned as `Skipped`, never raised.

    `exif` says which fields are read from the EXIF block; `reader` reads the text in the picture.
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
                # In a function of its own, so that the picture, and an error that refers to it, is freed before the
                # budget is given back.
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
    """As `load`; `held` takes the picture's share of the budget, and is None where all of it is held already."""
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
    """The sha256 of a file's content, hex; None if it cannot be read."""
    try:
        with open_file(file.folder, file.relative).content as content:
            return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # a file of bytes
    except (OSError, SourceAway):
        return None
