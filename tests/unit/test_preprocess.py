"""Preprocessing turns images of any shape into pixel tensors as specified in the manifest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sceneseek.bundle import Fit, ImageInput
from sceneseek.picture import Picture
from sceneseek.preprocess import prepare


def spec(fit: Fit = "squash", transparent: Fit = "letterbox", size: int = 64) -> ImageInput:
    return ImageInput(
        name="pixels", height=size, width=size, fit=fit, fit_transparent=transparent, mean=(0, 0, 0), std=(1, 1, 1)
    )


def picture(image: Image.Image) -> Picture:
    return Picture(image, image.width, image.height, "PNG")


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    fit=st.sampled_from(["squash", "letterbox", "crop"]),
    mode=st.sampled_from(["RGB", "RGBA"]),
)
def test_any_image_shape_gives_uint8_tensor_of_input_size(width: int, height: int, fit: Fit, mode: str) -> None:
    (pixels,) = prepare(picture(Image.new(mode, (width, height))), (spec(fit, fit),))
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8


def test_squash_keeps_whole_image_and_crop_keeps_center() -> None:
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (0, 0, 30, 100))
    (squashed,) = prepare(picture(image), (spec("squash"),))
    (cropped,) = prepare(picture(image), (spec("crop"),))
    assert squashed[32, 0, 0] > 200
    assert cropped.max() < 20


def test_letterbox_keeps_aspect_ratio_and_pads_with_background() -> None:
    (letterboxed,) = prepare(picture(Image.new("RGB", (200, 100), "black")), (spec("letterbox"),))
    assert (letterboxed[:15] == 255).all()
    assert (letterboxed[-15:] == 255).all()
    assert (letterboxed[20:44] == 0).all()


def test_transparent_image_is_composited_and_uses_fit_transparent() -> None:
    image = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (90, 40, 110, 60))
    (pixels,) = prepare(picture(image), (spec("squash", "letterbox"),))
    assert (pixels[0, 0] == 255).all()
    assert tuple(pixels[32, 32]) == (255, 0, 0)


def test_image_of_input_size_is_unchanged() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for fit in ("squash", "letterbox", "crop"):
        (pixels,) = prepare(picture(Image.fromarray(levels)), (spec(fit),))
        np.testing.assert_array_equal(pixels, levels)


def test_each_input_gets_its_own_tensor() -> None:
    small, large = prepare(picture(Image.new("RGB", (50, 50))), (spec(size=32), spec(size=48)))
    assert (small.shape, large.shape) == ((32, 32, 3), (48, 48, 3))


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_aspect_ratios_are_supported(size: tuple[int, int]) -> None:
    for fit in ("squash", "letterbox", "crop"):
        (pixels,) = prepare(picture(Image.new("RGB", size, "red")), (spec(fit),))
        assert pixels.shape == (64, 64, 3)
