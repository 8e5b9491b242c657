"""Converts a checkpoint's preprocessor configuration to an `ImageInput`, or raises an error with the reason.

The configuration is read by transformers' own image processor, so its defaults and older file formats apply. Supported
are resizing to a fixed size, or of the shortest edge with a centre crop; bilinear, bicubic or Lanczos interpolation;
and any scale, mean and standard deviation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sceneseek.bundle import Colour, Fit, ImageInput, Interpolation
from sceneseek.errors import ExportError
from sceneseek_export.packs import ImageTowerSpec
from sceneseek_export.towers.checkpoint import PREPROCESSORS
from sceneseek_export.towers.pretrained import quiet

# By the numbers of Pillow's filters.
_INTERPOLATIONS: dict[int, Interpolation] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}

# A ConvNeXT processor squashes pictures from this size on.
_SQUASHED_FROM = 384

# The processors whose steps are exactly those implemented below.
KNOWN = ("ConvNextImageProcessor", "CLIPImageProcessor", "SiglipImageProcessor", "ViTImageProcessor")


def image_input(spec: ImageTowerSpec, folder: Path) -> ImageInput:
    """The preprocessing of a checkpoint's pictures, from the recipe or else from the checkpoint's configuration.

    Raises:
        ExportError: there is no such configuration, or an `ImageInput` cannot express it.
    """
    if spec.input is not None:
        return spec.input
    path = next((folder / name for name in PREPROCESSORS if (folder / name).is_file()), None)
    if path is None:
        raise _unsupported(spec, f"{folder} has no {' or '.join(PREPROCESSORS)}")
    import transformers  # noqa: PLC0415 - takes seconds

    auto: Any = transformers.AutoImageProcessor
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))
        if path.name == PREPROCESSORS[1] and "image_processor" not in configuration:
            raise ValueError("it does not configure images")
        with quiet():
            processor = auto.from_pretrained(folder, local_files_only=True, use_fast=False, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _unsupported(spec, f"{path} cannot be read ({reason})") from error
    try:
        return _read(spec, processor)
    except ValueError as error:
        raise _unsupported(spec, f"{path} {error}") from error


def fixed_size(spec: ImageTowerSpec, prepared: ImageInput, size: int) -> None:
    """Check that pictures have the size of a model with a fixed input size.

    Raises:
        ExportError: they have another size.
    """
    if (prepared.height, prepared.width) != (size, size):
        raise ExportError(
            f"tower {spec.name!r} needs pictures of {size} x {size}, not {prepared.height} x {prepared.width}",
            "its preprocessor, or the pack's `input` table, does not match the model's configuration",
        )


def _unsupported(spec: ImageTowerSpec, what: str) -> ExportError:
    return ExportError(
        f"tower {spec.name!r}: {what}",
        "define the preprocessing in an `input` table of the pack (docs/how-to/packs.md)",
    )


def _read(spec: ImageTowerSpec, processor: Any) -> ImageInput:
    kind = type(processor).__name__
    if kind not in KNOWN:
        raise ValueError(f"is for {kind}; supported are {', '.join(KNOWN)}")
    if not processor.do_resize:
        raise ValueError("does not resize, so pictures would vary in size")
    if getattr(processor, "do_pad", False):
        raise ValueError("pads pictures to one size")
    if processor.resample not in _INTERPOLATIONS:
        raise ValueError(f"resamples with Pillow's filter number {processor.resample}; supported are 1, 2 and 3")
    fit, height, width, edge = _geometry(kind, processor)
    mean, std = _normalisation(processor)
    return ImageInput(
        name=spec.name,
        height=height,
        width=width,
        fit=fit,
        fit_transparent=fit,
        mean=mean,
        std=std,
        interpolation=_INTERPOLATIONS[processor.resample],
        shortest_edge=edge,
    )


def _geometry(kind: str, processor: Any) -> tuple[Fit, int, int, int | None]:
    """Fit, height, width and shortest edge."""
    size = {name: value for name, value in dict(processor.size).items() if value is not None}
    if kind == "ConvNextImageProcessor":
        edge = _only(size, "shortest_edge")[0]
        if edge >= _SQUASHED_FROM:
            return "squash", edge, edge, None
        return "crop", edge, edge, _enough(int(edge / processor.crop_pct), edge, edge)
    cropped = kind == "CLIPImageProcessor" and processor.do_center_crop
    if "shortest_edge" in size:
        edge = _only(size, "shortest_edge")[0]
        if kind != "CLIPImageProcessor":
            raise ValueError("has a shortest edge, which its processor does not support")
        if not cropped:
            raise ValueError("keeps the ratio of pictures without cropping them, so they would vary in size")
        height, width = _only(processor.crop_size, "height", "width")
        return "crop", height, width, _enough(edge, height, width)
    height, width = _only(size, "height", "width")
    if cropped and _only(processor.crop_size, "height", "width") != (height, width):
        raise ValueError("squashes pictures to one size and crops them to another")
    return "squash", height, width, None


def _only(size: Any, *names: str) -> tuple[int, ...]:
    values = dict(size)
    if set(values) != set(names):
        raise ValueError(f"has a size of {sorted(values)}, not of {sorted(names)}")
    return tuple(int(values[name]) for name in names)


def _enough(edge: int, height: int, width: int) -> int:
    if edge < max(height, width):
        raise ValueError(f"crops pictures with a shortest edge of {edge} to {height} x {width}, padding with black")
    return edge


def _normalisation(processor: Any) -> tuple[Colour, Colour]:
    """Mean and standard deviation on the scale of 0..255."""
    scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
    if not processor.do_normalize:
        return _three(0.0, scale), _three(1.0, scale)
    return _three(processor.image_mean, scale), _three(processor.image_std, scale)


def _three(values: float | Sequence[float], scale: float) -> Colour:
    listed = [values] * 3 if isinstance(values, (int, float)) else values
    if len(listed) != 3:
        raise ValueError(f"has {len(listed)} channels, not 3")
    red, green, blue = (float(value) / scale for value in listed)
    return red, green, blue
