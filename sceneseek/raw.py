"""Camera raw files: the preview that the camera put in, or else the developed picture, by LibRaw.

LibRaw reads hostile files as others do, in C++. So it runs in a process of its own, `python -m sceneseek.raw`, within
limits of time and memory: what it cannot read ends that process alone. The package `rawpy` brings it.
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
# What tells a raw file from another TIFF: DNGVersion, or a camera's maker beside further images.
_DNG_VERSION, _MAKE, _FURTHER_IMAGES = 50706, 271, 330
_MAX_TAGS = 512
_SECONDS, _MEMORY = 60.0, 3 * 2**30
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, slots=True)
class Developed:
    """What a raw file shows.

    Attributes:
        width, height: of the whole picture in its right orientation.
        shown: the preview, a JPEG file; or the developed picture.
        turn: how it must be turned after it was decoded; None if it need not.
    """

    width: int
    height: int
    shown: bytes | Image.Image
    turn: Image.Transpose | None


def available() -> bool:
    """Whether raw files can be read here."""
    return importlib.util.find_spec("rawpy") is not None


def looks_raw(start: bytes, file: BinaryIO) -> bool:
    """Whether a file is a camera's raw one.

    Args:
        start: its first 32 bytes.
        file: the whole; it is left at its beginning.
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
    """What a raw file shows, in at least `near` pixels a side where it has as many; 0 is all of them.

    Args:
        content: of the file.
        near: see `sceneseek.picture.decode`.
        max_pixels: likewise.
        seconds: the most that it may take.

    Raises:
        ImageError: LibRaw cannot read it, or not within the limits; or it has more pixels than `max_pixels`.
    """
    # -P: nothing of the directory that this process was started in is imported.
    command = [sys.executable, "-P", "-m", "sceneseek.raw", str(near), str(max_pixels)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=min(seconds, _SECONDS), check=False)
    except subprocess.TimeoutExpired:
        raise ImageError("broken", "the raw file takes too long to read") from None
    head, _, body = done.stdout.partition(b"\n")
    if done.returncode or not head:
        why = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ImageError("broken", f"the raw file cannot be read ({why[0]})")
    about = json.loads(head)
    if "error" in about:
        raise ImageError(about["reason"], about["error"], about["hint"])
    shown = Image.frombytes(about["mode"], about["pixels"], body).convert("RGB") if "pixels" in about else body
    return Developed(about["width"], about["height"], shown, _TURNS.get(about["flip"]))


def _main(near: int, max_pixels: int) -> None:
    """Read a raw file from standard input; write one line of JSON and a JPEG, or pixels, to standard output."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(_SECONDS), int(_SECONDS)))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import rawpy  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - an extra

    content = sys.stdin.buffer.read()
    try:
        with rawpy.imread(io.BytesIO(content)) as raw:
            about, body = _shown(raw, near, max_pixels)
    except rawpy.LibRawError as error:
        said = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        about, body = {"error": f"the raw file cannot be read ({said})", "reason": "broken", "hint": ""}, b""
    sys.stdout.buffer.write(json.dumps(about).encode() + b"\n" + body)


def _shown(raw: Any, near: int, max_pixels: int) -> tuple[dict[str, Any], bytes]:
    """What is told of a raw file, and the preview or the pixels."""
    import rawpy  # noqa: PLC0415

    sizes = raw.sizes
    width, height, flip = int(sizes.width), int(sizes.height), int(sizes.flip)
    about: dict[str, Any] = {"width": width, "height": height, "flip": flip}
    if flip in (5, 6):
        about |= {"width": height, "height": width}
    wanted = min(near or max(width, height), width, height)
    try:
        thumbnail = raw.extract_thumb()
    except rawpy.LibRawError:
        thumbnail = None
    if thumbnail is not None and thumbnail.format == rawpy.ThumbFormat.JPEG:
        with Image.open(io.BytesIO(thumbnail.data)) as preview:
            # LibRaw fills up what a truncated file lacks.
            if min(preview.size) >= wanted and bytes(thumbnail.data).rstrip(b"\0").endswith(b"\xff\xd9"):
                turned = preview.getexif().get(ExifTags.Base.Orientation, 1) != 1
                return about | {"flip": 0 if turned else flip}, bytes(thumbnail.data)
    half = wanted <= min(width, height) // 2
    if width * height > max_pixels * (4 if half else 1):
        over = f"{width} x {height} is over {max_pixels / 1e6:.0f} million pixels"
        return {"error": over, "reason": "too-large", "hint": "raise the limit with --max-pixels"}, b""
    pixels = raw.postprocess(half_size=half, use_camera_wb=True, output_bps=8)
    mode = "RGB" if pixels.ndim == 3 and pixels.shape[2] == 3 else "L"
    return about | {"flip": 0, "mode": mode, "pixels": [pixels.shape[1], pixels.shape[0]]}, pixels.tobytes()


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
