"""Scores of pairs of an image and a caption, equal to those of a search, without an index.

Images are encoded as by the indexer (decode, prepare, `image.onnx`, head vectors rounded to float16), captions as by a
search (`checked_query`, `text.onnx`); `score.onnx` scores all images of a caption in one run.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sceneseek.bundle import Bundle, ImageInput
from sceneseek.encoders import ImageEncoder, TextEncoder
from sceneseek.errors import DataError, InvalidRequest
from sceneseek.progress import Progress
from sceneseek.request import checked_query
from sceneseek.reranker import Reranker
from sceneseek.runtime import Device
from sceneseek.vectors import Candidates, Floats, Vectors
from sceneseek_evaluation.figures import Positions
from sceneseek_indexer.load import Loaded, load
from sceneseek_indexer.pipeline import batched, bounded_map
from sceneseek_indexer.walk import ImageFile, Skipped

_IMAGES, _TEXTS = 16, 64


@dataclass(frozen=True)
class EncodedImages:
    """The vectors of the images that could be encoded, with their `row` by name; the others are `skipped`."""

    vectors: Vectors
    row: dict[str, int]
    skipped: list[Skipped]


def encode_images(bundle: Bundle, files: dict[str, Path], device: Device = "auto") -> EncodedImages:
    """Encode images, given by name, to the vectors that the indexer would store.

    Raises:
        DataError: none of the images can be used.
    """
    encoder = ImageEncoder(bundle, device)
    skipped: list[Skipped] = []
    names: list[str] = []
    joint, head = [], []
    workers = os.cpu_count() or 1
    load_one = functools.partial(_load, inputs=encoder.inputs)
    with ThreadPoolExecutor(workers, "load") as pool, Progress("encoding", len(files), "images") as progress:
        outcomes = bounded_map(load_one, files.items(), pool, window=2 * _IMAGES + workers)
        for batch in batched(outcomes, _IMAGES):
            usable = [outcome for outcome in batch if isinstance(outcome, Loaded)]
            skipped += [outcome for outcome in batch if isinstance(outcome, Skipped)]
            if usable:
                vectors = encoder.encode([image.pixels for image in usable])
                names += [image.file.relative for image in usable]
                joint.append(vectors.joint)
                head.append(vectors.head.astype(np.float16).astype(np.float32))
            progress.advance(len(batch))
    if not names:
        first = f" (the first, {skipped[0].relative}: {skipped[0].what})" if skipped else ""
        raise DataError(f"none of the {len(files):,} images can be used{first}", "check --images")
    vectors = Vectors(np.concatenate(joint), np.concatenate(head))
    return EncodedImages(vectors, {name: row for row, name in enumerate(names)}, skipped)


def encode_texts(bundle: Bundle, texts: Sequence[str], device: Device = "auto") -> Vectors:
    """Encode texts to the vectors that searches for them would use.

    Raises:
        DataError: a text is not a valid query.
    """
    encoder = TextEncoder(bundle, device)
    # A batch is padded to its longest text, so texts of similar length are encoded together.
    order = sorted(range(len(texts)), key=lambda row: len(texts[row].encode()))
    found = []
    with Progress("encoding", len(texts), "texts") as progress:
        for batch in batched(order, _TEXTS):
            found.append(encoder.encode([searchable(texts[row]) for row in batch]))
            progress.advance(len(batch))
    place = np.argsort(order)
    return Vectors(np.concatenate([v.joint for v in found])[place], np.concatenate([v.head for v in found])[place])


def score_pairs(reranker: Reranker, images: Vectors, texts: Vectors, image: Positions, text: Positions) -> Floats:
    """Return the scores (P,) of pairs; `image` and `text` (P,) are rows of `images` and `texts`."""
    scores = np.zeros(len(text), np.float32)
    order = np.argsort(text, kind="stable")
    for pairs in np.split(order, np.flatnonzero(np.diff(text[order])) + 1):
        row, joint = text[pairs[0]], images.joint[image[pairs]]
        candidates = Candidates(
            ids=[str(i) for i in image[pairs]],
            similarity=joint @ texts.joint[row],
            joint=joint,
            head=images.head[image[pairs]],
        )
        scores[pairs] = reranker.score(candidates, texts.joint[row], texts.head[row])
    return scores


def searchable(caption: str) -> str:
    """Return the caption as a normalized query.

    Raises:
        DataError: the caption is not a valid query.
    """
    try:
        return checked_query(caption)
    except InvalidRequest as error:
        raise DataError(f"the caption {caption[:60]!r} is not a valid query ({error.what})", error.hint) from error


def _load(named: tuple[str, Path], inputs: tuple[ImageInput, ...]) -> Loaded | Skipped:
    name, path = named
    try:
        path = path.resolve(strict=True)
        status = path.stat()
    except (OSError, RuntimeError) as error:  # pathlib raises RuntimeError for a loop of links
        return Skipped(name, "unreadable", f"cannot be read ({error})")
    found = load(ImageFile(path.name, path.parent, status.st_size, status.st_mtime_ns), inputs)
    if isinstance(found, Skipped):
        return replace(found, relative=name)
    return replace(found, file=replace(found.file, relative=name))
