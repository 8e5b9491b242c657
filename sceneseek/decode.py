"""Bytes to pictures: hostile input in, a whole first RGB(A) frame or an `ImageError` out.

It decodes with an allowlist of formats, under a pixel ceiling that is checked before any pixel is
allocated, completely (a truncated file is an error, never a half-grey picture), with the EXIF
orientation applied. It knows nothing of models or sizes, but takes a hint (`near`) that lets JPEG
decode at a fraction of its size.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sceneseek.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 64_000_000

# Our own ceiling, checked below, takes the place of Pillow's: its warning filter is not safe between threads.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns of odd metadata that the pixels do not depend on; a log of an archive would drown in it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# What Pillow's decoders raise on bad input; anything else is a bug and must be seen.
_DECODE_ERRORS = (OSError, SyntaxError, MemoryError, ValueError, NotImplementedError, OverflowError)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded first frame: mode RGB, or RGBA where some pixel is transparent.

    `width` and `height` are those of the file in its right orientation; the pixels may be fewer.
    """

    pixels: Image.Image
    width: int
    height: int
    format: str


def decode(data: bytes, near: int = 0, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode the first frame of an image file.

    Args:
        data: the file's content.
        near: pixels per side that suffice; a JPEG is then decoded at the smallest eighth of its size
            whose sides are not below it. 0 decodes at full size.
        max_pixels: pictures of more pixels are refused before they are decoded.

    Raises:
        ImageError: empty, not an image of a known format, too large, truncated or broken.
    """
    if not data:
        raise ImageError("empty", "the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
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
            image.load()
            upright, turned = _upright(image)
            if turned:
                width, height = height, width
            return Picture(_to_rgb(upright), width, height, image_format)
    except UnidentifiedImageError:
        raise ImageError("not-an-image", f"not an image of a known format ({', '.join(FORMATS)})") from None
    except _DECODE_ERRORS as error:
        reason = "truncated" if "truncated" in str(error).lower() else "broken"
        raise ImageError(reason, f"cannot be decoded ({str(error) or type(error).__name__})") from error


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """The picture with its EXIF orientation applied, and whether that swaps its sides.

    A picture whose EXIF block is broken is shown as it lies: its pixels are whole.
    """
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return ImageOps.exif_transpose(image), turned
    except _DECODE_ERRORS:
        return image, False


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB, or RGBA if a pixel is not opaque; 16-bit grey keeps its range instead of clipping to white."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = image.convert("F")
        low, high = grey.getextrema()
        if not isinstance(low, float) or not isinstance(high, float):
            raise ImageError("broken", "its grey levels cannot be read")
        top = 65535.0 if high > 255 else 255.0 if high > 1 else 1.0
        return grey.point(lambda level: level * (255.0 / top)).convert("L").convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A").getextrema()
        return rgba if alpha[0] != 255 else rgba.convert("RGB")
    return image.convert("RGB")
