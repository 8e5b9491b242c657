"""CLIP (Radford et al. 2021): images and texts in the space that the two towers share, not scaled to length 1."""

from __future__ import annotations

from typing import Any

import onnx
from torch import Tensor, nn

from sceneseek.bundle import ImageInput, TextInput, tokenizer_file
from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec
from sceneseek_export.towers.base import ImageTower, TextTower
from sceneseek_export.towers.preprocessor import fixed_size, image_input
from sceneseek_export.towers.pretrained import (
    Checkpoint,
    image_module,
    limit,
    load_model,
    load_tokenizer,
    open_checkpoint,
    quiet,
    text_module,
)


class _ImageEmbeds(nn.Module):
    """CLIPVisionModelWithProjection as an image tower without a classifier."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features: Tensor = self.net(pixel_values=pixels).image_embeds
        return features, features.new_zeros(len(features), 0)


class _TextEmbeds(nn.Module):
    """CLIPTextModelWithProjection as a text tower."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        text: Tensor = self.net(input_ids=input_ids, attention_mask=attention_mask).text_embeds
        return text


def clip_image(spec: ImageTowerSpec) -> ImageTower:
    """The image half of a CLIPModel of transformers, or a CLIPVisionModelWithProjection.

    Raises:
        ExportError: see `open_checkpoint`, `load_model`, `image_input` and `fixed_size`.
    """
    from transformers import CLIPVisionModelWithProjection  # noqa: PLC0415 - takes seconds

    source = open_checkpoint(spec)
    prepared = image_input(spec, source.folder)
    net = load_model(source, CLIPVisionModelWithProjection, **_half(source, "vision_config"))
    fixed_size(spec, prepared, net.config.image_size)
    return ImageTower(
        spec,
        prepared,
        features=net.config.projection_dim,
        classes=0,
        sha256=source.sha256,
        to_onnx=lambda: _image_to_onnx(net, prepared),
        reference=image_module(_ImageEmbeds(net).eval()),
    )


def clip_text(spec: TextTowerSpec) -> TextTower:
    """The text half of a CLIPModel of transformers, or a CLIPTextModelWithProjection.

    Raises:
        ExportError: see `open_checkpoint`, `load_model`, `load_tokenizer` and `limit`.
    """
    from transformers import CLIPTextModelWithProjection  # noqa: PLC0415 - takes seconds

    source = open_checkpoint(spec)
    net = load_model(source, CLIPTextModelWithProjection, **_half(source, "text_config"))
    max_tokens = limit(spec, net.config.max_position_embeddings)
    tokenizer = load_tokenizer(source, spec, max_tokens)
    return TextTower(
        spec,
        TextInput(
            name=spec.name,
            tokenizer=tokenizer_file(spec.name),
            max_tokens=max_tokens,
            pad_id=tokenizer.source.eos_token_id,  # a text's vector is that of its first end token
            articles=spec.articles,
            multilingual=spec.multilingual,
        ),
        tokenizer=tokenizer.content,
        tokenize=tokenizer.tokenize,
        width=net.config.projection_dim,
        sha256=source.sha256,
        to_onnx=lambda: _text_to_onnx(net),
        reference=text_module(_TextEmbeds(net).eval()),
    )


def _half(source: Checkpoint, part: str) -> dict[str, Any]:
    """Of a whole CLIP, a half's configuration with the whole's width: some checkpoints have another in their halves."""
    from transformers import CLIPConfig  # noqa: PLC0415

    if source.config["model_type"] != "clip":
        return {}
    with quiet():
        whole = CLIPConfig.from_pretrained(source.folder, local_files_only=True)
    half = getattr(whole, part)
    half.projection_dim = whole.projection_dim
    return {"config": half}


def _image_to_onnx(net: Any, prepared: ImageInput) -> onnx.ModelProto:
    from sceneseek_export.towers import through_optimum as optimum  # noqa: PLC0415 - takes seconds

    config = optimum.pixels_of(optimum.ClipImage(net.config), prepared.height, prepared.width)
    return optimum.exported(net, config)


def _text_to_onnx(net: Any) -> onnx.ModelProto:
    from sceneseek_export.towers import through_optimum as optimum  # noqa: PLC0415 - takes seconds

    return optimum.exported(net, optimum.ClipText(net.config))
