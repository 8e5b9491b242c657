"""A generated camera raw file: a DNG with one colour filter array, with or without a preview.

Specification: Digital Negative (DNG) 1.4.0.0.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SRATIONAL = 1, 2, 3, 4, 5, 10
_CODES = {_SHORT: "H", _LONG: "I", _BYTE: "B"}
_Tags = Mapping[int, tuple[int, Any]]
TAKEN = "2020:05:31 10:00:00"


def dng(picture: Image.Image, preview: bytes = b"", orientation: int = 1) -> bytes:
    """Return an image as the raw file of a sensor; `preview` is a JPEG."""
    rgb = np.asarray(picture.convert("RGB"), np.uint16) * 200
    height, width = rgb.shape[:2]
    mosaic = np.zeros((height, width), np.uint16)
    for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[row::2, column::2] = rgb[row::2, column::2, channel]
    camera: _Tags = {
        271: (_ASCII, "Test"),
        272: (_ASCII, "Camera"),
        274: (_SHORT, [orientation]),
        306: (_ASCII, TAKEN),
        50706: (_BYTE, [1, 4, 0, 0]),
        50707: (_BYTE, [1, 1, 0, 0]),
        50708: (_ASCII, "Test Camera"),
        50721: (_SRATIONAL, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
        50728: (_RATIONAL, [1, 1, 1]),
        50778: (_SHORT, [21]),
    }

    def sensor_tags(data: int) -> _Tags:
        return {
            254: (_LONG, [0]),
            256: (_LONG, [width]),
            257: (_LONG, [height]),
            258: (_SHORT, [16]),
            259: (_SHORT, [1]),
            262: (_SHORT, [32803]),
            273: (_LONG, [data]),
            277: (_SHORT, [1]),
            278: (_LONG, [height]),
            279: (_LONG, [mosaic.nbytes]),
            284: (_SHORT, [1]),
            33421: (_SHORT, [2, 2]),
            33422: (_BYTE, [0, 1, 1, 2]),
            50717: (_LONG, [65535]),
        }

    head = b"II*\0" + struct.pack("<I", 8)
    if not preview:
        data = 8 + len(_directory({**camera, **sensor_tags(0)}, 8))
        return head + _directory({**camera, **sensor_tags(data)}, 8) + mosaic.tobytes()
    preview_width, preview_height = Image.open(io.BytesIO(preview)).size

    def preview_tags(data: int, sensor_at: int) -> _Tags:
        return {
            **camera,
            254: (_LONG, [1]),
            256: (_LONG, [preview_width]),
            257: (_LONG, [preview_height]),
            258: (_SHORT, [8, 8, 8]),
            259: (_SHORT, [7]),
            262: (_SHORT, [6]),
            273: (_LONG, [data]),
            277: (_SHORT, [3]),
            278: (_LONG, [preview_height]),
            279: (_LONG, [len(preview)]),
            330: (_LONG, [sensor_at]),
        }

    sensor_at = 8 + len(_directory(preview_tags(0, 0), 8))
    data = sensor_at + len(_directory(sensor_tags(0), sensor_at))
    first = _directory(preview_tags(data + mosaic.nbytes, sensor_at), 8)
    return head + first + _directory(sensor_tags(data), sensor_at) + mosaic.tobytes() + preview


def _directory(tags: _Tags, at: int) -> bytes:
    """Return an image file directory at an offset, followed by the values that do not fit into it."""
    entries, values = b"", b""
    values_at = at + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        content, count = _content(kind, value)
        if len(content) > 4:
            entries += struct.pack("<HHII", tag, kind, count, values_at + len(values))
            values += content + b"\0" * (len(content) % 2)
        else:
            entries += struct.pack("<HHI", tag, kind, count) + content.ljust(4, b"\0")
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + values


def _content(kind: int, value: str | Sequence[int]) -> tuple[bytes, int]:
    if isinstance(value, str):
        return value.encode() + b"\0", len(value) + 1
    if kind in {_RATIONAL, _SRATIONAL}:
        return b"".join(struct.pack("<ii", each * 10_000, 10_000) for each in value), len(value)
    return struct.pack(f"<{len(value)}{_CODES[kind]}", *value), len(value)
