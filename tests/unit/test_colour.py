"""Colour profiles, bit depths and sample formats decode to sRGB, or fail as unsupported."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from sceneseek.errors import ImageError
from sceneseek.picture import decode
from tests.drawing import icc_profile
from tests.hostile import chunk, encoded, png

Levels = npt.NDArray[np.float64]

# The same red in sRGB, Display P3 and Adobe RGB.
RED, RED_IN_P3, RED_IN_ADOBE = (201, 40, 40), (185, 56, 49), (173, 44, 44)
P3, ADOBE = icc_profile("Display P3"), icc_profile("Adobe RGB")


def pixel(data: bytes) -> tuple[int, ...]:
    decoded = decode(data).pixels.getpixel((3, 3))
    assert isinstance(decoded, tuple)
    return decoded


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize(("profile", "stored"), [(P3, RED_IN_P3), (ADOBE, RED_IN_ADOBE)])
def test_colour_profile_is_converted_to_srgb(
    image_format: str, options: dict[str, object], profile: bytes, stored: tuple[int, int, int]
) -> None:
    data = encoded(Image.new("RGB", (8, 8), stored), image_format, icc_profile=profile, **options)
    np.testing.assert_allclose(pixel(data), RED, atol=2)


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_profile_applies_to_palette_and_transparent_images(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (*RED_IN_P3, 128))
    image = image if mode == "RGBA" else image.convert("RGB").quantize(4)
    decoded = pixel(encoded(image, "PNG", icc_profile=P3))
    np.testing.assert_allclose(decoded, (*RED, 128) if mode == "RGBA" else RED, atol=2)


def test_profile_applies_to_8_and_16_bit_grey() -> None:
    dark = icc_profile("grey of gamma 1")
    deep = Image.fromarray(np.full((8, 8), 257 * 55, np.uint16))
    deep.putpixel((0, 0), 65535)
    for image in (Image.new("L", (8, 8), 55), deep):
        np.testing.assert_allclose(pixel(encoded(image, "PNG", icc_profile=dark)), (128,) * 3, atol=2)


def test_lab_and_cmyk_are_converted_to_rgb() -> None:
    srgb = ImageCms.createProfile("sRGB")
    red = Image.new("RGB", (8, 8), RED)
    lab = ImageCms.profileToProfile(red, srgb, ImageCms.createProfile("LAB"), outputMode="LAB")
    assert lab is not None
    np.testing.assert_allclose(pixel(encoded(lab, "TIFF")), RED, atol=6)
    np.testing.assert_allclose(pixel(encoded(red.convert("CMYK"), "TIFF")), RED, atol=2)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(SRGB, id="sRGB"),
        pytest.param(icc_profile("sRGB"), id="sRGB from another program"),
        pytest.param(b"", id="empty"),
        pytest.param(b"no profile", id="text"),
        pytest.param(P3[:200], id="truncated"),
        pytest.param(P3[:128] + b"\xff" * 300, id="broken table"),
        pytest.param(P3[:16] + b"CMYK" + P3[20:], id="CMYK"),
        pytest.param(icc_profile("grey of gamma 1"), id="grey"),
        pytest.param(P3 + bytes(5_000_000), id="very large"),
        pytest.param(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), id="Lab"),
    ],
)
def test_identity_or_invalid_profile_leaves_pixels_unchanged(profile: bytes) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(levels), "TIFF", icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(decode(data).pixels), levels)


RAMP: Levels = np.tile(np.linspace(0, 1, 16), (16, 1))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_grey_of_10_to_16_bits_is_scaled_by_its_used_bits(bits: int, image_format: str) -> None:
    levels = (RAMP * (2**bits - 1)).round().astype(np.uint16)
    decoded = np.asarray(decode(encoded(Image.fromarray(levels), image_format)).pixels)[..., 0]
    np.testing.assert_allclose(decoded, RAMP * 255, atol=1)


def tiff(levels: npt.NDArray[np.generic], order: Literal["<", ">"] = "<", **fields: int | tuple[int, ...]) -> bytes:
    """A TIFF of (height, width) or (height, width, samples) levels, in one strip or one per plane."""
    samples = levels.shape[2] if levels.ndim == 3 else 1
    planes = [levels[..., i] for i in range(samples)] if fields.get("planes") == 2 else [levels]
    strips = [np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes]
    if fields.get("compression") == 8:
        strips = [zlib.compress(strip) for strip in strips]
    lengths = [len(strip) for strip in strips]
    tags: dict[int, tuple[int, ...] | int] = {
        256: levels.shape[1],
        257: levels.shape[0],
        258: (levels.dtype.itemsize * 8,) * samples,
        259: fields.get("compression", 1),
        262: fields.get("photometric", 2 if samples == 3 else 1),
        277: samples,
        278: levels.shape[0],
        284: fields.get("planes", 1),
        339: (fields.get("kind", 1),) * samples,  # type: ignore[dict-item]  # a number
    }
    if "colours" in fields:
        tags[320] = fields["colours"]
    at = 8
    tags[273], tags[279] = tuple(at + sum(lengths[:i]) for i in range(len(strips))), tuple(lengths)
    directory, beyond = b"", at + sum(lengths) + 2 + 12 * len(tags) + 4
    extra = b""
    for tag in sorted(tags):
        value = tags[tag]
        values = value if isinstance(value, tuple) else (value,)
        kind, letter = (4, "I") if tag in (256, 257, 273, 279) else (3, "H")
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack(order + "I", beyond + len(extra)), extra + packed
        directory += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, at + sum(lengths))
    return head + b"".join(strips) + struct.pack(order + "H", len(tags)) + directory + bytes(4) + extra


COLOURS: Levels = np.stack([RAMP, RAMP.T, 1 - RAMP], -1)


def scaled(scale: float, kind: str, levels: Levels = RAMP) -> npt.NDArray[np.generic]:
    return (levels * scale).round().astype(kind) if kind[0] != "f" else (levels * scale).astype(kind)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda **o: tiff(scaled(255, "u1"), **o), RAMP, id="8 bits"),
        pytest.param(lambda **o: tiff(scaled(65535, "u2"), **o), RAMP, id="16 bits"),
        pytest.param(lambda **o: tiff(scaled(4095, "u2"), **o), RAMP, id="12 of 16 bits"),
        pytest.param(lambda **o: tiff(scaled(255, "u1", 1 - RAMP), photometric=0, **o), RAMP, id="inverted"),
        pytest.param(lambda **o: tiff(scaled(65535, "u2", 1 - RAMP), photometric=0, **o), RAMP, id="inverted, 16 bits"),
        pytest.param(lambda **o: tiff(scaled(127, "i1"), kind=2, **o), RAMP, id="signed 8 bits"),
        pytest.param(lambda **o: tiff(scaled(32767, "i2"), kind=2, **o), RAMP, id="signed 16 bits"),
        pytest.param(lambda **o: tiff(scaled(2, "i2", RAMP - 0.5), kind=2, **o), None, id="negative"),
        pytest.param(lambda **o: tiff(scaled(2**31, "u4"), **o), RAMP, id="32 bits"),
        pytest.param(lambda **o: tiff(scaled(1, "f4"), kind=3, **o), RAMP, id="floats"),
        pytest.param(lambda **o: tiff(scaled(65535, "f4"), kind=3, **o), RAMP, id="floats of 16 bits"),
        pytest.param(lambda **o: tiff(scaled(np.nan, "f4"), kind=3, **o), None, id="NaN"),
        pytest.param(lambda **o: tiff(scaled(1e6, "f4"), kind=3, **o), None, id="floats out of range"),
        pytest.param(lambda **o: tiff(scaled(1, "f2"), kind=3, **o), RAMP, id="half floats"),
        pytest.param(lambda **o: tiff(scaled(1, "f8"), kind=3, **o), RAMP, id="double floats"),
        pytest.param(lambda **o: tiff(scaled(255, "u1", COLOURS), **o), COLOURS, id="colours"),
        pytest.param(lambda **o: tiff(scaled(65535, "u2", COLOURS), **o), COLOURS, id="colours, 16 bits"),
        pytest.param(lambda **o: tiff(scaled(4095, "u2", COLOURS), **o), COLOURS, id="colours, 12 of 16 bits"),
        pytest.param(lambda **o: tiff(scaled(255, "u1", COLOURS), planes=2, **o), COLOURS, id="planes"),
        pytest.param(lambda **o: tiff(scaled(65535, "u2", COLOURS), planes=2, **o), COLOURS, id="planes, 16 bits"),
        pytest.param(
            lambda **o: tiff(scaled(255, "u1"), photometric=3, colours=tuple(range(0, 65536, 257)) * 3, **o),
            RAMP,
            id="palette",
        ),
        pytest.param(
            lambda **o: tiff(scaled(255, "u1"), photometric=3, colours=tuple(range(256)) * 3, **o),
            RAMP,
            id="palette of 8 bits",
        ),
    ],
)
def test_tiff_is_decoded_correctly_or_unsupported(
    make: Callable[..., bytes], expected: Levels | None, order: str, compression: int
) -> None:
    try:
        decoded = np.asarray(decode(make(order=order, compression=compression)).pixels)
    except ImageError as error:
        assert error.reason == "unsupported"
        return
    assert expected is not None
    colours = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, -1)
    np.testing.assert_allclose(decoded, colours * 255, atol=1)


def test_common_tiff_formats_are_supported() -> None:
    """The test above would pass even if every TIFF were unsupported."""
    for levels in (scaled(255, "u1"), scaled(65535, "u2"), scaled(65535, "u2", COLOURS), scaled(1, "f4")):
        decode(tiff(levels, kind=3 if levels.dtype.kind == "f" else 1))


def test_rgb_of_12_in_16_bits_is_unsupported() -> None:
    dark = scaled(4095, "u2", COLOURS)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in dark)
    data = png(16, 16, chunk(b"IDAT", zlib.compress(rows)), depth=16)
    with pytest.raises(ImageError, match="12 bits in samples of 16") as caught:
        decode(data)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("precision", [12, 16])
def test_jpeg_of_more_than_8_bits_is_unsupported(precision: int) -> None:
    data = bytearray(encoded(Image.new("L", (8, 8)), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = precision
    with pytest.raises(ImageError, match=f"{precision}-bit") as caught:
        decode(bytes(data))
    assert caught.value.reason == "unsupported"
