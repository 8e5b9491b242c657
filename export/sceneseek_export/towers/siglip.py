"""SigLIP and SigLIP 2 of fixed resolution (Zhai et al. 2023, Tschannen et al. 2025): two towers that share a space."""

from __future__ import annotations

import math

from sceneseek.errors import ExportError
from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec
from sceneseek_export.towers.base import ImageTower, TextTower, text_input
from sceneseek_export.towers.preprocessor import fixed_size, image_input
from sceneseek_export.towers.pretrained import (
    exported,
    limit,
    load_model,
    load_numbers,
    load_tokenizer,
    open_checkpoint,
    torch_image_reference,
    torch_text_reference,
)


def siglip_image(spec: ImageTowerSpec) -> ImageTower:
    """The image half of a SiglipModel of transformers, or a SiglipVisionModel.

    Raises:
        ExportError: see `open_checkpoint`, `load_model`, `image_input` and `fixed_size`; or it has no pooling head.
    """
    from transformers import SiglipVisionModel  # noqa: PLC0415 - takes seconds

    source = open_checkpoint(spec)
    prepared = image_input(spec, source.folder)
    net = load_model(source, SiglipVisionModel)
    if not getattr(net.config, "vision_use_head", True):
        raise ExportError(f"tower {spec.name!r} has no pooling head in {source.folder}", "choose another checkpoint")
    fixed_size(spec, prepared, net.config.image_size)
    return ImageTower(
        spec,
        prepared,
        features=net.config.hidden_size,
        classes=0,
        sha256=source.sha256,
        to_onnx=lambda: exported(net, "SiglipImage", prepared),
        reference=torch_image_reference(lambda pixels: net(pixel_values=pixels).pooler_output),
    )


def siglip_text(spec: TextTowerSpec) -> TextTower:
    """The text half of a SiglipModel of transformers, or a SiglipTextModel.

    Raises:
        ExportError: see `open_checkpoint`, `load_model`, `load_tokenizer` and `limit`; or `max_tokens` is less than in
            training, or its tokenizer has no padding token.
    """
    from transformers import SiglipTextModel  # noqa: PLC0415 - takes seconds

    source = open_checkpoint(spec)
    net = load_model(source, SiglipTextModel)
    max_tokens = limit(spec, net.config.max_position_embeddings)
    trained = net.config.max_position_embeddings
    if max_tokens != trained:
        raise ExportError(
            f"tower {spec.name!r} was trained on texts of {trained} tokens, padding included",
            "remove its max_tokens",
        )
    tokenizer = load_tokenizer(source, spec, max_tokens, padded=True)
    pad = tokenizer.source.pad_token_id
    if pad is None:
        raise ExportError(
            f"the tokenizer of tower {spec.name!r} has no padding token",
            "the tower was trained on padded texts: choose another checkpoint",
        )
    curve = load_numbers(source, "logit_scale", "logit_bias")
    return TextTower(
        spec,
        text_input(spec, max_tokens, pad, padding="max_tokens"),
        tokenizer=tokenizer.content,
        tokenize=tokenizer.tokenize,
        width=net.config.projection_size,
        sha256=source.sha256,
        to_onnx=lambda: exported(net, "SiglipText"),
        # Without a mask: the model was trained on padded texts without masks.
        reference=torch_text_reference(lambda ids, _: net(input_ids=ids).pooler_output),
        curve=None if curve is None else (math.exp(curve[0]), curve[1]),
    )
