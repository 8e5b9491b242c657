"""Converts a decoded picture to the pixel tensors of `image.onnx`, for export, the indexer and the server.

Resizing is antialiased by Pillow, as in transformers' image processors. From the same pixels the results are equal,
or within 1 of 255 if cropped. Only the cropped part is computed, so pictures may have any aspect ratio. The result is
uint8: the graph normalises it. Without torch.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sceneseek.bundle import Fit, ImageInput
from sceneseek.colour import on_background
from sceneseek.picture import Picture

Pixels: TypeAlias = npt.NDArray[np.uint8]

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# The radius of the widest filter (Lanczos), in pixels of the coarser of source and result.
_REACH = 3


def prepare(picture: Picture, inputs: tuple[ImageInput, ...]) -> tuple[Pixels, ...]:
    """One uint8 array (height, width, 3) per image input, in order."""
    return tuple(_prepare_one(picture, spec) for spec in inputs)


def enough_pixels(inputs: tuple[ImageInput, ...]) -> int:
    """The pixels per side that decoding needs; more make no visible difference. Twice the largest resized side."""
    return 2 * max(max(spec.height, spec.width, spec.shortest_edge or 0) for spec in inputs)


def _prepare_one(picture: Picture, spec: ImageInput) -> Pixels:
    image, fit = picture.pixels, spec.fit
    if image.mode == "RGBA":
        fit = spec.fit_transparent
        image = on_background(image, spec.background)
    whole = (picture.width, picture.height)
    if fit == "crop" and spec.shortest_edge is not None:
        fitted = _centre_of_resized(image, whole, spec, spec.shortest_edge)
    else:
        fitted = _fitted(image, whole, fit, spec)
    return np.asarray(fitted, dtype=np.uint8)


def _fitted(image: Image.Image, whole: tuple[int, int], fit: Fit, spec: ImageInput) -> Image.Image:
    size, resampling = (spec.width, spec.height), _RESAMPLING[spec.interpolation]
    if fit == "squash" or whole[0] * spec.height == whole[1] * spec.width:
        return image.resize(size, resampling)
    if fit == "letterbox":
        scale = min(spec.width / whole[0], spec.height / whole[1])
        inner = (max(1, round(whole[0] * scale)), max(1, round(whole[1] * scale)))
        canvas = Image.new("RGB", size, spec.background)
        corner = ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2)
        canvas.paste(image.resize(inner, resampling), corner)
        return canvas
    return ImageOps.fit(image, size, resampling)


def _centre_of_resized(image: Image.Image, whole: tuple[int, int], spec: ImageInput, edge: int) -> Image.Image:
    """The centre of the picture resized to this shortest edge; `whole` is the full size, for the aspect ratio."""
    short, long = min(whole), max(whole)
    other = int(edge * long / short)
    resized = (edge, other) if whole[0] <= whole[1] else (other, edge)
    x, y = (_span(*sides) for sides in zip(image.size, resized, (spec.width, spec.height), strict=True))
    filtering = _RESAMPLING[spec.interpolation]
    # Not `crop`, which has Pillow's pixel limit.
    part = Image.new(image.mode, (x.last - x.first, y.last - y.first))
    part.paste(image, (-x.first, -y.first))
    # Horizontally first, then rounded, as Pillow resizes a whole picture; for a part it might choose another order.
    narrow = part.resize((spec.width, part.height), filtering, (x.start, 0, x.end, part.height))
    return narrow.resize((spec.width, spec.height), filtering, (0, y.start, spec.width, y.end))


class _Span(NamedTuple):
    """The source pixels of a crop along one axis, `first` to `last`, and the resized range, relative to `first`."""

    first: int
    last: int
    start: float
    end: float


def _span(source: int, resized: int, wanted: int) -> _Span:
    """The source range of the middle `wanted` of `resized` pixels.

    Pillow's box has single precision, so the source is cropped first, which keeps the coordinates small.
    """
    scale = source / resized
    corner = (resized - wanted) // 2
    start, end = corner * scale, (corner + wanted) * scale
    reach = _REACH * max(scale, 1.0) + 1
    first, last = max(0, math.floor(start - reach)), min(source, math.ceil(end + reach))
    return _Span(first, last, start - first, min(end, source) - first)
