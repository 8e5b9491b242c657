"""A checkpoint's preprocessor configuration becomes an `ImageInput` that produces the same pixels as transformers.

The levels before normalisation are compared with transformers' own processors, which use Pillow. The largest
difference is 0 for squashed pictures, and 1 of 255 levels in at most 0.12% of the values for cropped ones (Pillow
computes the resized region in single precision). Decoding a JPEG at reduced size changes at most 3 levels. Transparent
pictures differ by design: transformers drops the transparency, sceneseek composites on white.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers as untyped_transformers
from PIL import Image, ImageFilter

from sceneseek.bundle import ImageInput
from sceneseek.errors import ExportError
from sceneseek.picture import decode
from sceneseek.preprocess import enough_pixels, prepare
from sceneseek_export.packs import ImageTowerSpec
from sceneseek_export.towers.preprocessor import image_input

transformers: Any = untyped_transformers

SPEC = ImageTowerSpec("eye", "resnet", "dir:unused")

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

# Configurations in old and new formats, as in repositories of the hub.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "resnet-50": {
        "crop_pct": 0.875,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "ConvNextFeatureExtractor",
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 3,
        "size": 224,
    },
    "convnext at 384": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 384},
        "resample": 2,
    },
    "clip of 2021": {
        "feature_extractor_type": "CLIPFeatureExtractor",
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "resample": 3,
        "size": 224,
    },
    "clip with an odd crop": {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": 97, "width": 120},
        "size": {"shortest_edge": 131},
        "resample": 1,
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": 224, "width": 224},
    },
    "siglip 2, fast": {
        "image_processor_type": "SiglipImageProcessorFast",
        "resample": 2,
        "size": {"height": 96, "width": 96},
    },
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2},
}


def written(folder: Path, configuration: dict[str, Any]) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(configuration), encoding="utf-8")
    return folder


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture with edges, gradients and noise that reveals a wrong offset or filter."""
    rng = np.random.default_rng(width * 100_003 + height)
    levels = rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    image = Image.fromarray(levels, mode)
    return image.filter(ImageFilter.GaussianBlur(1)) if min(width, height) > 3 else image


def as_file(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def with_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return as_file(scene(331, 217), "JPEG", exif=exif, quality=95)


def opaque() -> Image.Image:
    image = scene(260, 190, "RGBA")
    image.putalpha(255)
    return image


FILES = {
    "portrait": as_file(scene(223, 401), "PNG"),
    "landscape": as_file(scene(640, 427), "PNG"),
    "panorama": as_file(scene(3000, 120), "PNG"),
    "tall": as_file(scene(90, 2500), "PNG"),
    "a line": as_file(scene(400, 1), "PNG"),
    "1x1": as_file(scene(1, 1), "PNG"),
    "2x3": as_file(scene(2, 3), "PNG"),
    "already at shortest edge": as_file(scene(256, 300), "PNG"),
    "already at size": as_file(scene(224, 224), "PNG"),
    "grey": as_file(scene(300, 200).convert("L"), "PNG"),
    "palette": as_file(scene(300, 200).quantize(64), "PNG"),
    "black and white": as_file(scene(300, 200).convert("1"), "PNG"),
    "opaque RGBA": as_file(opaque(), "PNG"),
    "cmyk": as_file(scene(300, 200).convert("CMYK"), "JPEG", quality=95),
    "webp": as_file(scene(300, 200), "WEBP", lossless=True),
    **{f"turned {o}": with_orientation(o) for o in (2, 3, 5, 6, 8)},
}


def transformers_pixels(data: bytes, folder: Path, tmp_path: Path) -> np.ndarray:
    """The levels from transformers' own processor, uint8 (H, W, 3)."""
    path = tmp_path / "picture"
    path.write_bytes(data)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    processor.do_rescale = processor.do_normalize = False
    # Pass the layout explicitly: transformers takes a picture of one or three rows for channels first.
    return np.asarray(
        processor.preprocess(
            transformers.image_utils.load_image(str(path)),
            data_format="channels_last",
            input_data_format="channels_last",
        )["pixel_values"][0]
    )


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_pixels_match_transformers_processor(tmp_path: Path, name: str) -> None:
    spec = image_input(SPEC, written(tmp_path, CONFIGURATIONS[name]))
    for file, data in FILES.items():
        (ours,) = prepare(decode(data), (spec,))
        gap = np.abs(ours.astype(int) - transformers_pixels(data, tmp_path, tmp_path).astype(int))
        assert gap.max() <= (1 if spec.fit == "crop" else 0), file
        assert (gap > 0).mean() < 0.002, file


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_normalisation_matches_transformers(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path, CONFIGURATIONS[name])
    spec = image_input(SPEC, folder)
    picture = Image.new("RGB", (300, 200), (11, 127, 250))
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    reference = processor.preprocess(picture, data_format="channels_last")["pixel_values"][0]
    (levels,) = prepare(decode(as_file(picture, "PNG")), (spec,))
    ours = (levels.astype(np.float32) - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    np.testing.assert_allclose(ours, reference, atol=2e-6)


def test_transparent_picture_is_composited_on_white_unlike_transformers(tmp_path: Path) -> None:
    folder = written(tmp_path, CONFIGURATIONS["clip of 2021"])
    cut_out = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    cut_out.paste((0, 0, 255, 255), (100, 100, 200, 200))
    data = as_file(cut_out, "PNG")
    (ours,) = prepare(decode(data), (image_input(SPEC, folder),))
    reference = transformers_pixels(data, folder, tmp_path)
    assert (tuple(ours[0, 0]), tuple(reference[0, 0])) == ((255, 255, 255), (255, 0, 0))
    assert tuple(ours[112, 112]) == tuple(reference[112, 112]) == (0, 0, 255)


@pytest.mark.parametrize("name", ["resnet-50", "clip of 2021", "siglip"])
def test_reduced_jpeg_decoding_changes_pixels_little(tmp_path: Path, name: str) -> None:
    spec = image_input(SPEC, written(tmp_path, CONFIGURATIONS[name]))
    data = as_file(scene(3740, 2500), "JPEG", quality=90)  # sharper than any photograph
    quick = decode(data, enough_pixels((spec,)))
    assert quick.pixels.width < quick.width == 3740
    (ours,) = prepare(quick, (spec,))
    reference = transformers_pixels(data, tmp_path, tmp_path)
    difference = np.abs(ours.astype(int) - reference.astype(int))
    assert difference.max() <= 3
    assert difference.mean() <= 0.6


def test_enough_pixels_is_based_on_shortest_edge(tmp_path: Path) -> None:
    assert enough_pixels((image_input(SPEC, written(tmp_path, CONFIGURATIONS["resnet-50"])),)) == 2 * 256


@pytest.mark.parametrize("size", [(65_535, 1), (1, 65_535), (1, 1)])
@pytest.mark.parametrize("name", ["resnet-50", "clip with an odd crop", "siglip"])
def test_extreme_aspect_ratio_is_prepared_to_input_size(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    spec = image_input(SPEC, written(tmp_path, CONFIGURATIONS[name]))
    (pixels,) = prepare(decode(as_file(Image.new("RGB", size, "teal"), "PNG")), (spec,))
    assert pixels.shape == (spec.height, spec.width, 3)
    assert (pixels == (0, 128, 128)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_resize": False}, "does not resize"),
        ({"resample": 4}, "number 4"),
        ({"resample": 0}, "number 0"),
        ({"do_center_crop": False}, "vary in size"),
        ({"crop_size": 256}, "padding with black"),
        ({"size": {"height": 256, "width": 256}}, "crops them to another"),
        ({"size": {"longest_edge": 256}}, "longest_edge"),
        ({"image_mean": [0.5]}, "1 channels"),
        ({"feature_extractor_type": None, "image_processor_type": "DeiTImageProcessor"}, "DeiTImageProcessor"),
        ({"feature_extractor_type": None, "image_processor_type": "Siglip2ImageProcessor"}, "Siglip2ImageProcessor"),
        ({"feature_extractor_type": None, "image_processor_type": "NoSuchProcessor"}, "cannot be read"),
    ],
)
def test_unsupported_configuration_is_rejected_with_reason(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    configuration = {**CONFIGURATIONS["clip of 2021"], **changes}
    folder = written(tmp_path, {name: value for name, value in configuration.items() if value is not None})
    with pytest.raises(ExportError, match=message) as caught:
        image_input(SPEC, folder)
    assert "'eye'" in str(caught.value)
    assert "`input` table" in caught.value.hint


def test_missing_or_invalid_configuration_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has no preprocessor_config"):
        image_input(SPEC, tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ExportError, match="cannot be read"):
        image_input(SPEC, tmp_path)


def test_pack_input_overrides_checkpoint_configuration(tmp_path: Path) -> None:
    own = ImageInput(
        name="eye", height=10, width=20, fit="squash", fit_transparent="letterbox", mean=(0, 0, 0), std=(1, 1, 1)
    )
    assert image_input(ImageTowerSpec("eye", "resnet", "dir:unused", input=own), tmp_path) is own


def test_crop_larger_than_shortest_edge_is_rejected() -> None:
    with pytest.raises(ValueError, match="shortest_edge"):
        ImageInput(
            name="eye",
            height=224,
            width=224,
            fit="crop",
            fit_transparent="crop",
            mean=(0, 0, 0),
            std=(1, 1, 1),
            shortest_edge=200,
        )
