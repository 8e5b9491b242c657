"""Image files to small JPEGs, made once and kept in a bounded cache.

JPEG, because encoding one takes some 2 ms, where WebP takes 7 to 30 for a seventh to a quarter fewer bytes. A
thumbnail is re-encoded from pixels, so nothing hidden in a file (EXIF, profiles, trailing bytes) leaves with it.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable

from PIL import Image

from sceneseek.picture import decode

LONGEST_SIDE = 320
MEDIA_TYPE = "image/jpeg"


def draw_thumbnail(data: bytes) -> bytes:
    """A JPEG of at most `LONGEST_SIDE` pixels a side, never enlarged; transparent parts lie on white.

    Raises:
        ImageError: the data is not a whole picture.
    """
    pixels = decode(data, near=LONGEST_SIDE).pixels
    pixels.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BICUBIC)
    if pixels.mode == "RGBA":
        canvas = Image.new("RGBA", pixels.size, "white")
        canvas.alpha_composite(pixels)
        pixels = canvas.convert("RGB")
    out = io.BytesIO()
    pixels.save(out, "JPEG", quality=82)
    return out.getvalue()


class Thumbnails:
    """A cache of thumbnails, the longest unused out first. Thread-safe.

    Args:
        max_bytes: what it may hold.
        at_once: how many may be drawn at the same time; a picture of many pixels takes hundreds of
            megabytes while it is decoded.
        on_sent: told of each thumbnail whether it had to be drawn.

    Attributes:
        kept_bytes: what it holds.
    """

    def __init__(
        self, max_bytes: int = 32 * 2**20, at_once: int = 2, on_sent: Callable[[bool], object] = lambda _drawn: None
    ) -> None:
        self.kept_bytes = 0
        self._max_bytes = max_bytes
        self._on_sent = on_sent
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._guard = threading.Lock()
        self._drawing = threading.BoundedSemaphore(at_once)

    def get(self, tag: str, read: Callable[[], bytes]) -> bytes:
        """The thumbnail of the content that `tag` stands for; `read` is called where it must be drawn.

        Raises:
            ImageError: see `draw_thumbnail`.
        """
        with self._guard:
            kept = self._kept.get(tag)
            if kept is not None:
                self._kept.move_to_end(tag)
        if kept is not None:
            self._on_sent(False)
            return kept
        with self._drawing:
            thumbnail = draw_thumbnail(read())
        with self._guard:
            self.kept_bytes += len(thumbnail) - len(self._kept.pop(tag, b""))
            self._kept[tag] = thumbnail
            while self.kept_bytes > self._max_bytes:
                self.kept_bytes -= len(self._kept.popitem(last=False)[1])
        self._on_sent(True)
        return thumbnail
