"""Decodes untrusted image files to complete, upright RGB(A) pictures in sRGB. Without numpy and torch.

`decode` accepts a fixed list of formats, and checks the cost of a picture from its header before decoding: pixels,
sides, passes over the pixels, bytes of memory. It decodes completely (a truncated file is an error, never a half-grey
picture), applies the EXIF orientation and the colour profile, and drops all metadata from the pixels. With `near`, a
JPEG is decoded at a fraction of its size. Files that browsers display completely are accepted: metadata that Pillow
rejects is removed, a JPEG may lack its end marker, and blank first frames of an animation are skipped.

AVIF is supported if Pillow was built with it, HEIC if the package `pillow-heif` is installed, and camera raw with
`rawpy` (see `sceneseek.raw`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError, features

from sceneseek import raw
from sceneseek.colour import check_readable, to_srgb
from sceneseek.containers import (
    JPEG,
    MAX_PIXELS,
    PNG,
    RAW_EXTENSIONS,
    JpegScans,
    bare_jpeg,
    bare_png,
    check_parts,
    jpeg_scans,
)
from sceneseek.errors import ImageError

_ALWAYS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}
_BY_PLUGIN = {"AVIF": (".avif",), "HEIF": (".heic", ".heif", ".hif"), "RAW": RAW_EXTENSIONS}
_LACKING = {
    "AVIF": "AVIF cannot be decoded here: install Pillow's wheel, which supports it",
    "HEIF": "HEIC needs the package pillow-heif: pip install 'sceneseek[heif]'",
    "RAW": "camera raw needs the package rawpy: pip install 'sceneseek[raw]'",
}
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

# Extensions of image files that are not supported: JPEG 2000, JPEG XL, and formats of editors.
_UNSUPPORTED = """
    j2c j2k jp2 jpc jpf jph jpx jxl jxr exr hdr pbm pgm pnm ppm psb psd qoi svg svgz tga xcf
"""
UNSUPPORTED = frozenset(f".{extension}" for extension in _UNSUPPORTED.split())
# Pillow's filters take some 32 bytes per pixel of a side.
MAX_SIDE = 65_535
# The largest total of pixels of all scans of a JPEG, as a multiple of `max_pixels`.
_MAX_PASSES = 32
# Memory of decoding in bytes per pixel, of the decoder and Pillow together, as measured by `benchmarks.hostile`.
_BYTES_PER_PIXEL = {"AVIF": 12, "GIF": 14, "HEIF": 12, "WEBP": 16}
BYTES_PER_PIXEL = 8
_MAX_BYTES_PER_PIXEL = 16

# The C library returns freed blocks of 32 MB or more to the system at once. Smaller ones stay with the thread that
# allocated them, so that after large pictures every thread of a service would keep the memory of one.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]  # as in Pillow's documentation
# Pillow warns about metadata that does not affect the pixels; these warnings would flood the log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# The exceptions of Pillow's decoders and EXIF readers on bad input, found with 300,000 mutations of small files.
PILLOW_ERRORS = (
    *(OSError, EOFError, SyntaxError, MemoryError, RuntimeError, ValueError, TypeError),
    *(ArithmeticError, LookupError, AttributeError, struct.error, zlib.error),
)

# Formats whose frames are an animation; those of a TIFF are pages.
_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
_MAX_FRAMES = 100
# The largest difference, of 255, between the pixels of a blank frame.
_BLANK = 8
# Appended to a truncated JPEG: if its pixels are complete, the decoder never reads what follows them.
_NOISE = bytes(range(254, 0, -1)) * 4

Admission = Callable[[int], object]
"""Called with the bytes of memory that decoding needs; decoding waits until it returns."""


@functools.cache
def formats() -> tuple[str, ...]:
    """The supported formats, by Pillow's names and `RAW`."""
    found = list(_ALWAYS)
    if features.check("avif"):
        found.append("AVIF")
    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415 - an extra

        pillow_heif.register_heif_opener()
        found.append("HEIF")
    if raw.available():
        found.append("RAW")
    return tuple(found)


@functools.cache
def extensions() -> frozenset[str]:
    """The extensions of the supported formats, in lower case."""
    every = {**_ALWAYS, **_BY_PLUGIN}
    return frozenset(extension for name in formats() for extension in every[name])


@functools.cache
def lacking_plugins() -> dict[str, str]:
    """The packages to install for further formats, by extension."""
    return {
        extension: _LACKING[name] for name, names in _BY_PLUGIN.items() if name not in formats() for extension in names
    }


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded first frame, in mode RGB, or RGBA if a pixel is transparent.

    `width` and `height` are the size of the upright original; `pixels` may be smaller. `exif` is the EXIF block of the
    file; reading its fields may fail.
    """

    pixels: Image.Image
    width: int
    height: int
    format: str
    exif: Image.Exif = field(default_factory=Image.Exif, compare=False, repr=False)


def decode(
    data: bytes | BinaryIO,
    near: int = 0,
    max_pixels: int = MAX_PIXELS,
    admission: Admission | None = None,
    deadline: float | None = None,
) -> Picture:
    """Decode an image file.

    Args:
        data: the content of the file, or the file, open at its beginning.
        near: the pixels per side that are needed; a JPEG is decoded at the smallest eighth of its size with at least
            this many. 0 decodes at full size.
        max_pixels: the limit of decoded pixels; a JPEG is first decoded at a smaller fraction of its size. Pillow's
            decoders of GIF, WebP and tiled TIFF have their own limit, 179 million by default.
        admission: limits the memory of concurrent decoding; None does not.
        deadline: of camera raw, on the clock of `time.monotonic`; ignored for other formats, whose cost is bounded.

    Raises:
        ImageError: the file is empty, of an unknown format, too large, truncated or broken, or its pixel values have
            no known meaning.
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    start = file.read(32)
    file.seek(0)
    if not start:
        raise ImageError("empty", "the file is empty")
    decoding = _Decoding(start, near, max_pixels, admission, deadline)
    try:
        try:
            if "RAW" not in formats() or not raw.looks_raw(start, file):
                return decoding.decode(file)
            try:
                return decoding.decode_raw(file)
            except ImageError as error:
                return decoding.decode_not_raw(file, error)
        except (UnidentifiedImageError, *PILLOW_ERRORS) as error:
            return decoding.decode_repaired(file, error)
    except UnidentifiedImageError:
        if lacking := _lacking_for(start, file):
            raise ImageError("no-plugin", lacking) from None
        raise ImageError("not-an-image", f"not an image of a known format ({', '.join(formats())})") from None
    except Image.DecompressionBombError as error:
        raise ImageError(
            "too-large", f"over Pillow's limit of {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels", "save it as PNG"
        ) from error
    except PILLOW_ERRORS as error:
        reason = "truncated" if "truncated" in str(error).lower() else "broken"
        raise ImageError(reason, f"cannot be decoded ({str(error) or type(error).__name__})") from error


class _Decoding:
    """Decodes one file within its limits; see `decode`."""

    def __init__(
        self, start: bytes, near: int, max_pixels: int, admission: Admission | None, deadline: float | None
    ) -> None:
        self._start, self._near, self._max_pixels = start, near, max_pixels
        self._admission, self._deadline = admission, deadline

    def decode(self, file: BinaryIO) -> Picture:
        check_parts(file)
        scans = jpeg_scans(file) if self._start.startswith(JPEG) else JpegScans(1, 0)
        with _open(file, self._start) as image:
            width, height = image.size
            # MPO, written by some cameras, is a JPEG followed by further frames.
            image_format = "JPEG" if image.format == "MPO" else str(image.format)
            if image_format == "JPEG":
                self._draft(image)
            check_readable(image)
            self._admit(image, (width, height), image_format, scans)
            deep = any(";16" in str(tile) for tile in image.tile)
            image.load()
            if image_format in _ANIMATED:
                self._skip_blank_frames(image)
            exif = _exif(image)
            if _turn_upright(image):
                width, height = height, width
            pixels = to_srgb(image, deep)
            pixels.info.clear()
            return Picture(pixels, width, height, image_format, exif)

    def decode_raw(self, file: BinaryIO) -> Picture:
        """Decode a camera raw file. LibRaw has its own memory limit."""
        content = file.read()
        seconds_left = 3_600.0 if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        developed = raw.develop(content, self._near, self._max_pixels, seconds_left)
        exif = Image.Exif()
        with contextlib.suppress(*PILLOW_ERRORS):  # most raw files have the layout of an EXIF block
            exif.load(content)
        if isinstance(developed.image, bytes):
            preview = decode(developed.image, self._near, self._max_pixels, self._admission)
            pixels, exif = preview.pixels, exif if len(exif) else preview.exif
        else:
            pixels = developed.image
        if developed.turn is not None:
            pixels = pixels.transpose(developed.turn)
        return Picture(pixels, developed.width, developed.height, "RAW", exif)

    def decode_not_raw(self, file: BinaryIO, error: ImageError) -> Picture:
        """Decode a file that LibRaw could not read, such as the TIFF of a scanner.

        Raises:
            ImageError: the error of LibRaw.
        """
        file.seek(0)
        try:
            return self.decode(file)
        except (ImageError, UnidentifiedImageError, *PILLOW_ERRORS):
            raise error from None

    def decode_repaired(self, file: BinaryIO, error: Exception) -> Picture:
        """Decode a file after an error, without the metadata or with the end marker that may have caused it.

        Raises:
            Exception: the error, or another one of Pillow's decoders.
        """
        file.seek(0)
        if self._start.startswith(raw.TIFF) and "RAW" in formats():  # some raw files cannot be told by their header
            with contextlib.suppress(ImageError):
                return self.decode_raw(file)
            raise error
        content = file.read() if self._start.startswith((PNG, JPEG)) else b""
        if content.startswith(PNG):
            return self.decode(io.BytesIO(bare_png(content)))
        if content.startswith(JPEG) and "truncated" not in str(error):
            return self.decode(io.BytesIO(bare_jpeg(content)))
        # A truncated picture is complete if its pixels do not depend on the bytes that follow them.
        digests = set()
        for rest in (b"\xff\xd9", _NOISE + b"\xff\xd9") if content else ():
            try:
                picture = self.decode(io.BytesIO(content + rest))
            except PILLOW_ERRORS:
                raise error from None
            digests.add(zlib.crc32(picture.pixels.tobytes()))
        if len(digests) == 1:
            return picture
        raise error

    def _draft(self, image: Image.Image) -> None:
        """Choose the fraction of its size at which a JPEG is decoded."""
        fraction = next((f for f in (1, 2, 4) if _pixels(image, f) <= self._max_pixels), 8)
        if self._near or fraction > 1:
            sides = (min(self._near or side, side // fraction) for side in image.size)
            width, height = (max(1, side) for side in sides)
            image.draft("RGB", (width, height))

    def _admit(self, image: Image.Image, full_size: tuple[int, int], image_format: str, scans: JpegScans) -> None:
        """Reject a picture that costs too much, and wait until there is memory for it."""
        width, height = full_size
        if max(full_size) > MAX_SIDE:
            raise ImageError("too-large", f"{width} x {height} has a side of over {MAX_SIDE:,} pixels", "crop it")
        pixels = image.width * image.height
        memory = pixels * _BYTES_PER_PIXEL.get(image_format, BYTES_PER_PIXEL) + width * height * 2 * scans.held
        if (
            pixels > self._max_pixels
            or width * height * scans.count > _MAX_PASSES * self._max_pixels
            or memory > _MAX_BYTES_PER_PIXEL * self._max_pixels
        ):
            what = f"{width} x {height} is over {self._max_pixels / 1e6:.0f} million pixels"
            if image_format == "JPEG":
                what += ", even at the smallest size at which it can be decoded"
            raise ImageError("too-large", what, "raise the limit with --max-pixels")
        if self._admission is not None:
            self._admission(memory)
            self._admission = None  # a second attempt uses the same memory

    def _skip_blank_frames(self, image: Image.Image) -> None:
        """Seek to the first frame that is not blank, within the limits."""
        full_size = image.size
        most = min(_MAX_FRAMES, self._max_pixels // (image.width * image.height))
        frame = 0
        try:
            while _is_blank(image) and frame < most:
                frame += 1
                image.seek(frame)
                if image.size != full_size:
                    raise EOFError
                image.load()
        except PILLOW_ERRORS:
            image.seek(0)
            image.load()


def _pixels(image: Image.Image, fraction: int) -> int:
    return -(-image.width // fraction) * -(-image.height // fraction)


def _is_blank(image: Image.Image) -> bool:
    """Whether a frame has a single colour, or is transparent."""
    shown = image.convert("RGBA") if image.mode == "P" else image
    extrema = [channel.getextrema() for channel in shown.split()]
    if shown.mode.endswith("A") and extrema[-1][1] == 0:
        return True
    return all(high - low <= _BLANK for low, high in extrema)  # type: ignore[operator]  # numbers, of one channel


def reduced(picture: Picture, near: int) -> Picture:
    """Reduce a picture by a whole factor, like a JPEG that is decoded at a fraction of its size.

    Args:
        picture: decoded at full size.
        near: the least pixels of the shorter side, or eight times as many of the longer side of a narrow picture.
    """
    sides = picture.pixels.size
    width, height = (max(1, min(sides) // near, side // (8 * near)) for side in sides)
    return picture if width == height == 1 else replace(picture, pixels=picture.pixels.reduce((width, height)))


def _open(file: BinaryIO, start: bytes) -> ImageFile.ImageFile:
    """Open an image file and read its header, without decoding pixels.

    Not with `PIL.Image.open`, whose pixel limit is global to the process and may be below `max_pixels`.

    Raises:
        UnidentifiedImageError: the format is unknown.
        ImageError: the format is known, but not its kind of pixels.
    """
    Image.init()
    for name in formats():
        if name == "RAW":
            continue
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(start[:16])
        if not accepted or isinstance(accepted, str):  # a text is the reason why a known format is not supported
            continue
        file.seek(0)
        # If the first bytes match a format that then rejects the file, try the next one, as Pillow does.
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            if str(error).startswith(("cannot handle", "unknown pixel mode", "unknown data organization")):
                what = f"a {name} file whose kind of pixels is not supported ({error})"
                raise ImageError("unsupported", what, "save it as a PNG with 8 bits") from error
    raise UnidentifiedImageError


def _lacking_for(start: bytes, file: BinaryIO) -> str | None:
    """How to install support for the format of a file, if it is missing."""
    if "RAW" not in formats() and raw.looks_raw(start, file):
        return _LACKING["RAW"]
    if start[4:8] != b"ftyp":
        return None
    name = "AVIF" if start[8:12] in {b"avif", b"avis"} else "HEIF" if start[8:12] in _HEIF_BRANDS else None
    return _LACKING[name] if name and name not in formats() else None


def _exif(image: Image.Image) -> Image.Exif:
    """The EXIF block, empty if it is broken."""
    try:
        return image.getexif()
    except PILLOW_ERRORS:
        return Image.Exif()


def _turn_upright(image: Image.Image) -> bool:
    """Apply the EXIF orientation in place; return whether that swaps width and height.

    If the EXIF block is broken, the picture is not turned.
    """
    turned = False
    with contextlib.suppress(*PILLOW_ERRORS):
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        ImageOps.exif_transpose(image, in_place=True)  # may fail after turning the pixels, when it rewrites the block
    return turned
