"""Converts a decoded frame from any of Pillow's modes to 8-bit sRGB, as RGB, or as RGBA if a pixel is transparent.

LittleCMS converts colour profiles, in place. A profile that is broken, very large, or does not fit the picture is
ignored, as in browsers; a profile that is equivalent to sRGB does not change any pixel. Values of more than 8 bits are
scaled from the smallest usual bit depth that contains them all. If the meaning of the values is unknown, the picture is
rejected: it would be indexed as a black rectangle without notice.
"""

from __future__ import annotations

import functools
import io
import itertools
import math

from PIL import Image, ImageChops, ImageCms, ImageFile, TiffImagePlugin

from sceneseek.errors import ImageError

# Rows per step of conversions that need several times the memory of their input.
_BAND = 256
# The highest values of the usual depths of grey: masks, 8, 10, 12, 14, 15 (signed 16) and 16 bits.
_HIGHEST = (1, 255, 1023, 4095, 16383, 32767, 65535)
# The largest profiles in pictures, those of printing presses, have 0.5 to 3 MB.
_MAX_PROFILE_BYTES = 4 * 2**20
# A profile that changes no colour by more than this, of 255, is a variant of sRGB.
_SAME = 2


# Tags of TIFF fields.
_BITS, _PHOTOMETRIC, _PLANES, _COLOURS, _SAMPLE_FORMAT = 258, 262, 284, 320, 339


def check_readable(image: ImageFile.ImageFile) -> None:
    """Reject TIFF layouts that Pillow decodes wrongly or not at all, before decoding.

    The list was found by comparing Pillow with tifffile, over all pixel layouts that both read.

    Raises:
        ImageError: the picture has such a layout.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    fields, codec = image.tag_v2, image.tile[0].codec_name if image.tile else ""
    bits = fields.get(_BITS, (1,))
    deep = max(bits) > 8
    kinds = {
        "uncompressed planes of 16 bits": deep and fields.get(_PLANES) == 2 and len(bits) > 1 and codec == "raw",
        "inverted grey of 16 bits": deep and fields.get(_PHOTOMETRIC) == 0,
        "signed values of 8 bits": not deep and 2 in fields.get(_SAMPLE_FORMAT, ()),
        "compressed big-endian numbers": image.mode in {"I", "F"} and fields.prefix == b"MM" and codec == "libtiff",
        "a palette of 8 bits": image.mode == "P" and max(fields.get(_COLOURS, (256,))) < 256,
        "WebP inside a TIFF": image.info.get("compression") == "webp",
    }
    if kind := next((kind for kind, applies in kinds.items() if applies), None):
        raise ImageError("unsupported", f"{kind} cannot be decoded here", "save it as a PNG with 8 bits")


def to_srgb(image: Image.Image, deep: bool) -> Image.Image:
    """Convert a frame to RGB, or to RGBA if a pixel is not opaque.

    Args:
        image: a loaded image, in any of Pillow's modes.
        deep: whether the file has 16 bits per sample, of which Pillow keeps the upper 8 if there are colours.

    Raises:
        ImageError: the meaning of its values is unknown.
    """
    profile, mode = _profile_of(image), image.mode
    if mode == "LAB":
        return _converted(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if mode == "CMYK" and profile is not None and _space(profile) == "CMYK":
        return _converted(image, profile)
    rgb = _to_rgb(image)
    if deep and not mode.startswith("I"):
        _check_upper_bits(rgb)
    grey = mode[0] in "1LIF"
    if profile is not None and _space(profile) == ("GRAY" if grey else "RGB"):
        transform = _transform(image.info["icc_profile"], "L" if grey else rgb.mode)
        if transform is not None and grey:
            return _grey_through(rgb, transform)
        if transform is not None:
            transform.apply_in_place(rgb)
    return rgb


def on_background(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Composite an RGBA image on a colour, in bands, as a large one would be in memory three times."""
    canvas = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND):
        part = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        band = Image.new("RGBA", part.size, (*background, 255))
        band.alpha_composite(part)
        canvas.paste(band.convert("RGB"), (0, top))
    return canvas


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_to_rgb(image)
    if image.mode == "La":  # premultiplied
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        opaque = rgba.getchannel("A").getextrema()[0] == 255
        return rgba.convert("RGB") if opaque else rgba
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_rgb(image: Image.Image) -> Image.Image:
    """Convert grey of more than 8 bits to RGB, in bands, as floats take three times the memory of the picture."""
    bands = [(0, y, image.width, min(y + _BAND, image.height)) for y in range(0, image.height, _BAND)]
    extrema = [level for band in bands for level in image.crop(band).convert("F").getextrema()]
    levels = [float(level) for level in extrema if isinstance(level, float)]
    low, high = min(levels, default=math.nan), max(levels, default=math.nan)
    top = next((top for top in _HIGHEST if high <= top), 0)
    if low < 0 or not top or not all(map(math.isfinite, levels)):
        raise ImageError("unsupported", f"its values, {low:g} to {high:g}, are not grey values", "save it with 8 bits")
    rgb = Image.new("RGB", image.size)
    for band in bands:
        grey = image.crop(band).convert("F").point(lambda level: level * (255.0 / top))
        rgb.paste(grey.convert("L").convert("RGB"), band[:2])
    return rgb


def _check_upper_bits(rgb: Image.Image) -> None:
    """Reject colours of 16 bits that use only the lower 12: their upper 8 bits are nearly black."""
    highest = max(int(high) for _, high in rgb.convert("RGB").getextrema())  # type: ignore[misc]  # a pair per band
    if 0 < highest <= 4095 >> 8:
        raise ImageError("unsupported", "its colours have 12 bits in samples of 16", "save it with 8 bits")


def _profile_of(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    content = image.info.get("icc_profile")
    if not isinstance(content, bytes) or not 0 < len(content) <= _MAX_PROFILE_BYTES:
        return None
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(content))
    except (OSError, TypeError, ValueError):
        return None


def _space(profile: ImageCms.ImageCmsProfile) -> str:
    return str(profile.profile.xcolor_space).strip()


@functools.lru_cache(maxsize=4)
def _transform(content: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None if it changes nothing, or cannot be built."""
    space = "L" if mode == "L" else "RGB"
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        probed = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), space, "RGB").apply(_probe(space))
        changes = ImageChops.difference(probed, _probe(space).convert("RGB")).getextrema()
        if max(int(high) for _, high in changes) <= _SAME:  # type: ignore[misc]  # a pair per band
            return None
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB" if space == "L" else mode)
    except (OSError, TypeError, ValueError, ImageCms.PyCMSError):
        return None


@functools.cache
def _probe(space: str) -> Image.Image:
    """A test image with all greys, or with 4,096 colours."""
    if space == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    colours = itertools.product(range(0, 256, 17), repeat=3)
    return Image.frombytes("RGB", (4096, 1), bytes(itertools.chain.from_iterable(colours)))


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """Convert a frame from another colour space to RGB."""
    try:
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB").apply(image)
    except ImageCms.PyCMSError:
        return image.convert("RGB")


def _grey_through(rgb: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    levels = list(transform.apply(_probe("L")).getchannel(0).tobytes())
    return rgb.point(levels * 3 + list(range(256)) * (len(rgb.getbands()) - 3))
