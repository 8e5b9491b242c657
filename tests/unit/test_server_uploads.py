"""Uploaded images are reduced while decoding."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sceneseek.bundle import ImageInput
from sceneseek.picture import Picture, reduced
from sceneseek.preprocess import prepare

NEAR = 448


def picture(width: int, height: int, mode: str = "RGB") -> Picture:
    """A low-frequency wave pattern that survives downscaling."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    levels = 127 + 60 * np.sin(9 * x / width) + 60 * np.cos(7 * y / height)
    image = Image.fromarray(levels.astype(np.uint8)).convert(mode)
    return Picture(image, width, height, "PNG")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((300, 200), (300, 200)),
        ((NEAR, NEAR), (NEAR, NEAR)),
        ((800, 800), (800, 800)),
        ((2_000, 1_000), (1_000, 500)),
        ((4_500, 4_500), (450, 450)),
        ((1_000, 4_000), (500, 2_000)),
    ],
)
def test_images_are_reduced_to_needed_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    result = reduced(picture(*size), NEAR)
    assert result.pixels.size == expected
    assert (result.width, result.height) == size


@pytest.mark.parametrize("size", [(50_000, 300), (2, 3_000_000), (1, 4_000_000), (20_000, 600)])
def test_extreme_aspect_ratio_is_bounded_in_memory(size: tuple[int, int]) -> None:
    width, height = reduced(picture(*size), NEAR).pixels.size
    assert min(width, height) >= 1
    assert width * height <= 32 * NEAR**2


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_reduced_decoding_does_not_change_model_input(mode: str) -> None:
    spec = ImageInput(
        name="pixels",
        height=224,
        width=224,
        shortest_edge=256,
        interpolation="bicubic",
        fit="crop",
        fit_transparent="letterbox",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    full = picture(3_000, 2_000, mode)
    from_full, from_reduced = prepare(full, (spec,))[0], prepare(reduced(full, NEAR), (spec,))[0]
    assert np.abs(from_full.astype(int) - from_reduced.astype(int)).max() <= 2
