"""What pictures cost that were made to cost much: memory and time of each, on each way that a picture takes.

    python -m benchmarks.hostile

Every sample is decoded in a process of its own: as the indexer loads a file, as the service reads an upload, and as it
draws a thumbnail. The peak is what the process has taken beyond what it had before the picture (VmHWM), the time that
of the processor. The command fails if one sample is over a bound. Samples are made by code, and named after what is odd
about them.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
from PIL import Image, features

MAX_MEGABYTES, MAX_SECONDS = 1_200, 10.0
_SIDE = 7_990
_WAYS = ("index", "upload", "thumbnail")

_CHILD = """
import json, sys, time
from pathlib import Path
from sceneseek.bundle import ImageInput
from sceneseek.errors import ImageError
from sceneseek.picture import decode, reduced
from sceneseek.preprocess import enough_pixels, prepare
from sceneseek_indexer.load import load
from sceneseek_indexer.walk import ImageFile, Skipped, list_images
from sceneseek_server.image_files import draw_thumbnail

path, way = Path(sys.argv[1]), sys.argv[2]
fits = {"fit": "squash", "fit_transparent": "letterbox"}
inputs = (ImageInput(name="x", height=260, width=260, mean=(0,) * 3, std=(1,) * 3, **fits),)

def kilobytes(name):
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name + ":"))

(file,) = list_images(path).files
before, start = kilobytes("VmRSS"), time.process_time()
try:
    if way == "index":
        found = load(file, inputs)
        outcome = found.reason if isinstance(found, Skipped) else "read"
    else:
        data = (file.folder / file.relative).read_bytes()
        if way == "thumbnail":
            draw_thumbnail(data)
        else:
            near = enough_pixels(inputs)
            prepare(reduced(decode(data, near), near), inputs)
        outcome = "read"
except ImageError as error:
    outcome = error.reason
seconds = time.process_time() - start
print(json.dumps([(kilobytes("VmHWM") - before) * 1024 / 1e6, seconds, outcome]))
"""


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Measure every sample, or those whose names contain one of NAMES."""
    over = []
    for name, content in samples():
        if names and not any(part in name for part in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            data = content()
            (Path(folder) / name).write_bytes(data)
            for way in _WAYS:
                child = [sys.executable, "-c", _CHILD, folder, way]
                done = subprocess.run(child, stdout=subprocess.PIPE, check=True)
                megabytes, seconds, outcome = json.loads(done.stdout)
                print(
                    f"{name:34} {len(data) / 1e6:7.1f} MB  {way:9} {megabytes:7.0f} MB {seconds:6.1f} s  {outcome}",
                    flush=True,
                )
                if megabytes > MAX_MEGABYTES or seconds > MAX_SECONDS:
                    over.append(f"{name} ({way})")
    if over:
        raise click.ClickException(f"over {MAX_MEGABYTES:,} MB or {MAX_SECONDS:.0f} s: {', '.join(over)}")


Sample = tuple[str, Callable[[], bytes]]


def samples() -> Iterator[Sample]:
    """Each sample's name and what makes it."""
    for width, height in ((64_000_000, 1), (1, 64_000_000), (65_535, 976), (976, 65_535)):
        yield f"slim {width} x {height}.png", partial(_png, width, height)
    yield "slim.bmp", partial(_drawn, "L", (65_535, 976), "BMP")
    yield "slim.tiff", partial(_drawn, "L", (976, 65_535), "TIFF", compression="tiff_lzw")
    yield from _largest()
    yield from _jpegs()
    yield from _parts()


def _largest() -> Iterator[Sample]:
    """Pictures of 64 million pixels in every format and mode."""
    one_strip = {"compression": "tiff_lzw", "tiffinfo": {278: _SIDE}}
    saves: list[tuple[str, str, dict[str, Any]]] = [
        *[("PNG", mode, {"compress_level": 1}) for mode in ("RGB", "RGBA", "LA", "I;16")],
        ("PNG", "P", {"compress_level": 1, "transparency": 0}),
        ("WEBP", "RGB", {"method": 0}),
        ("WEBP", "RGBA", {"method": 0, "lossless": True}),
        ("GIF", "P", {"transparency": 0}),
        ("BMP", "RGB", {}),
        *[("TIFF", mode, one_strip) for mode in ("RGB", "CMYK", "F")],
        ("TIFF", "RGBA", {"compression": "tiff_lzw", "tiffinfo": {274: 6}}),
    ]
    if features.check("avif"):
        saves += [("AVIF", "RGB", {"speed": 10, "subsampling": "4:4:4"}), ("AVIF", "RGBA", {"speed": 10})]
    for image_format, mode, options in saves:
        name = f"{mode.replace(';', '')}.{image_format.lower()}"
        yield name, partial(_drawn, mode, (_SIDE, _SIDE), image_format, **options)
    frames = [Image.new("L", (_SIDE, _SIDE), level) for level in range(4)]
    for image_format, options in (("GIF", {}), ("WEBP", {"method": 0})):
        animation = partial(_encoded, frames[0], image_format, save_all=True, append_images=frames[1:], **options)
        yield f"blank frames.{image_format.lower()}", animation


def _jpegs() -> Iterator[Sample]:
    for side in (8_000, 20_000, 32_000, 65_500):
        yield f"grey {side}.jpg", partial(_grey_jpeg, side)
    progressive = partial(_drawn, "RGB", format="JPEG", progressive=True, subsampling=0)
    yield "progressive.jpg", partial(progressive, (12_000, 12_000))
    yield "progressive, forged.jpg", lambda: _forged(progressive((64, 64)), 65_000)
    for side in (500, 8_000):
        yield f"2000 scans of {side}.jpg", partial(_many_scans, side, 2_000)
    head = _drawn("L", (64, 64), "JPEG")
    yield "comments.jpg", lambda: head[:2] + b"\xff\xfe\0\3x" * 3_000_000 + head[2:]
    yield "exif.jpg", lambda: head[:2] + b"\xff\xe1\0\x0cExif\0\0MM\0*" * 1_000_000 + head[2:]
    yield "rubbish.jpg", lambda: head[:4] + b"\0\4ab" + bytes(20_000_000) + head[2:]


def _parts() -> Iterator[Sample]:
    yield "texts.png", lambda: _png(30, 30, [_chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(10**6)))] * 80)
    yield "chunks.png", lambda: _png(30, 30, [_chunk(b"abCd", b"")] * 1_300_000)
    yield "profile.png", lambda: _png(30, 30, [_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(10**8)))])
    gif = _drawn("L", (30, 30), "GIF")
    at = gif.index(b",\0\0\0\0")
    yield "comments.gif", lambda: gif[:at] + b"!\xfe\1x\0" * 3_200_000 + gif[at:]
    yield "strips.tiff", partial(_tiff, 1_000, 1_000, strips=4_000_000)
    yield "strip of all.tiff", partial(_tiff, 64, 2**31 - 1, strips=1)
    yield "tile.tiff", partial(_tiff, 64, 64, tile=40_000)
    if features.check("avif"):
        yield "forged.avif", _forged_avif


def _drawn(mode: str, size: tuple[int, int], format: str, **options: Any) -> bytes:  # noqa: A002 - Pillow's name
    """Of one colour."""
    return _encoded(Image.new(mode, size), format, **options)


def _encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, chunks: list[bytes] | None = None) -> bytes:
    """Black."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(bytes((width + 1) * height)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks or []) + pixels + _chunk(b"IEND", b"")


def _grey_jpeg(side: int) -> bytes:
    """Grey of one level: each block is the six bits 001010 of Pillow's tables."""
    head = _drawn("L", (8, 8), "JPEG")
    scan = head.index(b"\xff\xda") + 10
    blocks = (-(-side // 8)) ** 2
    return _forged(head[:scan], side) + b"\x28\xa2\x8a" * (-(-blocks // 4)) + b"\xff\xd9"


def _forged(data: bytes, side: int) -> bytes:
    """The JPEG with other numbers in its header."""
    frame = next(data.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in data) + 5
    return data[:frame] + struct.pack(">HH", side, side) + data[frame + 4 :]


def _many_scans(side: int, count: int) -> bytes:
    data = _drawn("L", (side, side), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def _tiff(width: int, height: int, strips: int = 0, tile: int = 0) -> bytes:
    """A grey TIFF without its pixels; tiles are packed, strips are not."""
    tags = [(256, 1, width), (257, 1, height), (258, 1, 8), (259, 1, 8 if tile else 1), (262, 1, 1)]
    at = 8 + 2 + 12 * (9 if tile else 8) + 4
    if tile:
        packed = zlib.compress(bytes(tile * tile))
        tags += [(322, 1, tile), (323, 1, tile), (324, 1, at), (325, 1, len(packed))]
        body = packed
    else:
        tags += [(273, strips, at), (278, 1, 1 if strips > 1 else height), (279, strips, at)]
        body = struct.pack("<I", 8) * strips
        if strips == 1:
            tags[5], tags[7] = (273, 1, 8), (279, 1, 8)
    entries = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + body


def _forged_avif() -> bytes:
    """A frame of 64 million pixels in a file that says it is small."""
    size = b"ispe" + bytes(4)
    data = _drawn("RGB", (_SIDE, _SIDE), "AVIF", speed=10)
    return data.replace(size + struct.pack(">II", _SIDE, _SIDE), size + struct.pack(">II", 64, 64))


if __name__ == "__main__":
    main()
