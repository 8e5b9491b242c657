"""Invalid bytes raise `ImageError`; valid ones decode to a complete, upright RGB(A) image."""

from __future__ import annotations

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
from sceneseek.picture import decode, extensions, formats, lacking_plugins
from sceneseek.preprocess import prepare
from tests.drawing import icc_profile
from tests.hostile import chunk, encoded, gif_with, png

Noise = Callable[[int, int], Image.Image]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_allowed_format_decodes_to_rgb(noise: Noise, image_format: str) -> None:
    picture = decode(encoded(noise(40, 30), image_format))
    assert (picture.pixels.mode, picture.pixels.size, picture.format) == ("RGB", (40, 30), image_format)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.97])
def test_truncated_file_raises(noise: Noise, image_format: str, fraction: float) -> None:
    whole = encoded(noise(200, 200), image_format)
    with pytest.raises(ImageError):
        decode(whole[: int(len(whole) * fraction)])


def test_an_empty_file_and_a_text_have_different_reasons() -> None:
    with pytest.raises(ImageError) as empty:
        decode(b"")
    with pytest.raises(ImageError) as text:
        decode(b"no picture, just words " * 50)
    assert (empty.value.reason, text.value.reason) == ("empty", "not-an-image")


def test_format_outside_the_allowlist_is_rejected(noise: Noise) -> None:
    with pytest.raises(ImageError, match="known format"):
        decode(encoded(noise(10, 10), "PPM"))


def test_decompression_bomb_is_rejected_by_its_header() -> None:
    with pytest.raises(ImageError, match="60000 x 60000") as caught:
        decode(png(60_000, 60_000, chunk(b"IDAT", zlib.compress(bytes(1000)))))
    assert caught.value.reason == "too-large"


@pytest.mark.parametrize("size", [(65_536, 1), (1, 65_536), (3_000_000, 2)])
def test_excessive_side_length_is_rejected(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="side of over 65,535") as caught:
        decode(encoded(Image.new("1", size), "PNG"))
    assert caught.value.reason == "too-large"


def test_import_does_not_change_the_pixel_limit_of_pillow() -> None:
    program = (
        "from PIL import Image; before = Image.MAX_IMAGE_PIXELS; import sceneseek.picture, sys;"
        "sys.exit(before is None or Image.MAX_IMAGE_PIXELS != before)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP"])
def test_pixel_limit_may_exceed_that_of_pillow(
    noise: Noise, monkeypatch: pytest.MonkeyPatch, image_format: str
) -> None:
    data = encoded(noise(300, 200), image_format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    picture = decode(data)
    cropped = ImageInput(
        name="x", height=32, width=32, fit="crop", fit_transparent="crop", mean=(0,) * 3, std=(1,) * 3, shortest_edge=64
    )
    assert prepare(picture, (cropped,))[0].shape == (32, 32, 3)


def test_max_pixels_limits_the_image_size(noise: Noise) -> None:
    data = encoded(noise(100, 100), "PNG")
    assert decode(data, max_pixels=10_000).width == 100
    with pytest.raises(ImageError, match="--max-pixels"):
        decode(data, max_pixels=9_999)


@pytest.mark.parametrize(
    ("max_pixels", "near", "size"),
    [
        (1_000_000, 0, (1000, 800)),
        (500_000, 0, (500, 400)),
        (500_000, 300, (500, 400)),
        (50_000, 300, (250, 200)),
        (25_000, 300, (125, 100)),
        (12_400, 300, None),
    ],
)
def test_jpeg_over_max_pixels_is_decoded_at_a_smaller_scale(
    noise: Noise, max_pixels: int, near: int, size: tuple[int, int] | None
) -> None:
    data = encoded(noise(1000, 800), "JPEG")
    if size is None:
        with pytest.raises(ImageError, match="even at the smallest size"):
            decode(data, near, max_pixels)
    else:
        picture = decode(data, near, max_pixels)
        assert (picture.pixels.size, picture.width, picture.height) == (size, 1000, 800)


@pytest.mark.parametrize(
    ("part", "valid"), [(b"!\xfe\1x\0", False), (b"!\xfe" + b"\xff" + b"x" * 255 + b"\0", False), (b"", True)]
)
def test_number_of_gif_blocks_is_limited(noise: Noise, part: bytes, valid: bool) -> None:
    whole = encoded(noise(40, 30), "GIF")
    data = gif_with(whole, part * 40_000)
    if valid:
        assert decode(data).width == 40
    else:
        with pytest.raises(ImageError, match="over 65,536 parts"):
            decode(data)
    long = b"!\xfe" + (b"\xff" + b"x" * 255) * 4_000 + b"\0"
    np.testing.assert_array_equal(np.asarray(decode(gif_with(whole, long)).pixels), np.asarray(decode(whole).pixels))


@pytest.mark.parametrize(("count", "valid"), [(1, True), (100, False)])
def test_number_of_jpeg_scans_is_limited(noise: Noise, count: int, valid: bool) -> None:
    data = encoded(noise(200, 200), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    data = data[:last] + data[last:-2] * count + b"\xff\xd9"
    if valid:
        decode(data, max_pixels=40_000)
    else:
        with pytest.raises(ImageError) as caught:
            decode(data, max_pixels=40_000)
        assert caught.value.reason == "too-large"


@pytest.mark.parametrize(("orientation", "size"), [(1, (60, 40)), (3, (60, 40)), (6, (40, 60)), (8, (40, 60))])
def test_exif_orientation_is_applied_to_pixels_and_size(noise: Noise, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encoded(noise(60, 40), "JPEG", exif=exif))
    assert picture.pixels.size == size
    assert (picture.width, picture.height) == size


def test_broken_exif_is_ignored(noise: Noise) -> None:
    broken = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12\xff\xff"
    assert decode(encoded(noise(60, 40), "JPEG", exif=broken)).pixels.size == (60, 40)


def test_transparency_is_kept_only_if_a_pixel_is_transparent() -> None:
    half = Image.new("RGBA", (10, 10), (255, 0, 0, 128))
    opaque = Image.new("RGBA", (10, 10), (255, 0, 0, 255))
    assert decode(encoded(half, "PNG")).pixels.mode == "RGBA"
    assert decode(encoded(opaque, "PNG")).pixels.mode == "RGB"
    assert decode(encoded(half.convert("P"), "PNG", transparency=0)).pixels.mode == "RGBA"


def frames(*colours: object) -> list[Image.Image]:
    """Return frames of one colour each, or with a shape where the colour is None."""
    images = []
    for colour in colours:
        image = Image.new("RGBA", (16, 16), "white" if colour is None else colour)  # type: ignore[arg-type]
        if colour is None:
            image.paste("green", (4, 4, 12, 12))
        images.append(image)
    return images


ANIMATIONS = [
    ("GIF", {}),
    ("PNG", {}),
    ("WEBP", {"lossless": True, "minimize_size": False}),
    ("WEBP", {"quality": 50}),
    *([("AVIF", {"quality": 90})] if "AVIF" in formats() else []),
]


@pytest.mark.parametrize(("image_format", "options"), ANIMATIONS)
@pytest.mark.parametrize("before", [(), ("white",), ("black",), ((0, 0, 0, 0),), ("white", "black", "red")])
def test_animation_decodes_to_its_first_non_blank_frame(
    image_format: str, options: dict[str, object], before: tuple[object, ...]
) -> None:
    first, *others = frames(*before, None, "blue", None)
    options = {"save_all": True, "append_images": others, "duration": 100, **options}
    pixel = np.asarray(decode(encoded(first, image_format, **options)).pixels.convert("RGB"))[8, 8]
    np.testing.assert_allclose(pixel, (0, 128, 0), atol=45)


@pytest.mark.parametrize(("image_format", "options"), ANIMATIONS)
def test_animation_of_blank_frames_decodes_to_the_first(image_format: str, options: dict[str, object]) -> None:
    first, *others = frames("red", "blue", "white")
    options = {"save_all": True, "append_images": others, "duration": 100, **options}
    pixel = np.asarray(decode(encoded(first, image_format, **options)).pixels.convert("RGB"))[8, 8]
    np.testing.assert_allclose(pixel, (255, 0, 0), atol=45)


def test_truncated_later_frame_is_ignored(noise: Noise) -> None:
    data = encoded(Image.new("RGB", (64, 64), "red"), "GIF", save_all=True, append_images=[noise(64, 64)])
    assert decode(data[:-2_000]).pixels.getpixel((3, 3)) == (255, 0, 0)


def test_tiff_pages_are_not_an_animation() -> None:
    data = encoded(Image.new("RGB", (8, 8), "red"), "TIFF", save_all=True, append_images=frames(None))
    assert decode(data).pixels.getpixel((4, 4)) == (255, 0, 0)


def with_chunk(data: bytes, *parts: bytes, before: bytes = b"IDAT") -> bytes:
    at = data.index(before) - 4
    return data[:at] + b"".join(parts) + data[at:]


def jpeg_with(data: bytes, marker: int, content: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]


@pytest.mark.skipif("AVIF" not in formats(), reason="this Pillow has no AVIF")
def test_an_avif_with_damaged_pixels_is_broken(noise: Noise) -> None:
    data = encoded(noise(64, 64), "AVIF")
    pixels = data.index(b"mdat") + 4
    with pytest.raises(ImageError) as caught:
        decode(data[:pixels] + b"\xff" * (len(data) - pixels))
    assert caught.value.reason == "broken"


# Pillow cannot write these fields again: a resolution as text or bytes, and an invalid pointer to another IFD.
@pytest.mark.parametrize(("tag", "kind"), [(282, 1), (282, 2), (40965, 1), (40965, 6), (40965, 11)])
@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "PNG"])
def test_exif_field_of_the_wrong_type_is_ignored(noise: Noise, image_format: str, tag: int, kind: int) -> None:
    fields = struct.pack("<HHIHH", 274, 3, 1, 6, 0), struct.pack("<HHI4s", tag, kind, 1, b"\xff\0\xff\xff")
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + b"".join(fields) + bytes(4)
    picture = decode(encoded(noise(60, 40), image_format, exif=block))
    assert (picture.pixels.size, picture.width, picture.height) == ((40, 60), 40, 60)


BAD_SUM = b"\0\0\0\4tIME1234abcd"
LONG = zlib.compress(bytes(2_000_000))
# Defects that browsers tolerate, each as a change to a valid file.
TOLERATED_DEFECTS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "PNG text of 2 MB": ("PNG", lambda d: with_chunk(d, chunk(b"zTXt", b"workflow\0\0" + LONG))),
    "PNG international text": ("PNG", lambda d: with_chunk(d, chunk(b"iTXt", b"prompt\0\1\0\0\0" + LONG))),
    "PNG text after the pixels": ("PNG", lambda d: with_chunk(d, chunk(b"zTXt", b"w\0\0" + LONG), before=b"IEND")),
    "PNG 100 texts": ("PNG", lambda d: with_chunk(d, *[chunk(b"zTXt", b"w\0\0" + zlib.compress(bytes(10**6)))] * 100)),
    "PNG profile of 2 MB": ("PNG", lambda d: with_chunk(d, chunk(b"iCCP", b"p\0\0" + LONG))),
    "PNG broken profile": ("PNG", lambda d: with_chunk(d, chunk(b"iCCP", b"p\0\0rubbish"))),
    "PNG profile without a name": ("PNG", lambda d: with_chunk(d, chunk(b"iCCP", b""))),
    "PNG broken text": ("PNG", lambda d: with_chunk(d, chunk(b"zTXt", b"c\0\0rubbish"))),
    "PNG empty text": ("PNG", lambda d: with_chunk(d, chunk(b"tEXt", b""), chunk(b"iTXt", b""), chunk(b"zTXt", b""))),
    "PNG bad checksum of a text": ("PNG", lambda d: with_chunk(d, BAD_SUM)),
    "PNG bad checksum after the pixels": ("PNG", lambda d: with_chunk(d, BAD_SUM, before=b"IEND")),
    "PNG short resolution": ("PNG", lambda d: with_chunk(d, chunk(b"pHYs", b"\0"))),
    "PNG short gamma": ("PNG", lambda d: with_chunk(d, chunk(b"gAMA", b""), chunk(b"cHRM", b"\0"))),
    "PNG short rendering intent": ("PNG", lambda d: with_chunk(d, chunk(b"sRGB", b""))),
    "PNG short animation": ("PNG", lambda d: with_chunk(d, chunk(b"acTL", b"\0"))),
    "PNG animation of no frames": ("PNG", lambda d: with_chunk(d, chunk(b"acTL", bytes(8)))),
    "PNG frame without animation": ("PNG", lambda d: with_chunk(d, chunk(b"fcTL", bytes(26)))),
    "PNG broken EXIF": ("PNG", lambda d: with_chunk(d, chunk(b"eXIf", b"rubbish"))),
    "PNG unknown chunk": ("PNG", lambda d: with_chunk(d, chunk(b"prVt", b"x" * 100_000))),
    "PNG without IEND": ("PNG", lambda d: d[: d.index(b"IEND") - 4]),
    "PNG with half of IEND": ("PNG", lambda d: d[: d.index(b"IEND") + 2]),
    "PNG trailing bytes": ("PNG", lambda d: d + b"rubbish" * 1_000),
    "JPEG without EOI": ("JPEG", lambda d: d[:-2]),
    "JPEG with half of EOI": ("JPEG", lambda d: d[:-1]),
    "JPEG trailing bytes": ("JPEG", lambda d: d + b"rubbish" * 1_000),
    "JPEG broken EXIF": ("JPEG", lambda d: jpeg_with(d, 0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")),
    "JPEG empty EXIF": ("JPEG", lambda d: jpeg_with(d, 0xE1, b"Exif\0\0")),
    "JPEG broken XMP": ("JPEG", lambda d: jpeg_with(d, 0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmp")),
    "JPEG broken Photoshop": ("JPEG", lambda d: jpeg_with(d, 0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\4ab")),
    "JPEG broken profile": ("JPEG", lambda d: jpeg_with(d, 0xE2, b"ICC_PROFILE\0\1\1rubbish")),
    "JPEG incomplete profile": ("JPEG", lambda d: jpeg_with(d, 0xE2, b"ICC_PROFILE\0\1\2rubbish")),
    "JPEG profile without a number": ("JPEG", lambda d: jpeg_with(d, 0xE2, b"ICC_PROFILE\0")),
    "JPEG broken MPF": ("JPEG", lambda d: jpeg_with(d, 0xE2, b"MPF\0II*\0rubbish")),
    "JPEG empty MPF": ("JPEG", lambda d: jpeg_with(d, 0xE2, b"MPF\0")),
    "JPEG short Adobe": ("JPEG", lambda d: jpeg_with(d, 0xEE, b"Adobe")),
    "JPEG short JFIF": ("JPEG", lambda d: jpeg_with(d, 0xE0, b"JFIF")),
    "GIF without trailer": ("GIF", lambda d: d[:-1]),
    "GIF trailing bytes": ("GIF", lambda d: d + b"rubbish"),
    "WebP broken EXIF": ("WEBP", lambda d: webp_with(d, b"EXIF", b"rubbish!")),
    "WebP broken profile": ("WEBP", lambda d: webp_with(d, b"ICCP", b"rubbish!")),
    "WebP trailing bytes": ("WEBP", lambda d: d + b"rubbish!"),
}


def webp_with(data: bytes, kind: bytes, content: bytes) -> bytes:
    extended = struct.pack("<4sIB3x", b"VP8X", 10, {b"EXIF": 8, b"ICCP": 32}[kind]) + bytes([39, 0, 0, 29, 0, 0])
    part, pixels = struct.pack("<4sI", kind, len(content)) + content, data[12:]
    body = extended + (part + pixels if kind == b"ICCP" else pixels + part)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


@pytest.mark.parametrize("kind", TOLERATED_DEFECTS)
def test_tolerated_defect_does_not_change_the_pixels(noise: Noise, kind: str) -> None:
    image_format, change = TOLERATED_DEFECTS[kind]
    whole = encoded(noise(40, 30), image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    np.testing.assert_array_equal(np.asarray(decode(change(whole)).pixels), np.asarray(decode(whole).pixels))


def test_png_keeps_orientation_and_profile_despite_an_oversized_text(noise: Noise) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif, "icc_profile": icc_profile("Display P3")}
    whole = encoded(noise(40, 30), "PNG", **options)
    picture = decode(with_chunk(whole, chunk(b"zTXt", b"workflow\0\0" + LONG)))
    assert picture.pixels.size == (30, 40)
    np.testing.assert_array_equal(np.asarray(picture.pixels), np.asarray(decode(whole).pixels))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_without_end_marker_decodes_only_if_its_pixels_are_complete(
    noise: Noise, mode: str, options: dict[str, object]
) -> None:
    whole = encoded(noise(120, 90).convert(mode), "JPEG", **options)
    for near in (0, 30):
        expected = np.asarray(decode(whole, near).pixels)
        np.testing.assert_array_equal(np.asarray(decode(whole[:-2], near).pixels), expected)
        for missing in (8, 200, len(whole) // 3):
            with pytest.raises(ImageError) as caught:
                decode(whole[:-missing], near)
            assert caught.value.reason == "truncated"


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


def test_large_jpeg_decodes_at_reduced_size_and_reports_the_full_size(noise: Noise) -> None:
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
def test_arbitrary_bytes_decode_or_raise_image_error(cut: int, at: int, byte: int, kind: str) -> None:
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


def test_open_file_decodes_like_its_content(noise: Noise, tmp_path: Path) -> None:
    data = encoded(noise(40, 30), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    with (tmp_path / "a.png").open("rb") as file:
        assert np.array_equal(np.asarray(decode(file).pixels), np.asarray(decode(data).pixels))


def test_admission_gets_the_required_memory(noise: Noise) -> None:
    announced: list[int] = []
    decode(encoded(noise(40, 30), "PNG"), admission=announced.append)
    decode(encoded(noise(2000, 1500), "JPEG"), near=448, admission=announced.append)
    assert announced == [8 * 1200, 8 * 1000 * 750]


def test_large_sixteen_bit_grey_keeps_its_range() -> None:
    levels = np.linspace(0, 65535, 700 * 4).astype(np.uint16).reshape(700, 4)
    decoded = np.asarray(decode(encoded(Image.fromarray(levels), "PNG")).pixels)[..., 0]
    np.testing.assert_allclose(decoded, levels / 257.0, atol=1)


@pytest.mark.parametrize(("name", "brand"), [("HEIF", b"heic"), ("HEIF", b"mif1"), ("AVIF", b"avif")])
def test_missing_plugin_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch, name: str, brand: bytes) -> None:
    monkeypatch.setattr("sceneseek.picture.formats", lambda: ("JPEG", "PNG"))
    with pytest.raises(ImageError, match=r"HEIC needs the package pillow-heif|AVIF cannot be decoded here") as caught:
        decode(struct.pack(">I", 24) + b"ftyp" + brand + bytes(40))
    assert caught.value.reason == "no-plugin"


@pytest.mark.skipif("AVIF" not in formats(), reason="this Pillow has no AVIF")
def test_avif_decodes(noise: Noise) -> None:
    picture = decode(encoded(noise(40, 30), "AVIF"))
    assert (picture.pixels.mode, picture.pixels.size, picture.format) == ("RGB", (40, 30), "AVIF")


@pytest.mark.skipif("HEIF" not in formats(), reason="pillow-heif is not installed")
def test_heic_decodes_and_raises_if_truncated(noise: Noise) -> None:
    data = encoded(noise(64, 48), "HEIF")
    picture = decode(data)
    assert (picture.pixels.mode, picture.pixels.size, picture.format) == ("RGB", (64, 48), "HEIF")
    with pytest.raises(ImageError):
        decode(data[: len(data) // 2])


def test_extensions_match_the_available_decoders() -> None:
    assert {".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff"} <= extensions()
    assert not extensions() & lacking_plugins().keys()
    assert {".heic", ".avif"} <= extensions() | lacking_plugins().keys()
