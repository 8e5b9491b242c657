"""One image file to pixel tensors: read, hash, decode, prepare. Runs in the loader threads."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from indexer.fingerprint import fingerprint
from indexer.walk import ImageFile, Skipped
from sceneseek.decode import MAX_PIXELS, decode
from sceneseek.errors import ImageError
from sceneseek.manifest import ImageInput
from sceneseek.preprocess import Pixels, enough_pixels, prepare

MAX_BYTES = 512_000_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image ready to be encoded, and what its payload will say; `seconds` is what loading took."""

    file: ImageFile
    pixels: tuple[Pixels, ...]
    sha256: str
    width: int
    height: int
    format: str
    dhash: str
    seconds: float


def load(file: ImageFile, inputs: tuple[ImageInput, ...], max_pixels: int = MAX_PIXELS) -> Loaded | Skipped:
    """Read and prepare one image; what cannot be used comes back as `Skipped`, never as an exception."""
    start = time.perf_counter()
    if file.bytes > MAX_BYTES:
        return Skipped(file.relative, "too-large", f"{file.bytes:,} bytes, over {MAX_BYTES:,}")
    try:
        data = file.path.read_bytes()
        picture = decode(data, enough_pixels(inputs), max_pixels)
    except ImageError as error:
        return Skipped(file.relative, error.reason, str(error))
    except OSError as error:
        return Skipped(file.relative, "unreadable", f"cannot be read ({error.strerror})")
    pixels = prepare(picture, inputs)
    sha256 = hashlib.sha256(data).hexdigest()
    dhash = fingerprint(picture)
    seconds = time.perf_counter() - start
    return Loaded(file, pixels, sha256, picture.width, picture.height, picture.format, dhash, seconds)
