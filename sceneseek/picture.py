"""Pictures: hostile bytes to a whole, upright RGB(A) picture in sRGB. No numpy, no torch.

`decode` accepts a list of formats, and bounds what a picture costs by what its header says, before it pays: pixels,
sides, passes over the pixels, bytes of memory. It decodes completely (a truncated file is an error, never a half-grey
picture), applies the EXIF orientation and the colour profile, and drops everything that is no pixel. A hint (`near`)
lets JPEG decode at a fraction of its size. What a browser shows whole is whole: metadata that Pillow refuses is left
out, a JPEG may lack its end, and an animation's blank frames are passed over.

AVIF is among the formats if this Pillow was built with it, HEIC if the package `pillow-heif` is installed, camera raw
with `rawpy` (see `sceneseek.raw`).
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
    RAW_ENDINGS,
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
_BY_PLUGIN = {"AVIF": (".avif",), "HEIF": (".heic", ".heif", ".hif"), "RAW": RAW_ENDINGS}
_LACKING = {
    "AVIF": "AVIF cannot be decoded here: install Pillow's wheel, which can",
    "HEIF": "HEIC needs the package pillow-heif: pip install 'sceneseek[heif]'",
    "RAW": "camera raw needs the package rawpy: pip install 'sceneseek[raw]'",
}
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

# How the names of pictures end that no decoder here reads: JPEG 2000, JPEG XL, and those of editors.
_UNREAD = """
    j2c j2k jp2 jpc jpf jph jpx jxl jxr exr hdr pbm pgm pnm ppm psb psd qoi svg svgz tga xcf
"""
UNSUPPORTED = frozenset(f".{ending}" for ending in _UNREAD.split())
# Pillow's filters take some 32 bytes for each pixel of a side.
MAX_SIDE = 65_535
# How many times the largest picture's pixels a JPEG's decoder may go over, all scans together.
_MAX_PASSES = 32
# Bytes that decoding takes a pixel, the decoder's own and Pillow's together, as `benchmarks.hostile` measures them.
_BYTES_A_PIXEL = {"AVIF": 12, "GIF": 14, "HEIF": 12, "WEBP": 16}
BYTES_A_PIXEL = 8
_MAX_BYTES_A_PIXEL = 16

# Blocks that the C library gives back to the system at once, as it does from 32 MB. Smaller ones stay with the thread
# that took them, so that a service which has met large pictures would hold one's memory for every thread of it.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]  # where Pillow's documentation has it
# Pillow warns of odd metadata that the pixels do not depend on; a log of an archive would drown in it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# What Pillow's decoders and readers of EXIF were seen to raise on bad input, over 300,000 mutations of small files.
PILLOW_ERRORS = (
    *(OSError, EOFError, SyntaxError, MemoryError, RuntimeError, ValueError, TypeError),
    *(ArithmeticError, LookupError, AttributeError, struct.error, zlib.error),
)

# Formats whose further frames belong to the same picture; those of a TIFF are other pages.
_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
_MAX_FRAMES = 100
# Of 255 levels: a frame whose pixels differ by no more is blank.
_BLANK = 8
# Stands for a JPEG's missing end: if its pixels are all there, what follows them is never looked at.
_NOISE = bytes(range(254, 0, -1)) * 4

Admission = Callable[[int], object]
"""Called with the bytes that decoding is about to take; decoding waits until it returns."""


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that can be decoded here, and `RAW`."""
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

    `width` and `height` are those of the file in its right orientation; the pixels may be fewer. `exif` is the file's
    EXIF block; reading it may fail.
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
        data: the file's content, or the file itself, open at its beginning.
        near: pixels per side that suffice; a JPEG is then decoded at the smallest eighth of its size
            whose sides are not below it. 0 decodes at full size.
        max_pixels: what needs more pixels decoded is refused; a JPEG is decoded at a smaller fraction first.
            Pillow's decoders of GIF, WebP and of TIFF in tiles have a limit of their own, 179 million by default.
        admission: what bounds the memory of the pictures that are decoded at once.
        deadline: of camera raw, on the clock of `time.monotonic`: other formats are decoded within their limits.

    Raises:
        ImageError: empty, not an image of a known format, too large, truncated, broken, or of unknown levels.
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
                return decoding.developed(file)
            except ImageError as error:
                return decoding.other_than_raw(file, error)
        except (UnidentifiedImageError, *PILLOW_ERRORS) as error:
            return decoding.repaired(file, error)
    except UnidentifiedImageError:
        if lacking := _lacking_for(start, file):
            raise ImageError("no-plugin", lacking) from None
        raise ImageError("not-an-image", f"not an image of a known format ({', '.join(formats())})") from None
    except Image.DecompressionBombError as error:
        raise ImageError(
            "too-large", f"over the {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels that Pillow decodes", "save it as PNG"
        ) from error
    except PILLOW_ERRORS as error:
        reason = "truncated" if "truncated" in str(error).lower() else "broken"
        raise ImageError(reason, f"cannot be decoded ({str(error) or type(error).__name__})") from error


class _Decoding:
    """One file's decoding, within its limits; see `decode`."""

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
            # MPO is what some cameras write: a JPEG with further frames behind it.
            image_format = "JPEG" if image.format == "MPO" else str(image.format)
            if image_format == "JPEG":
                self._draft(image)
            check_readable(image)
            self._admit(image, (width, height), image_format, scans)
            deep = any(";16" in str(tile) for tile in image.tile)
            image.load()
            if image_format in _ANIMATED:
                self._pass_blank_frames(image)
            exif = _exif(image)
            if _upright(image):
                width, height = height, width
            pixels = to_srgb(image, deep)
            pixels.info.clear()
            return Picture(pixels, width, height, image_format, exif)

    def developed(self, file: BinaryIO) -> Picture:
        """What a camera's raw file shows. The memory that LibRaw takes has a limit of its own."""
        content = file.read()
        left = 3_600.0 if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        found = raw.develop(content, self._near, self._max_pixels, left)
        exif = Image.Exif()
        with contextlib.suppress(*PILLOW_ERRORS):  # most raw files are laid out as such a block is
            exif.load(content)
        if isinstance(found.shown, bytes):
            preview = decode(found.shown, self._near, self._max_pixels, self._admission)
            pixels, exif = preview.pixels, exif if len(exif) else preview.exif
        else:
            pixels = found.shown
        if found.turn is not None:
            pixels = pixels.transpose(found.turn)
        return Picture(pixels, found.width, found.height, "RAW", exif)

    def other_than_raw(self, file: BinaryIO, error: ImageError) -> Picture:
        """Decode a file that LibRaw could not read, and that may be a scanner's TIFF.

        Raises:
            ImageError: that of LibRaw.
        """
        file.seek(0)
        try:
            return self.decode(file)
        except (ImageError, UnidentifiedImageError, *PILLOW_ERRORS):
            raise error from None

    def repaired(self, file: BinaryIO, error: Exception) -> Picture:
        """Decode what is left when the parts are left out or added that made the decoder fail with an error.

        Raises:
            Exception: the error, or another one that Pillow's decoders raise.
        """
        file.seek(0)
        if (
            self._start.startswith(raw.TIFF) and "RAW" in formats()
        ):  # some cameras' raw files have no mark in their head
            with contextlib.suppress(ImageError):
                return self.developed(file)
            raise error
        content = file.read() if self._start.startswith((PNG, JPEG)) else b""
        if content.startswith(PNG):
            return self.decode(io.BytesIO(bare_png(content)))
        if content.startswith(JPEG) and "truncated" not in str(error):
            return self.decode(io.BytesIO(bare_jpeg(content)))
        # A picture without its end is whole if its pixels are the same whatever follows them.
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

    def _admit(self, image: Image.Image, whole: tuple[int, int], image_format: str, scans: JpegScans) -> None:
        """Refuse what would cost too much, and wait until there is memory for the rest."""
        width, height = whole
        if max(whole) > MAX_SIDE:
            raise ImageError("too-large", f"{width} x {height} has a side of over {MAX_SIDE:,} pixels", "crop it")
        pixels = image.width * image.height
        taken = pixels * _BYTES_A_PIXEL.get(image_format, BYTES_A_PIXEL) + width * height * 2 * scans.held
        if (
            pixels > self._max_pixels
            or width * height * scans.count > _MAX_PASSES * self._max_pixels
            or taken > _MAX_BYTES_A_PIXEL * self._max_pixels
        ):
            over = f"{width} x {height} is over {self._max_pixels / 1e6:.0f} million pixels"
            if image_format == "JPEG":
                over += ", even as small as it can be decoded"
            raise ImageError("too-large", over, "raise the limit with --max-pixels")
        if self._admission is not None:
            self._admission(taken)
            self._admission = None  # a second try takes what the first one took

    def _pass_blank_frames(self, image: Image.Image) -> None:
        """Go to the first frame that is not blank, if that is among the first ones."""
        whole = image.size
        most = min(_MAX_FRAMES, self._max_pixels // (image.width * image.height))
        frame = 0
        try:
            while _is_blank(image) and frame < most:
                frame += 1
                image.seek(frame)
                if image.size != whole:
                    raise EOFError
                image.load()
        except PILLOW_ERRORS:
            image.seek(0)
            image.load()


def _pixels(image: Image.Image, fraction: int) -> int:
    return -(-image.width // fraction) * -(-image.height // fraction)


def _is_blank(image: Image.Image) -> bool:
    """Whether a frame is of one colour, or all transparent."""
    shown = image.convert("RGBA") if image.mode == "P" else image
    extrema = [channel.getextrema() for channel in shown.split()]
    if shown.mode.endswith("A") and extrema[-1][1] == 0:
        return True
    return all(high - low <= _BLANK for low, high in extrema)  # type: ignore[operator]  # numbers, of one channel


def reduced(picture: Picture, near: int) -> Picture:
    """The picture with as few pixels as suffice, as JPEG decodes by itself.

    Args:
        picture: whole.
        near: pixels that the shorter side keeps at least; the longer one of a slim picture keeps eight times as many.
    """
    sides = picture.pixels.size
    width, height = (max(1, min(sides) // near, side // (8 * near)) for side in sides)
    return picture if width == height == 1 else replace(picture, pixels=picture.pixels.reduce((width, height)))


def _open(file: BinaryIO, start: bytes) -> ImageFile.ImageFile:
    """The image that a file holds, with its size known and no pixel decoded.

    Not `PIL.Image.open`, whose own limit of pixels is one for the whole process and below what `max_pixels` may be.

    Raises:
        UnidentifiedImageError: no known format.
        ImageError: a known format, with pixels of a kind that Pillow does not read.
    """
    Image.init()
    for name in formats():
        if name == "RAW":
            continue
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(start[:16])
        if not accepted or isinstance(accepted, str):  # a text says why a known format cannot be decoded here
            continue
        file.seek(0)
        # A format whose first bytes fit may still refuse the rest; the next one is tried then, as Pillow does.
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            if str(error).startswith(("cannot handle", "unknown pixel mode", "unknown data organization")):
                what = f"a {name} file with pixels of a kind that cannot be decoded here ({error})"
                raise ImageError("unsupported", what, "save it as a PNG with 8 bits") from error
    raise UnidentifiedImageError


def _lacking_for(start: bytes, file: BinaryIO) -> str | None:
    """What to install for a file that begins like this, if that is what it needs."""
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


def _upright(image: Image.Image) -> bool:
    """Turn the picture as its EXIF block says; True if that swaps its sides.

    A picture whose EXIF block is broken stays as it lies: its pixels are whole.
    """
    turned = False
    with contextlib.suppress(*PILLOW_ERRORS):
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        ImageOps.exif_transpose(image, in_place=True)  # may fail once the pixels are turned, at writing the block anew
    return turned
