"""CLIP (Radford et al. 2021): an image and a text tower that share a space; vectors are not scaled to length 1."""

from __future__ import annotations

from typing import Any

from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec
from sceneseek_export.towers.base import ImageTower, TextTower, text_input
from sceneseek_export.towers.preprocessor import fixed_size, image_input
from sceneseek_export.towers.pretrained import (
    Checkpoint,
    exported,
    limit,
    load_model,
    load_tokenizer,
    open_checkpoint,
    quiet,
    torch_image_reference,
    torch_text_reference,
)


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
        to_onnx=lambda: exported(net, "ClipImage", prepared),
        reference=torch_image_reference(lambda pixels: net(pixel_values=pixels).image_embeds),
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
        # The pad token is the end token: a text's vector is that of its first end token.
        text_input(spec, max_tokens, tokenizer.source.eos_token_id),
        tokenizer=tokenizer.content,
        tokenize=tokenizer.tokenize,
        width=net.config.projection_dim,
        sha256=source.sha256,
        to_onnx=lambda: exported(net, "ClipText"),
        reference=torch_text_reference(lambda ids, mask: net(input_ids=ids, attention_mask=mask).text_embeds),
    )


def _half(source: Checkpoint, part: str) -> dict[str, Any]:
    """Options to load one half of a whole CLIP, with the whole's width: the halves of some checkpoints have another."""
    from transformers import CLIPConfig  # noqa: PLC0415

    if source.config["model_type"] != "clip":
        return {}
    with quiet():
        whole = CLIPConfig.from_pretrained(source.folder, local_files_only=True)
    half = getattr(whole, part)
    half.projection_dim = whole.projection_dim
    return {"config": half}
