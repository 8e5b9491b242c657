"""Pictures to pixel tensors, without torch: the one preprocessing of export's check, indexer and server.

Resizing is antialiased bicubic, as Pillow does it. Normalisation is not done here: it is inside the
graph, so what leaves this module is uint8.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sceneseek.decode import Picture
from sceneseek.manifest import Fit, ImageInput

Pixels = npt.NDArray[np.uint8]


def prepare(picture: Picture, inputs: tuple[ImageInput, ...]) -> tuple[Pixels, ...]:
    """One uint8 (height, width, 3) array an image input, in the inputs' order."""
    return tuple(_prepare_one(picture.pixels, spec) for spec in inputs)


def enough_pixels(inputs: tuple[ImageInput, ...]) -> int:
    """Pixels per side from which decoding larger changes nothing one could see: twice the largest input."""
    return 2 * max(max(spec.height, spec.width) for spec in inputs)


def _prepare_one(image: Image.Image, spec: ImageInput) -> Pixels:
    fit = spec.fit
    if image.mode == "RGBA":
        fit = spec.fit_transparent
        canvas = Image.new("RGBA", image.size, (*spec.background, 255))
        canvas.alpha_composite(image)
        image = canvas.convert("RGB")
    return np.asarray(_fitted(image, fit, spec), dtype=np.uint8)


def _fitted(image: Image.Image, fit: Fit, spec: ImageInput) -> Image.Image:
    size, bicubic = (spec.width, spec.height), Image.Resampling.BICUBIC
    if fit == "squash" or image.width * spec.height == image.height * spec.width:
        return image.resize(size, bicubic)
    if fit == "letterbox":
        scale = min(spec.width / image.width, spec.height / image.height)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = Image.new("RGB", size, spec.background)
        corner = ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2)
        canvas.paste(image.resize(inner, bicubic), corner)
        return canvas
    return ImageOps.fit(image, size, bicubic)
