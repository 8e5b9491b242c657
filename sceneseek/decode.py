"""Bytes to pictures: hostile input in, a whole first RGB(A) frame or an `ImageError` out.

It decodes with an allowlist of formats, under a pixel ceiling that is checked before any pixel is
allocated, completely (a truncated file is an error, never a half-grey picture), with the EXIF
orientation applied. It knows nothing of models or sizes, but takes a hint (`near`) that lets JPEG
decode at a fraction of its size.

AVIF is among the formats if this Pillow was built with it, HEIC if the package `pillow-heif` is installed.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from sceneseek.errors import ImageError

_ALWAYS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}
_BY_PLUGIN = {"AVIF": (".avif",), "HEIF": (".heic", ".heif", ".hif")}
_LACKING = {
    "AVIF": "AVIF cannot be decoded here: install Pillow's wheel, which can",
    "HEIF": "HEIC needs the package pillow-heif: pip install 'sceneseek[heif]'",
}
MAX_PIXELS = 64_000_000

# Our own ceiling, checked below, takes the place of Pillow's: its warning filter is not safe between threads.
Image.MAX_IMAGE_PIXELS = None
# Blocks that the C library gives back to the system at once, as it does from 32 MB. Smaller ones stay with the thread
# that took them, so that a service which has met large pictures would hold one's memory for every thread of it.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]  # where Pillow's documentation has it
# Pillow warns of odd metadata that the pixels do not depend on; a log of an archive would drown in it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# What Pillow's decoders raise on bad input; anything else is a bug and must be seen.
_DECODE_ERRORS = (OSError, SyntaxError, MemoryError, ValueError, NotImplementedError, OverflowError)
# Rows of a picture that are converted at a time where a whole one would take several times its size.
_BAND = 256

Admission = Callable[[int], object]
"""Called with the number of pixels about to be decoded; decoding waits until it returns."""


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that can be decoded here."""
    found = list(_ALWAYS)
    if features.check("avif"):
        found.append("AVIF")
    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415 - an extra

        pillow_heif.register_heif_opener()
        found.append("HEIF")
    return tuple(found)


@functools.cache
def extensions() -> frozenset[str]:
    """How the names of images end that can be decoded here, in lower case."""
    every = {**_ALWAYS, **_BY_PLUGIN}
    return frozenset(extension for name in formats() for extension in every[name])


@functools.cache
def lacking_plugins() -> dict[str, str]:
    """For the other endings that promise an image: what to install."""
    return {
        extension: _LACKING[name] for name, names in _BY_PLUGIN.items() if name not in formats() for extension in names
    }


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded first frame: mode RGB, or RGBA where some pixel is transparent.

    `width` and `height` are those of the file in its right orientation; the pixels may be fewer.
    """

    pixels: Image.Image
    width: int
    height: int
    format: str


def decode(
    data: bytes | BinaryIO, near: int = 0, max_pixels: int = MAX_PIXELS, admission: Admission | None = None
) -> Picture:
    """Decode the first frame of an image file.

    Args:
        data: the file's content, or the file itself, open at its beginning.
        near: pixels per side that suffice; a JPEG is then decoded at the smallest eighth of its size
            whose sides are not below it. 0 decodes at full size.
        max_pixels: pictures of more pixels are refused before they are decoded.
        admission: what bounds the pictures that are decoded at once.

    Raises:
        ImageError: empty, not an image of a known format, too large, truncated or broken.
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    start = file.read(32)
    file.seek(0)
    if not start:
        raise ImageError("empty", "the file is empty")
    try:
        with Image.open(file, formats=formats()) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    "too-large",
                    f"{width} x {height} is over {max_pixels / 1e6:.0f} million pixels",
                    "raise the limit with --max-pixels",
                )
            # MPO is what some cameras write: a JPEG with further frames behind it.
            image_format = "JPEG" if image.format == "MPO" else str(image.format)
            if near and image_format == "JPEG":
                image.draft("RGB", (near, near))
            if admission is not None:
                admission(image.width * image.height)
            image.load()
            if _upright(image):
                width, height = height, width
            return Picture(_to_rgb(image), width, height, image_format)
    except UnidentifiedImageError:
        if lacking := _lacking_for(start):
            raise ImageError("no-plugin", lacking) from None
        raise ImageError("not-an-image", f"not an image of a known format ({', '.join(formats())})") from None
    except _DECODE_ERRORS as error:
        reason = "truncated" if "truncated" in str(error).lower() else "broken"
        raise ImageError(reason, f"cannot be decoded ({str(error) or type(error).__name__})") from error


def _lacking_for(start: bytes) -> str | None:
    """What to install for a file that begins like this, if that is what it needs."""
    if start[4:8] != b"ftyp":
        return None
    name = "AVIF" if start[8:12] in {b"avif", b"avis"} else "HEIF" if start[8:12] in _HEIF_BRANDS else None
    return _LACKING[name] if name and name not in formats() else None


_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def _upright(image: Image.Image) -> bool:
    """Turn the picture as its EXIF block says; True if that swaps its sides.

    A picture whose EXIF block is broken stays as it lies: its pixels are whole.
    """
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        ImageOps.exif_transpose(image, in_place=True)
    except _DECODE_ERRORS:
        return False
    return turned


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB, or RGBA if a pixel is not opaque; 16-bit grey keeps its range instead of clipping to white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_to_rgb(image)
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        opaque = rgba.getchannel("A").getextrema()[0] == 255
        return rgba.convert("RGB") if opaque else rgba.convert("RGBA")
    return image.convert("RGB")


def _grey_to_rgb(image: Image.Image) -> Image.Image:
    """Deep grey to RGB, in bands: as floating-point numbers a whole picture would take three times its size."""
    bands = [(0, y, image.width, min(y + _BAND, image.height)) for y in range(0, image.height, _BAND)]
    extrema = [image.crop(band).convert("F").getextrema() for band in bands]
    if not all(isinstance(low, float) and isinstance(high, float) for low, high in extrema):
        raise ImageError("broken", "its grey levels cannot be read")
    high = max(float(high) for _, high in extrema)  # type: ignore[arg-type]  # a number each, as was just seen
    top = 65535.0 if high > 255 else 255.0 if high > 1 else 1.0
    rgb = Image.new("RGB", image.size)
    for band in bands:
        grey = image.crop(band).convert("F").point(lambda level: level * (255.0 / top))
        rgb.paste(grey.convert("L").convert("RGB"), band[:2])
    return rgb
