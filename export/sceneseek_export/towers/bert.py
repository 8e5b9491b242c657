"""BERT (Devlin et al. 2018): the mean of its token vectors over the mask, or the vector of the first token."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from torch import Tensor

from sceneseek_export.packs import TextTowerSpec
from sceneseek_export.subgraphs import followed_by, subgraph
from sceneseek_export.towers.base import TextTower, text_input
from sceneseek_export.towers.pretrained import (
    exported,
    limit,
    load_model,
    load_tokenizer,
    open_checkpoint,
    torch_text_reference,
)


def bert(spec: TextTowerSpec) -> TextTower:
    """A BertModel of transformers, alone or inside a BertFor... of any task.

    Raises:
        ExportError: see `open_checkpoint`, `load_model`, `load_tokenizer` and `limit`.
    """
    from transformers import BertModel  # noqa: PLC0415 - takes seconds

    source = open_checkpoint(spec)
    net = load_model(source, BertModel, add_pooling_layer=False)
    max_tokens = limit(spec, net.config.max_position_embeddings)
    tokenizer = load_tokenizer(source, spec, max_tokens)
    pad = tokenizer.source.pad_token_id
    return TextTower(
        spec,
        text_input(spec, max_tokens, net.config.pad_token_id if pad is None else pad),
        tokenizer=tokenizer.content,
        tokenize=tokenizer.tokenize,
        width=net.config.hidden_size,
        sha256=source.sha256,
        to_onnx=lambda: _to_onnx(net, spec.pooling),
        reference=torch_text_reference(lambda ids, mask: _pooled(net, spec.pooling, ids, mask)),
    )


def _pooled(net: Any, pooling: str, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    tokens: Tensor = net(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    if pooling == "cls":
        return tokens[:, 0]
    mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * mask).sum(1) / mask.sum(1)


def _to_onnx(net: Any, pooling: str) -> onnx.ModelProto:
    graph = exported(net, "Bert")
    if pooling == "cls":
        return followed_by(graph, _first(), {"tokens": "tokens"})
    return followed_by(graph, _mean(), {"tokens": "tokens", "mask": "attention_mask"})


def _first() -> onnx.ModelProto:
    """``tokens`` (N, L, T) to ``text`` (N, T): the first token of each text."""
    return subgraph(
        "first (float[N,L,T] tokens) => (float[N,T] text) { text = Gather<axis = 1>(tokens, zero) }",
        zero=np.array(0, np.int64),
    )


def _mean() -> onnx.ModelProto:
    """``tokens`` (N, L, T) and ``mask`` (N, L) to ``text`` (N, T): the mean of the tokens whose mask is 1."""
    return subgraph(
        """
        mean (float[N,L,T] tokens, int64[N,L] mask) => (float[N,T] text) {
            weight = Cast<to = 1>(mask)
            column = Unsqueeze(weight, last)
            counted = Mul(tokens, column)
            sum = ReduceSum<keepdims = 0>(counted, length)
            count = ReduceSum<keepdims = 1>(weight, length)
            text = Div(sum, count)
        }""",
        last=np.array([2], np.int64),
        length=np.array([1], np.int64),
    )
