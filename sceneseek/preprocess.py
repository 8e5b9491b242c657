"""A decoded picture to the pixel tensors of `image.onnx`: the one preprocessing of export's check, indexer and server.

Resizing is antialiased, as Pillow does it and as transformers' image processors do through Pillow: on the same pixels
the result is theirs, to within one of 255 levels where it is cropped. What is cropped away is never computed, so a
picture may be of any shape. The result is uint8: normalisation is inside the graph. No torch.
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
# How many pixels, of the coarser of source and result, the widest filter (Lanczos) reaches to either side.
_REACH = 3


def prepare(picture: Picture, inputs: tuple[ImageInput, ...]) -> tuple[Pixels, ...]:
    """One uint8 (height, width, 3) array an image input, in the inputs' order."""
    return tuple(_prepare_one(picture, spec) for spec in inputs)


def enough_pixels(inputs: tuple[ImageInput, ...]) -> int:
    """Pixels per side from which decoding larger changes nothing one could see: twice the largest resized side."""
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
    """The centre of the picture resized to this shortest edge; `whole` is the size that its ratio is taken from."""
    short, long = min(whole), max(whole)
    other = int(edge * long / short)
    resized = (edge, other) if whole[0] <= whole[1] else (other, edge)
    x, y = (_span(*sides) for sides in zip(image.size, resized, (spec.width, spec.height), strict=True))
    filtering = _RESAMPLING[spec.interpolation]
    # Not `crop`, which has Pillow's limit of pixels.
    part = Image.new(image.mode, (x.last - x.first, y.last - y.first))
    part.paste(image, (-x.first, -y.first))
    # Along the rows first and rounded between, as Pillow resizes a whole picture; of a part it might choose otherwise.
    narrow = part.resize((spec.width, part.height), filtering, (x.start, 0, x.end, part.height))
    return narrow.resize((spec.width, spec.height), filtering, (0, y.start, spec.width, y.end))


class _Span(NamedTuple):
    """Along one axis: the source pixels that count, first to last, and what is resized, counted from the first."""

    first: int
    last: int
    start: float
    end: float


def _span(source: int, resized: int, wanted: int) -> _Span:
    """Where the middle `wanted` of `resized` pixels come from, of `source` pixels.

    Pillow takes a box of single precision, so the source is cut first: its numbers then stay small.
    """
    scale = source / resized
    corner = (resized - wanted) // 2
    start, end = corner * scale, (corner + wanted) * scale
    reach = _REACH * max(scale, 1.0) + 1
    first, last = max(0, math.floor(start - reach)), min(source, math.ceil(end + reach))
    return _Span(first, last, start - first, min(end, source) - first)
