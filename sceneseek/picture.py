"""Pictures: hostile bytes to a whole first RGB(A) frame, and that to the pixel tensors of `image.onnx`. No torch.

`decode` accepts a list of formats, checks the number of pixels before any is allocated, decodes completely (a truncated
file is an error, never a half-grey picture) and applies the EXIF orientation. A hint (`near`) lets JPEG decode at a
fraction of its size. AVIF is among the formats if this Pillow was built with it, HEIC if the package `pillow-heif` is
installed.

`prepare` is the one preprocessing of the export's check, the indexer and the server. Resizing is antialiased, as Pillow
does it and as transformers' image processors do through Pillow: on the same pixels the result is theirs, to within one
of 255 levels where it is cropped. What is cropped away is never computed, so a picture may be of any shape. The result
is uint8: normalisation is inside the graph.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import math
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from sceneseek.errors import ImageError

if TYPE_CHECKING:
    # The command line knows the limit of pixels and the formats, and has no other use for numpy.
    import numpy as np
    import numpy.typing as npt

    from sceneseek.bundle import Fit, ImageInput

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
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
MAX_PIXELS = 64_000_000

# Blocks that the C library gives back to the system at once, as it does from 32 MB. Smaller ones stay with the thread
# that took them, so that a service which has met large pictures would hold one's memory for every thread of it.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]  # where Pillow's documentation has it
# Pillow warns of odd metadata that the pixels do not depend on; a log of an archive would drown in it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# What Pillow's decoders raise on bad input; anything else is a bug and must be seen.
_DECODE_ERRORS = (OSError, SyntaxError, MemoryError, ValueError, NotImplementedError, OverflowError)
# Rows that are converted at a time where a whole picture would take several times its size.
_BAND = 256

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# How many pixels, of the coarser of source and result, the widest filter (Lanczos) reaches to either side.
_REACH = 3

Pixels: TypeAlias = "npt.NDArray[np.uint8]"

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

    `width` and `height` are those of the file in its right orientation; the pixels may be fewer. `exif` is the file's
    EXIF block; reading it may fail.
    """

    pixels: Image.Image
    width: int
    height: int
    format: str
    exif: Image.Exif = field(default_factory=Image.Exif, compare=False, repr=False)


def decode(
    data: bytes | BinaryIO, near: int = 0, max_pixels: int = MAX_PIXELS, admission: Admission | None = None
) -> Picture:
    """Decode the first frame of an image file.

    Args:
        data: the file's content, or the file itself, open at its beginning.
        near: pixels per side that suffice; a JPEG is then decoded at the smallest eighth of its size
            whose sides are not below it. 0 decodes at full size.
        max_pixels: pictures of more pixels are refused before they are decoded. Pillow's decoders of GIF, WebP and
            of TIFF in tiles have a limit of their own, 179 million by default.
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
        with _open(file, start) as image:
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
            exif = _exif(image)
            if _upright(image):
                width, height = height, width
            return Picture(_to_rgb(image), width, height, image_format, exif)
    except UnidentifiedImageError:
        if lacking := _lacking_for(start):
            raise ImageError("no-plugin", lacking) from None
        raise ImageError("not-an-image", f"not an image of a known format ({', '.join(formats())})") from None
    except Image.DecompressionBombError as error:
        raise ImageError(
            "too-large", f"over the {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels that Pillow decodes", "save it as PNG"
        ) from error
    except _DECODE_ERRORS as error:
        reason = "truncated" if "truncated" in str(error).lower() else "broken"
        raise ImageError(reason, f"cannot be decoded ({str(error) or type(error).__name__})") from error


def _open(file: BinaryIO, start: bytes) -> Image.Image:
    """The image that a file holds, with its size known and no pixel decoded.

    Not `PIL.Image.open`, whose own limit of pixels is one for the whole process and below what `max_pixels` may be.

    Raises:
        UnidentifiedImageError: no known format.
    """
    Image.init()
    for name in formats():
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(start[:16])
        if not accepted or isinstance(accepted, str):  # a text says why a known format cannot be decoded here
            continue
        file.seek(0)
        # A format whose first bytes fit may still refuse the rest; the next one is tried then, as Pillow does.
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
            return factory(file, "")
    raise UnidentifiedImageError


def _lacking_for(start: bytes) -> str | None:
    """What to install for a file that begins like this, if that is what it needs."""
    if start[4:8] != b"ftyp":
        return None
    name = "AVIF" if start[8:12] in {b"avif", b"avis"} else "HEIF" if start[8:12] in _HEIF_BRANDS else None
    return _LACKING[name] if name and name not in formats() else None


def _exif(image: Image.Image) -> Image.Exif:
    """The EXIF block, empty if it is broken."""
    try:
        return image.getexif()
    except _DECODE_ERRORS:
        return Image.Exif()


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


def prepare(picture: Picture, inputs: tuple[ImageInput, ...]) -> tuple[Pixels, ...]:
    """One uint8 (height, width, 3) array an image input, in the inputs' order."""
    return tuple(_prepare_one(picture, spec) for spec in inputs)


def enough_pixels(inputs: tuple[ImageInput, ...]) -> int:
    """Pixels per side from which decoding larger changes nothing one could see: twice the largest resized side."""
    return 2 * max(max(spec.height, spec.width, spec.shortest_edge or 0) for spec in inputs)


def _prepare_one(picture: Picture, spec: ImageInput) -> Pixels:
    import numpy as np  # noqa: PLC0415 - see above

    image, fit = picture.pixels, spec.fit
    if image.mode == "RGBA":
        fit = spec.fit_transparent
        image = on_background(image, spec.background)
    if fit == "crop" and spec.shortest_edge is not None:
        fitted = _centre_of_resized(image, (picture.width, picture.height), spec, spec.shortest_edge)
    else:
        fitted = _fitted(image, fit, spec)
    return np.asarray(fitted, dtype=np.uint8)


def on_background(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """RGBA on a colour, in bands: a large picture would else be in memory three times."""
    canvas = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND):
        part = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        band = Image.new("RGBA", part.size, (*background, 255))
        band.alpha_composite(part)
        canvas.paste(band.convert("RGB"), (0, top))
    return canvas


def _fitted(image: Image.Image, fit: Fit, spec: ImageInput) -> Image.Image:
    size, resampling = (spec.width, spec.height), _RESAMPLING[spec.interpolation]
    if fit == "squash" or image.width * spec.height == image.height * spec.width:
        return image.resize(size, resampling)
    if fit == "letterbox":
        scale = min(spec.width / image.width, spec.height / image.height)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = Image.new("RGB", size, spec.background)
        corner = ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2)
        canvas.paste(image.resize(inner, resampling), corner)
        return canvas
    return ImageOps.fit(image, size, resampling)


def _centre_of_resized(image: Image.Image, whole: tuple[int, int], spec: ImageInput, edge: int) -> Image.Image:
    """The centre of the picture resized to this shortest edge; `whole` is the size that its ratio is taken from."""
    short, long = min(whole), max(whole)
    other = int(edge * long / short)
    resized = (edge, other) if whole[0] <= whole[1] else (other, edge)
    x, y = (_span(*sides) for sides in zip(image.size, resized, (spec.width, spec.height), strict=True))
    filtering = _RESAMPLING[spec.interpolation]
    # Not `crop`, which has Pillow's limit of pixels.
    part = Image.new(image.mode, (x.last - x.first, y.last - y.first))
    part.paste(image, (-x.first, -y.first))
    # Along the rows first and rounded between, as Pillow resizes a whole picture; of a part it might choose otherwise.
    narrow = part.resize((spec.width, part.height), filtering, (x.start, 0, x.end, part.height))
    return narrow.resize((spec.width, spec.height), filtering, (0, y.start, spec.width, y.end))


class _Span(NamedTuple):
    """Along one axis: the source pixels that count, first to last, and what is resized, counted from the first."""

    first: int
    last: int
    start: float
    end: float


def _span(source: int, resized: int, wanted: int) -> _Span:
    """Where the middle `wanted` of `resized` pixels come from, of `source` pixels.

    Pillow takes a box of single precision, so the source is cut first: its numbers then stay small.
    """
    scale = source / resized
    corner = (resized - wanted) // 2
    start, end = corner * scale, (corner + wanted) * scale
    reach = _REACH * max(scale, 1.0) + 1
    first, last = max(0, math.floor(start - reach)), min(source, math.ceil(end + reach))
    return _Span(first, last, start - first, min(end, source) - first)
