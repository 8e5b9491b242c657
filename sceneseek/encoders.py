"""Encoders: pixels and texts to vectors; each call tokenizes (texts only) and runs one graph."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as _Tokenizer

from sceneseek.bundle import Bundle, TextInput
from sceneseek.errors import BundleError
from sceneseek.preprocess import Pixels
from sceneseek.runtime import Device, open_session
from sceneseek.unigram import Unigram
from sceneseek.vectors import Vectors

# Lengths are rounded up to a multiple of this many tokens: ONNX Runtime keeps a memory plan for every shape it has
# seen, so memory would grow with the number of lengths. The attention mask hides the padding.
BUCKET = 8
_SHORT = 3
# Words that, at the start of a text, rule out an article before it; the last line has articles of other languages.
_NO_ARTICLE = """
a an the this that these those such my your his her its our their whose some any no each every all both either neither
many much several few more most other another half one two three four five six seven eight nine ten eleven twelve dozens
hundreds i you he she it we they there here who what when where why how which is are was were has have had do does did
can not without except in on at by with from of off to into onto over under above below near behind beside between
inside outside around along across through during before after for against and or but if
ein eine der die das un una une uno le la les el los las il lo het de det et ett en egy els um uma
"""
_WITHOUT_ARTICLE = frozenset(_NO_ARTICLE.split())


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenized batch: `ids` and `mask` int64 (N, L), and per text whether it was truncated to the tower's limit."""

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64]
    truncated: tuple[bool, ...]


# The ids of one text, truncated to the tower's limit, and whether it was truncated.
_Encoded = tuple[list[int], bool]


def _tokenizer_of_json(path: Path, spec: TextInput) -> Callable[[list[str]], list[_Encoded]]:
    """A tokenizer from a file of the `tokenizers` library."""
    tokenizer = _Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(spec.max_tokens)
    return lambda texts: [(e.ids, bool(e.overflowing)) for e in tokenizer.encode_batch_fast(texts)]


# SentencePiece's rule nmt_nfkc without its NFKC part: control characters are removed, and other white space is replaced
# with spaces. The reference implementation also splits at next line (0x85), after the rule.
_REMOVED = [*range(0x01, 0x09), 0x0B, *range(0x0E, 0x20), 0x7F, 0x8F, 0x9F]
_SPACES = [*range(0x09, 0x0E), 0x85, 0x1680, *range(0x200B, 0x2010), 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD]
_CONTROL = {**dict.fromkeys(_SPACES, " "), **dict.fromkeys(_REMOVED)}


def _tokenizer_of_pieces(vocabulary: Unigram, spec: TextInput) -> Callable[[list[str]], list[_Encoded]]:
    limit = spec.max_tokens - 2

    def encode(text: str) -> _Encoded:
        ids = vocabulary.encode(unicodedata.normalize("NFKC", text.translate(_CONTROL)))
        return [vocabulary.begin, *ids[:limit], vocabulary.end], len(ids) > limit

    return lambda texts: [encode(text) for text in texts]


class Tokenizer:
    """The tokenizer of one text tower, with its length limit.

    Raises:
        BundleError: the tokenizer file cannot be read.
    """

    def __init__(self, path: Path, spec: TextInput) -> None:
        self._pieces: Unigram | None = None
        try:
            if path.suffix == ".npz":
                self._pieces = Unigram.read(path)
                self._encode = _tokenizer_of_pieces(self._pieces, spec)
            else:
                self._encode = _tokenizer_of_json(path, spec)
        except Exception as error:
            raise BundleError(
                f"the tokenizer {path} cannot be read ({error})", "write the bundle again with `sceneseek export`"
            ) from error
        self._spec = spec

    def __call__(self, texts: list[str]) -> Tokens:
        """Tokenize a batch, padded according to `TextInput.padding`.

        Args:
            texts: any strings; texts that exceed the limit are truncated.
        """
        encoded = self._encode([self._spec.prefix + text for text in texts])
        length = self._spec.max_tokens
        if self._spec.padding == "bucket":
            longest = max((len(own) for own, _ in encoded), default=0)
            length = min(max(-(-longest // BUCKET), 1) * BUCKET, length)
        ids = np.full((len(texts), length), self._spec.pad_id, dtype=np.int64)
        mask = np.zeros((len(texts), length), dtype=np.int64)
        for row, (own, _) in enumerate(encoded):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        return Tokens(ids, mask, tuple(cut for _, cut in encoded))

    def as_read(self, text: str) -> str:
        """Adapt a short text to a tower trained on captions: likeliest case, and an article.

        Phones capitalize the first word, which makes a case-sensitive tower find less.
        """
        if self._pieces is not None and (len(text.split()) <= _SHORT or text.isupper()):
            text = self._pieces.likeliest_case(text)
        return with_article(text)


TowerTokens = Mapping[str, Tokens]

# Unit vectors within this cosine distance count as equal; fp32 rounding stays a thousand times below it.
_TOLERANCE = 1e-4


class ImageEncoder:
    """`image.onnx` of a bundle. Thread-safe.

    Args:
        bundle: contains the graph.
        device, threads, brief: see `open_session`.

    Attributes:
        inputs: the image inputs of the graph.
        placement: the device that runs the graph.

    Raises:
        BundleError, RuntimeUnavailable: see `open_session`.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto", threads: int = 0, brief: bool = False) -> None:
        self.inputs = bundle.manifest.image_inputs
        int8 = bundle.manifest.precision == "int8"
        self._session = open_session(bundle.image_graph, device, threads, int8=int8, brief=brief)
        self.placement = self._session.placement

    def encode(self, images: Sequence[tuple[Pixels, ...]]) -> Vectors:
        """Encode a batch.

        Args:
            images: for each image, one uint8 (H, W, 3) array per image input, as returned by `preprocess.prepare`.
        """
        feed = {spec.name: np.stack([image[i] for image in images]) for i, spec in enumerate(self.inputs)}
        outputs = self._session.run(feed)
        return Vectors(outputs["joint"], outputs["head"])


class TextEncoder:
    """The tokenizers and `text.onnx` of a bundle. Thread-safe.

    Args:
        bundle: contains them.
        device, threads, brief: see `open_session`.

    Attributes:
        placement: the device that runs the graph.

    Raises:
        BundleError, RuntimeUnavailable: see `open_session`.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto", threads: int = 0, brief: bool = False) -> None:
        self._towers = bundle.manifest.text_inputs
        # Tokenizers load in parallel with the graph: neither holds the GIL.
        with ThreadPoolExecutor() as pool:
            opening = {tower.name: pool.submit(Tokenizer, bundle.tokenizer(tower), tower) for tower in self._towers}
            int8 = bundle.manifest.precision == "int8"
            self._session = open_session(bundle.text_graph, device, threads, int8=int8, brief=brief)
            self._tokenizers = {name: tokenizer.result() for name, tokenizer in opening.items()}
        self.placement = self._session.placement

    def tokenize(self, texts: list[str]) -> TowerTokens:
        """Tokenize a batch of texts for each text tower, by name."""
        tokens = {}
        for tower in self._towers:
            tokenizer = self._tokenizers[tower.name]
            tokens[tower.name] = tokenizer([*map(tokenizer.as_read, texts)] if tower.articles else texts)
        return tokens

    def encode_tokens(self, tokens: TowerTokens) -> Vectors:
        """Encode a tokenized batch."""
        available: dict[str, np.ndarray] = {}
        for name, batch in tokens.items():
            available |= {f"{name}.input_ids": batch.ids, f"{name}.attention_mask": batch.mask}
        outputs = self._session.run({name: available[name] for name in self._session.inputs})
        return Vectors(outputs["joint"], outputs["head"])

    def encode(self, texts: list[str]) -> Vectors:
        """Encode a batch of texts."""
        return self.encode_tokens(self.tokenize(texts))


def with_article(text: str) -> str:
    """Prepend "a" or "an" to a text of up to three words, unless its first word rules out an article.

    A model trained on captions ("A dog runs.") places a bare noun farther from every image.
    docs/explanation/experiments.md has the figures.
    """
    words = text.split()
    if not 1 <= len(words) <= _SHORT:
        return text
    first = words[0].lower().strip(".,;:!?\"'()")
    if not (first.isascii() and first.isalpha()) or first in _WITHOUT_ARTICLE:
        return text
    return f"{'an' if first[0] in 'aeiou' else 'a'} {' '.join(words)}"


def truncated(tokens: TowerTokens) -> list[bool]:
    """Per text, whether it was truncated for any tower."""
    return [any(cut) for cut in zip(*(batch.truncated for batch in tokens.values()), strict=True)]


def together(batches: Sequence[TowerTokens]) -> TowerTokens:
    """Concatenate tokenized batches, which must have the same length for each tower."""
    return {
        name: Tokens(
            np.concatenate([batch[name].ids for batch in batches]),
            np.concatenate([batch[name].mask for batch in batches]),
            tuple(cut for batch in batches for cut in batch[name].truncated),
        )
        for name in batches[0]
    }


def alike(alone: Sequence[Vectors], batch: Vectors) -> bool:
    """Whether vectors encoded one by one equal those encoded as a batch.

    Not if the graph was quantised dynamically: quantisation levels then depend on the whole batch.
    """
    joint = np.concatenate([vectors.joint for vectors in alone])
    return bool(np.all(1.0 - np.sum(joint * batch.joint, axis=1) <= _TOLERANCE))
