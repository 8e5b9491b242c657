"""Camera raw files: their embedded preview, or the picture as developed by LibRaw.

LibRaw parses untrusted files in C++. So it runs in a separate process, `python -m sceneseek.raw`, with limits of time
and memory, and a crash ends only this process. Requires the package `rawpy`.
"""

from __future__ import annotations

import importlib.util
import io
import json
import resource
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import ExifTags, Image

from sceneseek.errors import ImageError

_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb")
_BYTE_ORDER = {b"II*\0": "<", b"MM\0*": ">"}
TIFF = tuple(_BYTE_ORDER)
# A raw file differs from other TIFFs by the tag DNGVersion, or by Make together with SubIFDs.
_DNG_VERSION, _MAKE, _FURTHER_IMAGES = 50706, 271, 330
_MAX_TAGS = 512
_SECONDS, _MEMORY = 60.0, 3 * 2**30
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, slots=True)
class Developed:
    """The picture of a raw file.

    Attributes:
        width, height: the full size of the upright picture.
        image: the preview, as a JPEG file, or the developed picture.
        turn: the rotation to apply after decoding; None if it is upright.
    """

    width: int
    height: int
    image: bytes | Image.Image
    turn: Image.Transpose | None


def available() -> bool:
    """Whether `rawpy` is installed."""
    return importlib.util.find_spec("rawpy") is not None


def looks_raw(start: bytes, file: BinaryIO) -> bool:
    """Whether a file is a camera raw file, by its header.

    Args:
        start: its first 32 bytes.
        file: the file, which is rewound.
    """
    if start.startswith(_MAGIC) or start[4:12] == b"ftypcrx " or start[8:10] == b"CR" or start[6:14] == b"HEAPCCDR":
        return True
    order = _BYTE_ORDER.get(start[:4])
    if order is None:
        return False
    try:
        file.seek(struct.unpack(f"{order}I", start[4:8])[0])
        (count,) = struct.unpack(f"{order}H", file.read(2))
        entries = file.read(12 * min(count, _MAX_TAGS))
        tags = {tag for (tag,) in struct.iter_unpack(f"{order}H10x", entries[: len(entries) // 12 * 12])}
    except struct.error:
        return False
    finally:
        file.seek(0)
    return _DNG_VERSION in tags or {_MAKE, _FURTHER_IMAGES} <= tags


def develop(content: bytes, near: int, max_pixels: int, seconds: float = _SECONDS) -> Developed:
    """Return the preview of a raw file, or develop it, with at least `near` pixels per side if it has as many.

    Args:
        content: of the file.
        near: see `sceneseek.picture.decode`; 0 for full size.
        max_pixels: see `sceneseek.picture.decode`.
        seconds: the timeout.

    Raises:
        ImageError: LibRaw cannot read it within the limits, or it has more pixels than `max_pixels`.
    """
    # -P: do not import modules from the current directory.
    command = [sys.executable, "-P", "-m", "sceneseek.raw", str(near), str(max_pixels)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=min(seconds, _SECONDS), check=False)
    except subprocess.TimeoutExpired:
        raise ImageError("broken", "the raw file takes too long to read") from None
    header_line, _, body = done.stdout.partition(b"\n")
    if done.returncode or not header_line:
        why = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ImageError("broken", f"the raw file cannot be read ({why[0]})")
    header = json.loads(header_line)
    if "error" in header:
        raise ImageError(header["reason"], header["error"], header["hint"])
    image = Image.frombytes(header["mode"], header["pixels"], body).convert("RGB") if "pixels" in header else body
    return Developed(header["width"], header["height"], image, _TURNS.get(header["flip"]))


def _main(near: int, max_pixels: int) -> None:
    """Read a raw file from standard input; write a line of JSON, then a JPEG or pixels, to standard output."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(_SECONDS), int(_SECONDS)))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import rawpy  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - an extra

    content = sys.stdin.buffer.read()
    try:
        with rawpy.imread(io.BytesIO(content)) as raw:
            header, body = _read(raw, near, max_pixels)
    except rawpy.LibRawError as error:
        message = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        header, body = {"error": f"the raw file cannot be read ({message})", "reason": "broken", "hint": ""}, b""
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + body)


def _read(raw: Any, near: int, max_pixels: int) -> tuple[dict[str, Any], bytes]:
    """The JSON header, and the preview or the pixels."""
    import rawpy  # noqa: PLC0415

    sizes = raw.sizes
    width, height, flip = int(sizes.width), int(sizes.height), int(sizes.flip)
    header: dict[str, Any] = {"width": width, "height": height, "flip": flip}
    if flip in (5, 6):
        header |= {"width": height, "height": width}
    wanted = min(near or max(width, height), width, height)
    try:
        thumbnail = raw.extract_thumb()
    except rawpy.LibRawError:
        thumbnail = None
    if thumbnail is not None and thumbnail.format == rawpy.ThumbFormat.JPEG:
        with Image.open(io.BytesIO(thumbnail.data)) as preview:
            # LibRaw pads truncated files, so check the end of the preview.
            if min(preview.size) >= wanted and bytes(thumbnail.data).rstrip(b"\0").endswith(b"\xff\xd9"):
                turned = preview.getexif().get(ExifTags.Base.Orientation, 1) != 1
                return header | {"flip": 0 if turned else flip}, bytes(thumbnail.data)
    half = wanted <= min(width, height) // 2
    if width * height > max_pixels * (4 if half else 1):
        over = f"{width} x {height} is over {max_pixels / 1e6:.0f} million pixels"
        return {"error": over, "reason": "too-large", "hint": "raise the limit with --max-pixels"}, b""
    pixels = raw.postprocess(half_size=half, use_camera_wb=True, output_bps=8)
    mode = "RGB" if pixels.ndim == 3 and pixels.shape[2] == 3 else "L"
    return header | {"flip": 0, "mode": mode, "pixels": [pixels.shape[1], pixels.shape[0]]}, pixels.tobytes()


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
