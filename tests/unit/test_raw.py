"""Camera raw: the preview or the developed picture, and what is none."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from PIL import Image

from sceneseek import raw
from sceneseek.errors import ImageError
from sceneseek.picture import decode, extensions, lacking_plugins
from tests.raw_files import TAKEN, dng

needs_rawpy = pytest.mark.skipif(not raw.available(), reason="rawpy is not installed (the extra raw has it)")
WIDTH, HEIGHT = 320, 240


def halves() -> Image.Image:
    """Blue on the left, red on the right."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "red")
    picture.paste("blue", (0, 0, WIDTH // 2, HEIGHT))
    return picture


def jpeg(picture: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", **options)
    return out.getvalue()


def near(pixel: object, red: int, blue: int) -> bool:
    assert isinstance(pixel, tuple)
    found, _, other = pixel
    return bool(abs(found - red) < 60 and abs(other - blue) < 60)


@needs_rawpy
def test_without_a_preview_the_picture_is_developed_as_large_as_is_needed() -> None:
    whole, half = decode(dng(halves())), decode(dng(halves()), near=100)
    assert (whole.width, whole.height, whole.format) == (half.width, half.height, half.format) == (WIDTH, HEIGHT, "RAW")
    assert (whole.pixels.size, half.pixels.size) == ((WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2))
    for picture in (whole, half):
        assert near(picture.pixels.getpixel((10, 10)), 0, 255)
        assert near(picture.pixels.getpixel((picture.pixels.width - 10, 10)), 255, 0)
        assert picture.exif.get(306) == TAKEN


@needs_rawpy
def test_a_preview_that_is_large_enough_is_taken_and_turned() -> None:
    green = jpeg(Image.new("RGB", (160, 120), "lime"))
    small = decode(dng(halves(), green), near=100)
    assert near(small.pixels.getpixel((5, 5)), 0, 0)
    assert near(decode(dng(halves(), green), near=200).pixels.getpixel((5, 5)), 0, 255), "developed"
    turned = decode(dng(halves(), jpeg(halves()), orientation=6))
    assert (turned.width, turned.height, turned.pixels.size) == (HEIGHT, WIDTH, (HEIGHT, WIDTH))
    assert near(turned.pixels.getpixel((10, 10)), 0, 255)
    assert near(turned.pixels.getpixel((10, WIDTH - 10)), 255, 0)
    exif = Image.Exif()
    exif[274] = 6
    itself = decode(dng(halves(), jpeg(halves(), exif=exif), orientation=6))
    assert itself.pixels.size == (HEIGHT, WIDTH), "turned once"


@needs_rawpy
@pytest.mark.parametrize("preview", [b"", jpeg(Image.effect_noise((WIDTH, HEIGHT), 90).convert("RGB"))])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.6, 0.99])
def test_a_truncated_file_is_an_error(preview: bytes, share: float) -> None:
    content = dng(halves(), preview)
    cut = content[: int(share * len(content))]
    if preview and share == 0.99:  # all that the sensor saw is there
        assert near(decode(cut).pixels.getpixel((10, 10)), 0, 255)
        return
    with pytest.raises(ImageError):
        decode(cut)


@needs_rawpy
def test_a_file_that_is_too_large_or_odd_is_refused_with_a_reason() -> None:
    with pytest.raises(ImageError) as caught:
        decode(dng(halves()), max_pixels=1_000)
    assert (caught.value.reason, caught.value.hint) == ("too-large", "raise the limit with --max-pixels")
    noise = bytes(range(256)) * 40
    for start in (b"FUJIFILMCCD-RAW ", b"IIRO", b"II*\0\x10\0\0\0CR"):
        content = start + noise
        with pytest.raises(ImageError, match="cannot be read"):
            decode(content)


@needs_rawpy
def test_nothing_beside_the_pictures_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "rawpy", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    assert decode(dng(halves())).format == "RAW"


@needs_rawpy
def test_a_deadline_ends_the_reading() -> None:
    with pytest.raises(ImageError, match="too long"):
        decode(dng(halves()), deadline=time.monotonic() + 0.01)


@needs_rawpy
def test_a_tiff_of_a_scanner_stays_one() -> None:
    out = io.BytesIO()
    halves().save(out, "TIFF", tiffinfo={271: "A scanner"})
    assert decode(out.getvalue()).format == "TIFF"


def test_without_the_package_raw_files_are_named_by_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from sceneseek import picture  # noqa: PLC0415

    for cached in (picture.formats, extensions, lacking_plugins):
        cached.cache_clear()
    monkeypatch.setattr(raw, "available", lambda: False)
    try:
        assert ".nef" not in extensions()
        assert "sceneseek[raw]" in lacking_plugins()[".nef"]
        with pytest.raises(ImageError, match=r"sceneseek\[raw\]"):
            decode(b"FUJIFILMCCD-RAW " + bytes(100))
    finally:
        monkeypatch.undo()
        for cached in (picture.formats, extensions, lacking_plugins):
            cached.cache_clear()
