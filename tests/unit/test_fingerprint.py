"""Image fingerprints: similar for copies, different for other images, and a colour for blank images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from sceneseek.picture import decode
from sceneseek_indexer.fingerprints import fingerprint, same_colour
from tests.drawing import scenery


def fingerprint_of(image: Image.Image, **how: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG", **how})
    return fingerprint(decode(buffer.getvalue()))


def differing_bits(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_fingerprint_format_is_stable() -> None:
    steps = np.add.outer(np.arange(0, 180, 2), np.arange(0, 90)).astype(np.uint8) * 3
    assert fingerprint_of(Image.fromarray(steps)) == "fcf1c71f7cf1c71ff8e38f3ffcf1c71f"


@pytest.mark.parametrize("seed", range(5))
def test_fingerprint_of_a_copy_is_similar(seed: int) -> None:
    image = scenery(seed)
    mark = fingerprint_of(image)
    assert differing_bits(mark, fingerprint_of(image.resize((160, 120)))) <= 8
    assert differing_bits(mark, fingerprint_of(image, format="JPEG", quality=40)) <= 8
    assert differing_bits(mark, fingerprint_of(image, format="WEBP", quality=80)) <= 8
    assert differing_bits(mark, fingerprint_of(ImageEnhance.Brightness(image).enhance(1.1))) <= 8
    assert differing_bits(mark, fingerprint_of(image.convert("L"))) <= 8
    assert differing_bits(mark, fingerprint_of(image.resize((1280, 960)), format="JPEG")) <= 8


def test_fingerprints_of_other_and_mirrored_images_differ() -> None:
    marks = [fingerprint_of(scenery(seed)) for seed in range(12)]
    assert all(differing_bits(a, b) > 25 for i, a in enumerate(marks) for b in marks[:i])
    assert differing_bits(marks[0], fingerprint_of(ImageOps.mirror(scenery(0)))) > 25


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (640, 480)])
def test_fingerprint_of_a_blank_image_is_its_colour(size: tuple[int, int]) -> None:
    assert fingerprint_of(Image.new("RGB", size, (1, 128, 255))) == "#0180ff"
    assert fingerprint_of(Image.new("L", size, 7)) == "#070707"


def test_transparency_counts_as_white() -> None:
    ring = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    assert fingerprint_of(ring) == "#ffffff"
    ImageDraw.Draw(ring).ellipse((20, 20, 80, 80), outline=(0, 0, 0, 255), width=8)
    white = Image.new("RGB", (100, 100), "white")
    ImageDraw.Draw(white).ellipse((20, 20, 80, 80), outline=(0, 0, 0), width=8)
    assert fingerprint_of(ring) == fingerprint_of(white)


def test_image_with_a_dot_is_not_blank() -> None:
    page = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(page).rectangle((300, 200, 320, 220), fill="black")
    assert not fingerprint_of(page).startswith("#")


def test_same_colour_tolerates_small_changes() -> None:
    assert same_colour("#ffffff", "#fefdff")
    assert not same_colour("#ffffff", "#fffffc")
    for colour in ((10, 200, 30), (255, 255, 255), (90, 90, 90)):
        image = Image.new("RGB", (64, 64), colour)
        assert same_colour(fingerprint_of(image), fingerprint_of(image, format="JPEG", quality=40))
