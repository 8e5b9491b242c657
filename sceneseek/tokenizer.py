"""Texts to token ids and masks, by the `tokenizers` library alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as _Tokenizer

from sceneseek.errors import BundleError
from sceneseek.manifest import TextInput

# Lengths are rounded up to this many tokens: ONNX Runtime keeps a memory plan for every shape it has
# seen, so free lengths would let memory grow with traffic. The mask makes the padding invisible.
BUCKET = 8


@dataclass(frozen=True, slots=True)
class Tokens:
    """A batch: `ids` and `mask` int64 (N, L), and per text whether it was cut to the tower's length."""

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64]
    truncated: tuple[bool, ...]


class Tokenizer:
    """The tokenizer of one text tower, with its length limit.

    Raises:
        BundleError: the tokenizer file cannot be read.
    """

    def __init__(self, path: Path, spec: TextInput) -> None:
        try:
            self._tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:
            raise BundleError(f"the tokenizer {path} cannot be read ({error})") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)
        self._spec = spec

    def __call__(self, texts: list[str]) -> Tokens:
        """Tokenize a batch, padded as the input says: to the longest text rounded up to a bucket, or to the limit.

        Args:
            texts: any strings; texts over the limit are cut at the end.
        """
        encodings = self._tokenizer.encode_batch_fast(texts)
        length = self._spec.max_tokens
        if self._spec.padding == "bucket":
            longest = max((len(e.ids) for e in encodings), default=0)
            length = min(max(-(-longest // BUCKET), 1) * BUCKET, length)
        ids = np.full((len(texts), length), self._spec.pad_id, dtype=np.int64)
        mask = np.zeros((len(texts), length), dtype=np.int64)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        return Tokens(ids, mask, tuple(bool(e.overflowing) for e in encodings))
