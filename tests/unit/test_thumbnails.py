"""Thumbnails are small JPEGs without metadata, drawn once and kept in a bounded cache."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, features

from sceneseek.errors import DeadlinePassed
from sceneseek_server.image_files import Decoders, Thumbnails, draw_thumbnail
from tests.drawing import icc_profile
from tests.hostile import chunk, encoded

SECRET = b"52.3676N 4.9041E, taken by Ada"
# The markers that a JPEG needs: start, quantization, frame, Huffman tables, scan and end; JFIF is checked separately.
NEEDED = {0xD8, 0xDB, 0xC0, 0xC4, 0xDA, 0xD9}


def segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and content of each segment before the scan."""
    at = 2
    while jpeg[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", jpeg, at + 2)
        yield jpeg[at + 1], jpeg[at + 4 : at + 2 + length]
        at += 2 + length


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.ImageDescription] = tags[ExifTags.Base.Artist] = SECRET.decode()
    tags[ExifTags.Base.Orientation] = 6
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSDateStamp] = SECRET.decode()
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = SECRET
    return tags


def png_texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SECRET.decode())
    info.add_text("parameters", SECRET.decode(), zip=True)
    info.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    info.add(b"prVt", SECRET)
    info.add(b"prVt", SECRET, after_idat=True)
    return info


def tiff_tags() -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (270, 305, 315, 33432, 37510):  # description, software, artist, copyright, comment
        tags[tag] = SECRET.decode()
    tags[700] = SECRET  # XMP
    return tags


def jpeg_with(marker: int, content: bytes) -> bytes:
    whole = encoded(PICTURE, "JPEG")
    return whole[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + whole[2:]


PICTURE = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
PROFILE = icc_profile("Display P3")
KINDS: dict[str, Callable[[], bytes]] = {
    "JPEG comment": lambda: encoded(PICTURE, "JPEG", comment=SECRET),
    "JPEG long comment": lambda: encoded(PICTURE, "JPEG", comment=SECRET * 2_000),
    "JPEG EXIF": lambda: encoded(PICTURE, "JPEG", exif=exif()),
    "JPEG XMP": lambda: encoded(PICTURE, "JPEG", xmp=SECRET),
    "JPEG profile": lambda: encoded(PICTURE, "JPEG", icc_profile=PROFILE),
    "JPEG broken profile": lambda: encoded(PICTURE, "JPEG", icc_profile=SECRET),
    "JPEG resolution": lambda: encoded(PICTURE, "JPEG", dpi=(300, 300)),
    **{f"JPEG APP{n}": partial(jpeg_with, 0xE0 + n, SECRET) for n in range(16)},
    "JPEG FlashPix": lambda: jpeg_with(0xE2, b"FPXR\0" + SECRET),
    "JPEG Photoshop": lambda: jpeg_with(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0" + struct.pack(">I", 30) + SECRET),
    "JPEG multi-picture": lambda: encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE], exif=exif()),
    "JPEG trailing bytes": lambda: encoded(PICTURE, "JPEG") + SECRET,
    "JPEG without EOI": lambda: encoded(PICTURE, "JPEG", comment=SECRET)[:-2],
    "PNG texts": lambda: encoded(PICTURE, "PNG", pnginfo=png_texts()),
    "PNG EXIF": lambda: encoded(PICTURE, "PNG", exif=exif()),
    "PNG profile": lambda: encoded(PICTURE, "PNG", icc_profile=PROFILE),
    "PNG resolution": lambda: encoded(PICTURE, "PNG", dpi=(300, 300)),
    "PNG long text": lambda: with_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(SECRET * 100_000)),
    "PNG raw EXIF": lambda: with_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      30\n" + SECRET.hex().encode()),
    "GIF comment": lambda: encoded(PICTURE, "GIF", comment=SECRET),
    "GIF comment of over 64 KB": lambda: encoded(PICTURE, "GIF", comment=SECRET * 4_000),
    "GIF animation": lambda: encoded(
        PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)], comment=SECRET, loop=3
    ),
    "WebP EXIF": lambda: encoded(PICTURE, "WEBP", exif=exif()),
    "WebP XMP": lambda: encoded(PICTURE, "WEBP", xmp=SECRET),
    "WebP profile": lambda: encoded(PICTURE, "WEBP", icc_profile=PROFILE),
    "TIFF tags": lambda: encoded(PICTURE, "TIFF", tiffinfo=tiff_tags()),
    "TIFF profile": lambda: encoded(PICTURE, "TIFF", icc_profile=PROFILE),
    "BMP resolution": lambda: encoded(PICTURE, "BMP", dpi=(300, 300)),
    "transparent": lambda: encoded(Image.new("RGBA", (40, 30)), "PNG", pnginfo=png_texts()),
}
if features.check("avif"):
    KINDS["AVIF"] = lambda: encoded(PICTURE, "AVIF", exif=exif(), xmp=SECRET, icc_profile=PROFILE)


def with_chunk(kind: bytes, content: bytes) -> bytes:
    whole = encoded(PICTURE, "PNG")
    return whole[:33] + chunk(kind, content) + whole[33:]


@pytest.mark.parametrize("kind", KINDS)
def test_thumbnail_contains_no_metadata(kind: str) -> None:
    thumbnail = draw_thumbnail(KINDS[kind]())
    for marker, content in segments(thumbnail):
        if marker == 0xE0:
            assert content == b"JFIF\0\1\1\0\0\1\0\1\0\0"
        else:
            assert marker in NEEDED, f"{marker:x}: {content[:40]!r}"
    assert thumbnail.endswith(b"\xff\xd9")
    for word in (b"Ada", b"52.3676", b"lcms", b"acsp"):
        assert word not in thumbnail


def test_thumbnail_is_drawn_once_and_the_cache_is_bounded() -> None:
    data = encoded(Image.new("RGB", (50, 50)), "PNG")
    drawn: list[bool] = []
    thumbnails = Thumbnails(max_bytes=2 * len(draw_thumbnail(data)), on_sent=drawn.append)
    for tag in "aabab":
        thumbnails.get(tag, io.BytesIO(data))
    assert drawn == [True, False, True, False, False]
    drawn.clear()
    for tag in "cba":  # c evicts a, the least recently used; then a evicts c
        thumbnails.get(tag, io.BytesIO(data))
    assert drawn == [True, False, True]


def test_picture_decoding_waits_until_deadline() -> None:
    decoders = Decoders(at_once=1)
    with decoders.slot(None), pytest.raises(DeadlinePassed), decoders.slot(time.monotonic() + 0.01):
        pytest.fail("two pictures are decoded concurrently")
    with pytest.raises(DeadlinePassed), decoders.slot(time.monotonic() - 1):
        pytest.fail("the deadline has passed")
    with decoders.slot(time.monotonic() + 60):
        pass
