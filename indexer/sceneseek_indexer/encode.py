"""Image files to vectors: loader threads and encoder threads, each a bounded window over the step before."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from sceneseek.bundle import Bundle
from sceneseek.encoders import ImageEncoder
from sceneseek.progress import Progress
from sceneseek.vectors import Vectors
from sceneseek_indexer.load import Loaded, content_hash, load
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.pipeline import batched, bounded_map
from sceneseek_indexer.sync_plan import Place, place
from sceneseek_indexer.walk import ImageFile, Skipped

Wanted = Callable[[Loaded], bool]
# Below this many files, hashing them takes no time worth a line.
_MANY = 1_000


def workers(options: BuildOptions) -> int:
    """How many threads load, and how many encode."""
    return options.workers or os.cpu_count() or 1


def hash_contents(files: Sequence[ImageFile], options: BuildOptions) -> dict[Place, str]:
    """The sha256 of files' contents; those that cannot be read are left out."""
    found: dict[Place, str] = {}
    if not files:
        return found
    count = workers(options)
    with ThreadPoolExecutor(count, "hash") as pool:
        hashes = bounded_map(content_hash, files, pool, window=4 * count)
        if len(files) >= _MANY:
            hashes = _shown(hashes, len(files))
        for file, sha256 in zip(files, hashes, strict=True):
            if sha256 is not None:
                found[place(file)] = sha256
    return found


def _shown(hashes: Iterator[str | None], total: int) -> Iterator[str | None]:
    with Progress("comparing", total, "files") as progress:
        for sha256 in hashes:
            progress.advance()
            yield sha256


def encode_files(
    files: Sequence[ImageFile],
    bundle: Bundle,
    options: BuildOptions,
    seconds: dict[str, float],
    wanted: Wanted,
    on_skipped: Callable[[Skipped], None],
) -> Iterator[tuple[list[Loaded], Vectors]]:
    """Batches of images with their vectors, in the files' order.

    Args:
        files: what to encode.
        bundle: whose image graph encodes.
        options: how.
        seconds: what the stages ``load`` and ``encode`` take, over all threads, is added here.
        wanted: called for every image that could be loaded; one that it refuses is not encoded.
        on_skipped: called for every file that cannot be used; what it raises ends the work.
    """
    encoder = ImageEncoder(bundle, options.device, threads=1)
    count = workers(options)
    load_one = functools.partial(load, inputs=encoder.inputs, max_pixels=options.max_pixels, exif=options.exif)

    def encode(images: list[Loaded]) -> tuple[list[Loaded], Vectors, float]:
        start = time.perf_counter()
        vectors = encoder.encode([image.pixels for image in images])
        return images, vectors, time.perf_counter() - start

    with (
        ThreadPoolExecutor(count, "load") as loaders,
        ThreadPoolExecutor(count, "encode") as encoders,
        Progress("indexing", len(files), "images") as progress,
    ):

        def usable(outcomes: Iterable[Loaded | Skipped]) -> Iterator[Loaded]:
            for outcome in outcomes:
                if isinstance(outcome, Skipped):
                    progress.advance()
                    on_skipped(outcome)
                    continue
                seconds["load"] += outcome.seconds
                if wanted(outcome):
                    yield outcome
                else:
                    progress.advance()

        outcomes = bounded_map(load_one, files, loaders, window=2 * options.batch + count)
        batches = batched(usable(outcomes), options.batch)
        for images, vectors, took in bounded_map(encode, batches, encoders, count + 1):
            seconds["encode"] += took
            yield images, vectors
            progress.advance(len(images))
