"""A generated folder of files that are known to break indexers; no file is copied from elsewhere.

Each file name maps to the expected outcome: the reason for skipping it, or None if it is a valid image that must be
indexed.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, features

from sceneseek.picture import formats

Kinds = dict[str, str | None]
_MEGAPIXEL = 1_000_000


def build_hostile(folder: Path) -> Kinds:
    """Write all files below a folder, and a secret beside it; returns the expected outcome by name."""
    kinds: Kinds = {}

    def put(name: str, content: bytes, outcome: str | None) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        kinds[name] = outcome

    folder.mkdir(parents=True, exist_ok=True)
    for build in (_truncated, _not_images, _forged, _bombs, _odd_pictures, _large_pictures, _odd_names):
        build(put)
    kinds |= _special_files(folder)
    return kinds


Put = Callable[[str, bytes, str | None], None]


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG of these chunks after an arbitrary header."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def gif_with(data: bytes, part: bytes) -> bytes:
    """Return a GIF with `part` inserted after its palette."""
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0)
    return data[:at] + part + data[at:]


def tiff(width: int, height: int, next_ifd: int = 0, first_ifd: int = 8, strip_at: int = 8) -> bytes:
    """Return a TIFF of one directory with arbitrary values."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, strip_at), (278, height), (279, width)]
    return tiff_of([(tag, 1, value) for tag, value in tags], next_ifd, first_ifd)


def tiff_of(tags: list[tuple[int, int, int]], next_ifd: int = 0, first_ifd: int = 8) -> bytes:
    """Return a TIFF of one directory of these tags: number, count, and value or offset."""
    entries = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags)
    return struct.pack("<2sHIH", b"II", 42, first_ifd, len(tags)) + entries + struct.pack("<I", next_ifd)


def _truncated(put: Put) -> None:
    for name, image_format, outcome in [
        ("jpg", "JPEG", "truncated"),
        ("png", "PNG", "truncated"),
        ("webp", "WEBP", "broken"),
        ("gif", "GIF", "truncated"),
        ("bmp", "BMP", "truncated"),
        ("tiff", "TIFF", "truncated"),
    ]:
        whole = encoded(picture(200, 150), image_format)
        put(f"cut/half.{name}", whole[: len(whole) // 2], outcome)
    whole = encoded(picture(), "JPEG")
    put("cut/twenty bytes.jpg", whole[:20], "not-an-image")
    put("cut/no end.png", encoded(picture(), "PNG")[:-40], "truncated")
    put("cut/signature.png", b"\x89PNG\r\n\x1a\n", "not-an-image")
    put("cut/empty.jpg", b"", "empty")
    put("cut/begin and end.jpg", b"\xff\xd8\xff\xd9", "not-an-image")
    if features.check("avif"):
        whole = encoded(picture(), "AVIF")
        put("cut/half.avif", whole[: len(whole) // 2], "not-an-image")


def _not_images(put: Put) -> None:
    put("not/text.jpg", b"I am not a picture\n" * 50, "not-an-image")
    put("not/page.png", b"<!doctype html><title>404</title>", "not-an-image")
    put("not/drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not-an-image")
    put("not/document.jpg", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not-an-image")
    put("not/postscript.tif", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not-an-image")
    put("not/zeros.bmp", bytes(4_000), "not-an-image")
    put("not/noise.webp", np.random.default_rng(1).bytes(4_000), "not-an-image")
    put("not/other format.png", encoded(picture(), "PPM"), "not-an-image")
    put("not/icon.gif", encoded(picture(32, 32), "ICO"), "not-an-image")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("inside.png", encoded(picture(), "PNG"))
    put("not/archive.png", out.getvalue(), "not-an-image")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:bz2"):
        pass
    put("not/archive.tiff", out.getvalue(), "not-an-image")
    outcome = "not-an-image" if "HEIF" in formats() else "no-plugin"
    put("not/phone.jpg", struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"heicmif1" + bytes(100), outcome)


def _forged(put: Put) -> None:
    pixels = chunk(b"IDAT", zlib.compress(bytes(1_000)))
    put("forged/no pixels.png", png(30, 30), "broken")
    put("forged/zero width.png", png(0, 30, pixels), "not-an-image")
    put("forged/broken stream.png", png(30, 30, chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 200)), "broken")
    put("forged/too few pixels.png", png(300, 300, pixels), "truncated")
    checksum = bytearray(encoded(picture(), "PNG"))
    checksum[29] ^= 0xFF
    put("forged/checksum.png", bytes(checksum), "not-an-image")
    put("forged/zero width.gif", b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b";", "not-an-image")
    put(
        "forged/broken codes.gif",
        b"GIF89a\x10\0\x10\0\x80\0\0" + b"\0\0\0\xff\xff\xff" + b",\0\0\0\0\x10\0\x10\0\0\x0d\xff",
        "broken",
    )
    size = bytearray(encoded(picture(), "BMP"))
    size[18:26] = struct.pack("<ii", 70_000, 70_000)
    put("forged/size.bmp", bytes(size), "too-large")
    offset = bytearray(encoded(picture(), "BMP"))
    offset[10:14] = struct.pack("<I", 2**31)
    put("forged/offset.bmp", bytes(offset), "truncated")
    header = bytearray(encoded(picture(), "BMP"))
    header[14:18] = struct.pack("<I", 99)
    put("forged/header.bmp", bytes(header), "broken")
    put("forged/loop.tiff", tiff(30, 30, next_ifd=8), "truncated")
    put("forged/beyond.tiff", tiff(30, 30, first_ifd=2**31), "not-an-image")
    put("forged/strip beyond.tiff", tiff(30, 30, strip_at=2**31), "truncated")
    body = bytearray(encoded(picture(), "WEBP"))
    body[24:60] = b"\xff" * 36
    put("forged/body.webp", bytes(body), "broken")
    size = bytearray(encoded(picture(), "WEBP"))
    size[4:8] = struct.pack("<I", 2**31)
    put("forged/size.webp", bytes(size), "broken")


def _bombs(put: Put) -> None:
    pixels = chunk(b"IDAT", zlib.compress(bytes(1_000)))
    put("bomb/pixels.png", png(60_000, 60_000, pixels), "too-large")
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x02\x4c\x01\0;"
    put(
        "bomb/pixels.gif", b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6) + frame, "too-large"
    )
    put("bomb/pixels.tiff", tiff(100_000, 100_000), "too-large")
    jpeg = bytearray(encoded(picture(), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65_500, 65_500)
    put("bomb/pixels.jpg", bytes(jpeg), "too-large")
    vp8x = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_382).to_bytes(3, "little") * 2
    put("bomb/pixels.webp", b"RIFF" + struct.pack("<I", 4 + len(vp8x)) + b"WEBP" + vp8x, "too-large")
    text = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(80 * _MEGAPIXEL)))
    put("bomb/text.png", png(30, 30, text, chunk(b"IDAT", zlib.compress(bytes(30 * 91)))), None)
    texts = [chunk(b"zTXt", b"c%d\0\0" % i + zlib.compress(bytes(_MEGAPIXEL))) for i in range(80)]
    put("bomb/many texts.png", png(30, 30, *texts, chunk(b"IDAT", zlib.compress(bytes(30 * 91)))), None)
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(80 * _MEGAPIXEL)))
    put("bomb/profile.png", png(30, 30, profile, chunk(b"IDAT", zlib.compress(bytes(30 * 91)))), None)
    row = chunk(b"IDAT", zlib.compress(bytes(64 * _MEGAPIXEL + 1)))
    put("bomb/wide.png", png(64 * _MEGAPIXEL, 1, row, colour=0), "too-large")
    column = chunk(b"IDAT", zlib.compress(bytes(128 * _MEGAPIXEL)))
    put("bomb/high.png", png(1, 64 * _MEGAPIXEL, column, colour=0), "too-large")
    put("bomb/chunks.png", png(30, 30, *[chunk(b"abCd", b"")] * 600_000), "too-large")
    whole = encoded(picture(), "GIF")
    put("bomb/comments.gif", gif_with(whole, b"!\xfe\1x\0" * 100_000), "too-large")
    put("bomb/stray.gif", gif_with(whole, bytes(100_000)), "too-large")
    whole = encoded(picture(), "JPEG")
    put("bomb/comments.jpg", whole[:2] + b"\xff\xfe\0\3x" * 100_000 + whole[2:], "too-large")
    scans = encoded(Image.new("L", (8_000, 7_990)), "JPEG", progressive=True)
    last = scans.rindex(b"\xff\xda")
    put("bomb/scans.jpg", scans[:last] + scans[last:-2] * 2_000 + b"\xff\xd9", "too-large")
    put(
        "bomb/held.jpg",
        scans.replace(struct.pack(">HH", 7_990, 8_000), struct.pack(">HH", 65_000, 65_000)),
        "too-large",
    )
    strips = [(256, 1, 30), (257, 1, 30), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, 300_000, 8), (278, 1, 1)]
    put("bomb/strips.tiff", tiff_of(strips) + bytes(1_200_000), "too-large")
    tile = [(256, 1, 64), (257, 1, 64), (258, 1, 8), (259, 1, 8), (262, 1, 1), (322, 1, 40_000), (323, 1, 40_000)]
    put("bomb/tile.tiff", tiff_of([*tile, (324, 1, 8), (325, 1, 8)]), "too-large")


def _odd_pictures(put: Put) -> None:
    image = picture()
    grey = image.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    put("odd/png inside.jpg", encoded(image, "PNG"), None)
    put("odd/broken exif.jpg", encoded(image, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\xff\xff"), None)
    put("odd/one pixel.png", encoded(picture(1, 1), "PNG"), None)
    put("odd/sixteen bits.png", encoded(deep, "PNG"), None)
    put("odd/floating point.tiff", encoded(grey.convert("F"), "TIFF"), None)
    put("odd/four inks.jpg", encoded(image.convert("CMYK"), "JPEG"), None)
    put("odd/progressive.jpg", encoded(image, "JPEG", progressive=True), None)
    put("odd/one bit.tiff", encoded(image.convert("1"), "TIFF"), None)
    put("odd/palette.png", encoded(image.convert("P"), "PNG", transparency=0), None)
    put("odd/moving.gif", encoded(image, "GIF", save_all=True, append_images=[picture(seed=3)]), None)
    put("odd/moving.webp", encoded(image, "WEBP", save_all=True, append_images=[picture(seed=4)]), None)
    put("odd/moving.png", encoded(image, "PNG", save_all=True, append_images=[picture(seed=5)]), None)
    put("odd/trailing rubbish.jpg", encoded(image, "JPEG") + b"rubbish" * 1_000, None)
    put("odd/name in capitals.JPEG", encoded(picture(seed=6), "JPEG"), None)
    if features.check("avif"):
        put("odd/modern.avif", encoded(image, "AVIF"), None)


def _large_pictures(put: Put) -> None:
    put("large/panorama.jpg", encoded(Image.new("RGB", (20_000, 1_500), "navy"), "JPEG"), None)
    huge = Image.new("L", (10_000, 9_000), 90)
    put("large/over the limit.jpg", encoded(huge, "JPEG"), None)
    put("large/over the limit.png", encoded(huge, "PNG", compress_level=1), "too-large")
    put("large/over the limit, progressive.jpg", encoded(huge, "JPEG", progressive=True), None)
    put("large/strip.png", encoded(Image.new("RGB", (65_535, 300), "navy"), "PNG"), None)
    put("large/thread.png", encoded(Image.new("RGB", (1, 20_000), "red"), "PNG"), None)
    clear = Image.new("RGBA", (8_000, 7_900), (200, 30, 30, 128))
    put("large/clear.png", encoded(clear, "PNG", compress_level=1), None)
    put("large/colour.png", encoded(clear.convert("RGB"), "PNG", compress_level=1), None)
    put("large/deep.png", encoded(Image.new("I;16", (8_000, 7_900), 20_000), "PNG", compress_level=1), None)
    put(
        "large/turned.tiff",
        encoded(clear.convert("L").convert("RGB"), "TIFF", compression="tiff_lzw", tiffinfo={274: 6}),
        None,
    )


def _odd_names(put: Put) -> None:
    names = [
        "two words",
        "new\nline",
        "🐶 собака",
        os.fsdecode(b"caf\xe9"),
        "-k",
        "a'b\"c",
        "n" * 240,
        "tab\t",
        "%00",
    ]
    for seed, name in enumerate(names):
        put(f"names/{name}.png", encoded(picture(seed=20 + seed), "PNG"), None)


def _special_files(folder: Path) -> Kinds:
    """Create special files, links that leave the folder, and files too large to read."""
    home = folder / "none"
    home.mkdir()
    os.mkfifo(home / "pipe.jpg")
    listener = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    os.chdir(home)  # the path of a socket has a length limit
    listener.bind("socket.jpg")
    os.chdir(before)
    listener.close()
    (home / "nowhere.jpg").symlink_to(home / "missing.jpg")
    (home / "round.jpg").symlink_to(home / "round.jpg")
    secret = folder.parent / "secret.png"
    picture(seed=99).save(secret)
    (home / "out.png").symlink_to(secret)
    (home / "device.jpg").symlink_to("/dev/zero")
    (home / "folder.jpg").mkdir()
    picture(seed=7).save(home / "folder.jpg" / "inside.png")
    (home / "in.png").symlink_to(home / "folder.jpg" / "inside.png")
    for name, size in (("long.jpg", 250_000_000), ("long.webp", 250_000_000), ("too long.tiff", 260_000_000)):
        (home / name).touch()
        os.truncate(home / name, size)  # sparse, so they use no disk space
    with (home / "long.webp").open("r+b") as file:
        file.write(b"RIFF" + struct.pack("<I", 249_999_992) + b"WEBPVP8 ")
    return {
        "none/pipe.jpg": "not-a-file",
        "none/socket.jpg": "not-a-file",
        "none/nowhere.jpg": "dangling-link",
        "none/round.jpg": "unreadable",
        "none/out.png": "link-out",
        "none/device.jpg": "link-out",
        "none/folder.jpg/inside.png": None,
        "none/in.png": None,
        "none/long.jpg": "not-an-image",
        "none/long.webp": "broken",
        "none/too long.tiff": "too-large",
    }
