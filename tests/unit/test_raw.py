"""Camera raw files: embedded previews, developed images, and invalid files."""

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
    actual_red, _, actual_blue = pixel
    return bool(abs(actual_red - red) < 60 and abs(actual_blue - blue) < 60)


@needs_rawpy
def test_raw_without_a_preview_is_developed_at_the_needed_size() -> None:
    whole, half = decode(dng(halves())), decode(dng(halves()), near=100)
    assert (whole.width, whole.height, whole.format) == (half.width, half.height, half.format) == (WIDTH, HEIGHT, "RAW")
    assert (whole.pixels.size, half.pixels.size) == ((WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2))
    for picture in (whole, half):
        assert near(picture.pixels.getpixel((10, 10)), 0, 255)
        assert near(picture.pixels.getpixel((picture.pixels.width - 10, 10)), 255, 0)
        assert picture.exif.get(306) == TAKEN


@needs_rawpy
def test_large_enough_preview_is_used_and_rotated() -> None:
    green = jpeg(Image.new("RGB", (160, 120), "lime"))
    small = decode(dng(halves(), green), near=100)
    assert near(small.pixels.getpixel((5, 5)), 0, 0)
    assert near(decode(dng(halves(), green), near=200).pixels.getpixel((5, 5)), 0, 255), "developed"
    rotated = decode(dng(halves(), jpeg(halves()), orientation=6))
    assert (rotated.width, rotated.height, rotated.pixels.size) == (HEIGHT, WIDTH, (HEIGHT, WIDTH))
    assert near(rotated.pixels.getpixel((10, 10)), 0, 255)
    assert near(rotated.pixels.getpixel((10, WIDTH - 10)), 255, 0)
    exif = Image.Exif()
    exif[274] = 6
    already_rotated = decode(dng(halves(), jpeg(halves(), exif=exif), orientation=6))
    assert already_rotated.pixels.size == (HEIGHT, WIDTH), "rotated once"


@needs_rawpy
@pytest.mark.parametrize("preview", [b"", jpeg(Image.effect_noise((WIDTH, HEIGHT), 90).convert("RGB"))])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.6, 0.99])
def test_truncated_raw_file_is_an_error(preview: bytes, share: float) -> None:
    content = dng(halves(), preview)
    cut = content[: int(share * len(content))]
    if preview and share == 0.99:  # the sensor data is complete
        assert near(decode(cut).pixels.getpixel((10, 10)), 0, 255)
        return
    with pytest.raises(ImageError):
        decode(cut)


@needs_rawpy
def test_oversized_or_malformed_raw_file_is_rejected_with_a_reason() -> None:
    with pytest.raises(ImageError) as caught:
        decode(dng(halves()), max_pixels=1_000)
    assert (caught.value.reason, caught.value.hint) == ("too-large", "raise the limit with --max-pixels")
    noise = bytes(range(256)) * 40
    for start in (b"FUJIFILMCCD-RAW ", b"IIRO", b"II*\0\x10\0\0\0CR"):
        content = start + noise
        with pytest.raises(ImageError, match="cannot be read"):
            decode(content)


@needs_rawpy
def test_decoder_imports_no_modules_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "rawpy", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    assert decode(dng(halves())).format == "RAW"


@needs_rawpy
def test_deadline_stops_decoding() -> None:
    with pytest.raises(ImageError, match="too long"):
        decode(dng(halves()), deadline=time.monotonic() + 0.01)


@needs_rawpy
def test_tiff_of_a_scanner_is_not_read_as_raw() -> None:
    out = io.BytesIO()
    halves().save(out, "TIFF", tiffinfo={271: "A scanner"})
    assert decode(out.getvalue()).format == "TIFF"


def test_without_rawpy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
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
