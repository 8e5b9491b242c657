"""Pixels and texts to vectors: tokenizers, and one run of one graph each."""

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

# Lengths are rounded up to this many tokens: ONNX Runtime keeps a memory plan for every shape it has
# seen, so free lengths would let memory grow with traffic. The mask makes the padding invisible.
BUCKET = 8
_SHORT = 3
# First words of a text that takes no "a": the last line has articles of other languages.
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
    """A batch: `ids` and `mask` int64 (N, L), and per text whether it was cut to the tower's length."""

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64]
    truncated: tuple[bool, ...]


# The ids of one text, cut to the tower's length, and whether it was cut.
_Encoded = tuple[list[int], bool]


def _tokenizer_of_json(path: Path, spec: TextInput) -> Callable[[list[str]], list[_Encoded]]:
    """A file of the `tokenizers` library."""
    tokenizer = _Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(spec.max_tokens)
    return lambda texts: [(e.ids, bool(e.overflowing)) for e in tokenizer.encode_batch_fast(texts)]


# What SentencePiece's rule nmt_nfkc does beside NFKC: control characters go, spaces of other kinds become spaces.
# The reference splits at next line (0x85) too, after the rule.
_REMOVED = [*range(0x01, 0x09), 0x0B, *range(0x0E, 0x20), 0x7F, 0x8F, 0x9F]
_SPACES = [*range(0x09, 0x0E), 0x85, 0x1680, *range(0x200B, 0x2010), 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD]
_CONTROL = {**dict.fromkeys(_SPACES, " "), **dict.fromkeys(_REMOVED)}


def _tokenizer_of_pieces(vocabulary: Unigram, spec: TextInput) -> Callable[[list[str]], list[_Encoded]]:
    most = spec.max_tokens - 2

    def encode(text: str) -> _Encoded:
        ids = vocabulary.encode(unicodedata.normalize("NFKC", text.translate(_CONTROL)))
        return [vocabulary.begin, *ids[:most], vocabulary.end], len(ids) > most

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
        """Tokenize a batch, padded as the input says: to the longest text rounded up to a bucket, or to the limit.

        Args:
            texts: any strings; texts over the limit are cut at the end.
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
        """The text as a tower reads it that learned from captions: short ones in their likeliest case, with an article.

        A telephone capitalizes the first word, and a tower that knows upper from lower case finds less by it.
        """
        if self._pieces is not None and (len(text.split()) <= _SHORT or text.isupper()):
            text = self._pieces.likeliest_case(text)
        return with_article(text)


TowerTokens = Mapping[str, Tokens]

# Vectors of length 1 that are this near point the same way: fp32 stays a thousand times below it.
_SAME = 1e-4


class ImageEncoder:
    """`image.onnx` of a bundle. Thread-safe.

    Args:
        bundle: has the graph.
        device, threads, brief: see `open_session`.

    Attributes:
        inputs: what the graph reads of an image.
        placement: where it runs.

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
            images: for each image one uint8 (H, W, 3) array an image input, as `preprocess.prepare` gives.
        """
        feed = {spec.name: np.stack([image[i] for image in images]) for i, spec in enumerate(self.inputs)}
        found = self._session.run(feed)
        return Vectors(found["joint"], found["head"])


class TextEncoder:
    """The tokenizers and `text.onnx` of a bundle. Thread-safe.

    Args:
        bundle: has them.
        device, threads, brief: see `open_session`.

    Attributes:
        placement: where the graph runs.

    Raises:
        BundleError, RuntimeUnavailable: see `open_session`.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto", threads: int = 0, brief: bool = False) -> None:
        self._towers = bundle.manifest.text_inputs
        # Beside the graph: neither holds the interpreter's lock.
        with ThreadPoolExecutor() as pool:
            opening = {tower.name: pool.submit(Tokenizer, bundle.tokenizer(tower), tower) for tower in self._towers}
            int8 = bundle.manifest.precision == "int8"
            self._session = open_session(bundle.text_graph, device, threads, int8=int8, brief=brief)
            self._tokenizers = {name: tokenizer.result() for name, tokenizer in opening.items()}
        self.placement = self._session.placement

    def tokenize(self, texts: list[str]) -> TowerTokens:
        """Token ids and masks of a batch of texts, by text tower."""
        tokens = {}
        for tower in self._towers:
            tokenizer = self._tokenizers[tower.name]
            tokens[tower.name] = tokenizer([*map(tokenizer.as_read, texts)] if tower.articles else texts)
        return tokens

    def encode_tokens(self, tokens: TowerTokens) -> Vectors:
        """Encode a tokenized batch."""
        offered: dict[str, np.ndarray] = {}
        for name, batch in tokens.items():
            offered |= {f"{name}.input_ids": batch.ids, f"{name}.attention_mask": batch.mask}
        found = self._session.run({name: offered[name] for name in self._session.inputs})
        return Vectors(found["joint"], found["head"])

    def encode(self, texts: list[str]) -> Vectors:
        """Encode a batch of texts."""
        return self.encode_tokens(self.tokenize(texts))


def with_article(text: str) -> str:
    """A text of up to three words with "a" or "an" before it, unless its first word takes none.

    A model that learned from captions ("A dog runs.") gives a bare noun a vector that lies farther from every image.
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
    """Per text whether some tower reads only its beginning."""
    return [any(cut) for cut in zip(*(batch.truncated for batch in tokens.values()), strict=True)]


def together(batches: Sequence[TowerTokens]) -> TowerTokens:
    """Several tokenized batches as one; each tower's are of one length."""
    return {
        name: Tokens(
            np.concatenate([batch[name].ids for batch in batches]),
            np.concatenate([batch[name].mask for batch in batches]),
            tuple(cut for batch in batches for cut in batch[name].truncated),
        )
        for name in batches[0]
    }


def alike(alone: Sequence[Vectors], batch: Vectors) -> bool:
    """Whether what was encoded alone has the vectors in a batch that it had alone.

    It has not where a graph was quantised dynamically: the levels are then taken from all that runs together.
    """
    joint = np.concatenate([vectors.joint for vectors in alone])
    return bool(np.all(1.0 - np.sum(joint * batch.joint, axis=1) <= _SAME))
