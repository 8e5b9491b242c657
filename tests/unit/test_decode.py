"""Hostile bytes become a clear `ImageError`; good ones a whole, upright RGB(A) picture."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sceneseek.bundle import ImageInput
from sceneseek.errors import ImageError
from sceneseek.picture import decode, extensions, formats, lacking_plugins, prepare

Noise = Callable[[int, int], Image.Image]


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_allowed_format_decodes_to_rgb(noise: Noise, image_format: str) -> None:
    picture = decode(encoded(noise(40, 30), image_format))
    assert (picture.pixels.mode, picture.pixels.size, picture.format) == ("RGB", (40, 30), image_format)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.97])
def test_a_truncated_file_is_an_error_and_never_a_half_picture(noise: Noise, image_format: str, kept: float) -> None:
    whole = encoded(noise(200, 200), image_format)
    with pytest.raises(ImageError):
        decode(whole[: int(len(whole) * kept)])


def test_an_empty_file_and_a_text_have_different_reasons() -> None:
    with pytest.raises(ImageError) as empty:
        decode(b"")
    with pytest.raises(ImageError) as text:
        decode(b"no picture, just words " * 50)
    assert (empty.value.reason, text.value.reason) == ("empty", "not-an-image")


def test_a_format_outside_the_allowlist_is_refused(noise: Noise) -> None:
    with pytest.raises(ImageError, match="known format"):
        decode(encoded(noise(10, 10), "PPM"))


def test_a_bomb_is_refused_by_its_header_before_its_pixels_are_decoded() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(ImageError, match="60000 x 60000") as caught:
        decode(bomb)
    assert caught.value.reason == "too-large"


def test_importing_leaves_pillows_own_limit_as_it_was() -> None:
    program = (
        "from PIL import Image; before = Image.MAX_IMAGE_PIXELS; import sceneseek.picture, sys;"
        "sys.exit(before is None or Image.MAX_IMAGE_PIXELS != before)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP"])
def test_a_raised_ceiling_may_exceed_pillows_limit(
    noise: Noise, monkeypatch: pytest.MonkeyPatch, image_format: str
) -> None:
    data = encoded(noise(300, 200), image_format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    picture = decode(data)
    cropped = ImageInput(
        name="x", height=32, width=32, fit="crop", fit_transparent="crop", mean=(0,) * 3, std=(1,) * 3, shortest_edge=64
    )
    assert prepare(picture, (cropped,))[0].shape == (32, 32, 3)


def test_the_pixel_ceiling_is_the_callers(noise: Noise) -> None:
    data = encoded(noise(100, 100), "PNG")
    assert decode(data, max_pixels=10_000).width == 100
    with pytest.raises(ImageError, match="--max-pixels"):
        decode(data, max_pixels=9_999)


@pytest.mark.parametrize(("orientation", "size"), [(1, (60, 40)), (3, (60, 40)), (6, (40, 60)), (8, (40, 60))])
def test_the_exif_orientation_is_applied_to_pixels_and_size(
    noise: Noise, orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encoded(noise(60, 40), "JPEG", exif=exif))
    assert picture.pixels.size == size
    assert (picture.width, picture.height) == size


def test_a_broken_exif_block_does_not_cost_the_picture(noise: Noise) -> None:
    broken = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12\xff\xff"
    assert decode(encoded(noise(60, 40), "JPEG", exif=broken)).pixels.size == (60, 40)


def test_transparency_is_kept_only_where_some_pixel_is_transparent() -> None:
    half = Image.new("RGBA", (10, 10), (255, 0, 0, 128))
    opaque = Image.new("RGBA", (10, 10), (255, 0, 0, 255))
    assert decode(encoded(half, "PNG")).pixels.mode == "RGBA"
    assert decode(encoded(opaque, "PNG")).pixels.mode == "RGB"
    assert decode(encoded(half.convert("P"), "PNG", transparency=0)).pixels.mode == "RGBA"


def test_an_animation_gives_its_first_frame() -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    picture = decode(encoded(red, "GIF", save_all=True, append_images=[blue], duration=100))
    assert picture.pixels.getpixel((4, 4)) == (255, 0, 0)


def test_sixteen_bit_grey_keeps_its_range() -> None:
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    levels = np.asarray(decode(encoded(Image.fromarray(ramp), "PNG")).pixels)[..., 0]
    assert levels.min() == 0
    assert levels.max() == 255
    assert 120 < np.median(levels) < 136


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "I;16"])
def test_odd_colour_modes_become_rgb(noise: Noise, mode: str) -> None:
    grey = noise(20, 20).convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256) if mode == "I;16" else grey.convert(mode)
    image_format = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    assert decode(encoded(image, image_format)).pixels.mode in ("RGB", "RGBA")


def test_a_large_jpeg_decodes_at_a_fraction_of_its_size_but_reports_the_whole(noise: Noise) -> None:
    picture = decode(encoded(noise(2000, 1500), "JPEG"), near=448)
    assert (picture.width, picture.height) == (2000, 1500)
    assert 448 <= picture.pixels.height < 1500


@settings(max_examples=60, deadline=None)
@given(
    cut=st.integers(0, 400),
    at=st.integers(0, 400),
    byte=st.integers(0, 255),
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"]),
)
def test_whatever_the_bytes_it_is_a_picture_or_an_image_error(cut: int, at: int, byte: int, kind: str) -> None:
    data = bytearray(encoded(Image.linear_gradient("L").resize((24, 24)), kind))
    if at < len(data):
        data[at] = byte
    if cut:
        data = data[: max(1, len(data) - cut)]
    try:
        picture = decode(bytes(data), max_pixels=1_000_000)
    except ImageError as error:
        assert error.reason
    else:
        assert picture.pixels.mode in ("RGB", "RGBA")


def test_an_open_file_decodes_like_its_content(noise: Noise, tmp_path: Path) -> None:
    data = encoded(noise(40, 30), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    with (tmp_path / "a.png").open("rb") as file:
        assert np.array_equal(np.asarray(decode(file).pixels), np.asarray(decode(data).pixels))


def test_pixels_are_announced_before_they_are_decoded(noise: Noise) -> None:
    announced: list[int] = []
    decode(encoded(noise(40, 30), "PNG"), admission=announced.append)
    decode(encoded(noise(2000, 1500), "JPEG"), near=448, admission=announced.append)
    assert announced == [1200, 1000 * 750]


def test_deep_grey_keeps_its_range_over_all_its_bands() -> None:
    levels = np.linspace(0, 65535, 700 * 4).astype(np.uint16).reshape(700, 4)
    found = np.asarray(decode(encoded(Image.fromarray(levels), "PNG")).pixels)[..., 0]
    np.testing.assert_allclose(found, levels / 257.0, atol=1)


@pytest.mark.parametrize(("name", "brand"), [("HEIF", b"heic"), ("HEIF", b"mif1"), ("AVIF", b"avif")])
def test_a_format_whose_plugin_is_missing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, brand: bytes
) -> None:
    monkeypatch.setattr("sceneseek.picture.formats", lambda: ("JPEG", "PNG"))
    with pytest.raises(ImageError, match=r"HEIC needs the package pillow-heif|AVIF cannot be decoded here") as caught:
        decode(struct.pack(">I", 24) + b"ftyp" + brand + bytes(40))
    assert caught.value.reason == "no-plugin"


@pytest.mark.skipif("AVIF" not in formats(), reason="this Pillow has no AVIF")
def test_avif_decodes(noise: Noise) -> None:
    picture = decode(encoded(noise(40, 30), "AVIF"))
    assert (picture.pixels.mode, picture.pixels.size, picture.format) == ("RGB", (40, 30), "AVIF")


@pytest.mark.skipif("HEIF" not in formats(), reason="pillow-heif is not installed")
def test_heic_decodes_and_a_truncated_one_is_an_error(noise: Noise) -> None:
    data = encoded(noise(64, 48), "HEIF")
    picture = decode(data)
    assert (picture.pixels.mode, picture.pixels.size, picture.format) == ("RGB", (64, 48), "HEIF")
    with pytest.raises(ImageError):
        decode(data[: len(data) // 2])


def test_endings_follow_what_can_be_decoded() -> None:
    assert {".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff"} <= extensions()
    assert not extensions() & lacking_plugins().keys()
    assert {".heic", ".avif"} <= extensions() | lacking_plugins().keys()
