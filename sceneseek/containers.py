"""The containers of JPEG, PNG, GIF and TIFF: counts parts before Pillow reads them, and removes broken metadata.

A part is a JPEG segment, a PNG chunk, a GIF block or a value of a TIFF field. Pillow reads all metadata of a file into
memory, and libjpeg processes the whole picture in each scan. So a small file with very many parts can cost seconds and
gigabytes. The functions here read only the sizes of parts.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from sceneseek.errors import ImageError

# The default limit of decoded pixels. A JPEG may be decoded at a fraction of its size, which counts.
MAX_PIXELS = 64_000_000
# The limit of file sizes; some decoders hold a file in memory twice.
MAX_BYTES = 256_000_000

# File extensions of camera raw formats.
RAW_EXTENSIONS = tuple(
    f".{extension}"
    for extension in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr", "iiq", "kdc", "mef", "mos", "mrw"),
        *("nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
    )
)
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")

# The JPEG of a camera has some 20 segments before its pixels, and up to 255 for a profile; a PNG one chunk per 8 KB.
_MAX_JPEG_PARTS = 4_096
_MAX_PNG_PARTS = 500_000
# The profile or comment of a GIF has one block per 255 bytes.
_MAX_GIF_PARTS = 65_536
# The strips or tiles of a TIFF: 65,535 strips of one row, or 64 million pixels in tiles of 16 x 16.
_MAX_TIFF_PARTS = 262_144
# Width and length, of the picture and of a tile, and the fields with a value per strip, tile, level or sample: bits,
# offsets and lengths of strips, colours, offsets and lengths of tiles, extra samples, formats.
_TIFF_LAYOUT = frozenset({256, 257, 322, 323, 258, 273, 279, 320, 324, 325, 338, 339})
_TIFF_SHORT = 3
# The pixels of a tile that are always allowed; libtiff decodes whole tiles.
_MAX_TILE = 4_194_304
# The largest uncompressed profile in bytes: Pillow's limit for a PNG chunk.
_MAX_UNPACKED = 2**20

# Markers of JPEG without a length: start, end, restarts, and reserved ones.
_BARE = frozenset({0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_SCAN, _END = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The end of the coded pixels of a scan: any marker except a restart.
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")


def check_parts(file: BinaryIO) -> None:
    """Reject a PNG, GIF or TIFF with more or larger parts than real programs write; rewinds the file.

    Raises:
        ImageError: it has too many parts, or tiles that are much larger than the picture.
    """
    start = file.read(8)
    counted, most = 0, _MAX_TIFF_PARTS
    if start == PNG:
        counted, most = _png_parts(file), _MAX_PNG_PARTS
    elif start[:6] in {b"GIF87a", b"GIF89a"}:
        counted, most = _gif_parts(file), _MAX_GIF_PARTS
    elif start[:4] in _TIFF:
        fields = _tiff_fields(file, start)
        counted = max((count for count, _ in fields.values()), default=0)
        width, height, across, down = (fields.get(tag, (0, 0))[1] for tag in (256, 257, 322, 323))
        if across * down > max(_MAX_TILE, 4 * width * height):
            raise ImageError("too-large", f"its tiles have {across} x {down} pixels", "save it again")
    file.seek(0)
    if counted > most:
        raise ImageError("too-large", f"over {most:,} parts", "save it again")


def _png_parts(file: BinaryIO) -> int:
    parts = 0
    while parts <= _MAX_PNG_PARTS and len(head := file.read(8)) == 8:
        parts += 1
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return parts


def _gif_parts(file: BinaryIO) -> int:
    """Count extensions, their blocks, and stray bytes before the first image, all of which Pillow keeps in memory."""
    file.seek(10)
    flags = (file.read(1) or b"\0")[0]
    file.seek(13 + (3 << (flags & 7) + 1 if flags & 128 else 0))
    parts = 0
    while parts <= _MAX_GIF_PARTS and (kind := file.read(1)) not in {b",", b";", b""}:
        parts += 1
        if kind == b"!":
            file.seek(1, 1)
            while parts <= _MAX_GIF_PARTS and (length := file.read(1)) not in {b"\0", b""}:
                parts += 1
                file.seek(length[0], 1)
    return parts


def _tiff_fields(file: BinaryIO, start: bytes) -> dict[int, tuple[int, int]]:
    """The fields of the first directory that define the layout of the pixels: count and first value, by tag.

    The value is correct only if it is an integer that is stored in the directory itself.
    """
    order: Literal["little", "big"] = "little" if start[:2] == b"II" else "big"
    big = start[2:4] in {b"+\0", b"\0+"}
    word, counting, entry = (8, 8, 20) if big else (4, 2, 12)
    file.seek(word)
    file.seek(min(int.from_bytes(file.read(word), order), 2**62))
    directory = file.read(entry * min(int.from_bytes(file.read(counting), order), 65_535))
    fields = {}
    for at in range(0, len(directory) - entry + 1, entry):
        tag, kind, count, value = (
            int.from_bytes(directory[at + first : at + last], order)
            for first, last in ((0, 2), (2, 4), (4, 4 + word), (4 + word, 4 + 2 * word))
        )
        if tag in _TIFF_LAYOUT:
            # A 16-bit value is in the first two bytes.
            short = int.from_bytes(directory[at + 4 + word : at + 6 + word], order)
            fields[tag] = (count, short if kind == _TIFF_SHORT else value)
    return fields


@dataclass(frozen=True, slots=True)
class JpegScans:
    """The scans of a JPEG, each of which processes the whole picture, and the memory between them.

    Attributes:
        count: the number of scans.
        held: coefficients per pixel in memory, of 2 bytes each; 0 for a single scan.
    """

    count: int
    held: int


def jpeg_scans(file: BinaryIO) -> JpegScans:
    """Count the scans of a JPEG; rewinds the file.

    Raises:
        ImageError: it has more segments before its pixels than real programs write.
    """
    found, components, progressive = JpegScans(1, 0), 0, False
    for marker, start, _ in _jpeg_parts(file):
        file.seek(start + 4)
        if marker in _FRAMES:
            components, progressive = file.read(6)[-1], marker in {0xC2, 0xC6, 0xCA, 0xCE}
        elif marker == _SCAN and (progressive or file.read(1)[0] < components):
            found = JpegScans(_count_scans(file, start), components)
    file.seek(0)
    return found


def _jpeg_parts(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the segments of a JPEG, up to and including the header of the first scan.

    Raises:
        ImageError: there are more than real programs write.
    """
    position = 2
    for _ in range(_MAX_JPEG_PARTS):
        file.seek(position)
        head = file.read(10)
        if len(head) < 10:
            return
        if head[0] != 0xFF or head[1] in {0x00, 0xFF}:
            position += 1
        elif head[1] in _BARE and head[1] != _SCAN:
            position += 2
        else:
            start, position = position, position + 2 + int.from_bytes(head[2:4], "big")
            yield head[1], start, position
            if head[1] == _SCAN:
                return
    raise ImageError("too-large", f"over {_MAX_JPEG_PARTS:,} segments before its pixels", "save it again")


def _count_scans(file: BinaryIO, position: int) -> int:
    file.seek(position)
    data, at, scans = file.read(), 0, 0
    while found := _MARKER.search(data, at):
        at, marker = found.end(), found[1][0]
        if marker == _END:
            break
        scans += marker == _SCAN
        if marker not in _BARE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return scans


def bare_jpeg(data: bytes) -> bytes:
    """Remove the metadata of a JPEG, except for its EXIF block, colour profile and colour transform."""
    kept, end = [data[:2]], 2
    for marker, start, end in _jpeg_parts(io.BytesIO(data)):
        part = data[start:end]
        if (
            not (0xE0 <= marker <= 0xEF or marker == 0xFE)
            or (marker == 0xE1 and part[4:10] == b"Exif\0\0")
            or (marker == 0xE2 and part[4:16] == b"ICC_PROFILE\0" and len(part) > 18)
            or (marker == 0xEE and part[4:9] == b"Adobe" and len(part) >= 16)
        ):
            kept.append(part)
    return b"".join([*kept, data[end:]])


def bare_png(data: bytes) -> bytes:
    """Remove the chunks of a PNG that browsers ignore, and all frames but the first.

    Removed are texts, animations, profiles of over 1 MiB, and damaged chunks that are not pixels.
    """
    kept, position = [data[:8]], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        body = data[position + 8 : end - 4]
        whole = data[end - 4 : end] == zlib.crc32(kind + body).to_bytes(4, "big")
        if (
            kind in {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
            or (whole and kind in {b"tRNS", b"eXIf"})
            or (whole and kind == b"iCCP" and _unpacks(body))
        ):
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _unpacks(profile: bytes) -> bool:
    """Whether the profile of an iCCP chunk can be decompressed, and is not too large."""
    try:
        unpacker = zlib.decompressobj()
        unpacker.decompress(profile.partition(b"\0")[2][1:], _MAX_UNPACKED)
    except zlib.error:
        return False
    return unpacker.eof
