"""Image files to vectors: loader threads and encoder threads, each a bounded window over the previous step."""

from __future__ import annotations

import functools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sceneseek.bundle import Bundle
from sceneseek.encoders import ImageEncoder
from sceneseek.progress import Progress
from sceneseek.vectors import Vectors
from sceneseek_indexer.load import Loaded, content_hash, load
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.sync_plan import Place, place
from sceneseek_indexer.walk import ImageFile, Skipped

if TYPE_CHECKING:
    from sceneseek_indexer.ocr import TextReader

Item = TypeVar("Item")
Result = TypeVar("Result")
Wanted = Callable[[Loaded], bool]
# Images in one run of the graph. On a CPU more together gain nothing, and at the end fewer threads are busy.
_BATCH, _BATCH_ON_CPU = 16, 4
# Images for which it takes longer to prepare the graph than it saves.
_FEW = 16
# Hashing fewer files shows no progress.
_MANY = 1_000
# Objects that are read at once; each holds at most 16 MB in memory.
_REMOTE_LOADERS = 16


def bounded_map(
    function: Callable[[Item], Result], items: Iterable[Item], pool: Executor, window: int
) -> Iterator[Result]:
    """`map` over a pool, in order, with at most `window` results under way or waiting, which begin at once.

    Unlike `Executor.map`, the source is read only as fast as the results are taken.
    """
    source = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(source, window))
    return _results(function, source, pool, waiting)


def _results(
    function: Callable[[Item], Result], source: Iterator[Item], pool: Executor, waiting: deque[Future[Result]]
) -> Iterator[Result]:
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(source, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last one may be shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def workers(options: BuildOptions) -> int:
    """The number of loader threads, and of encoder threads."""
    return options.workers or os.cpu_count() or 1


def loader_threads(options: BuildOptions, files: Sequence[ImageFile]) -> int:
    """Where files come over a network there are more of them, since each waits for most of its time."""
    remote = any(not isinstance(file.folder, Path) for file in files)
    return max(workers(options), _REMOTE_LOADERS if remote else 0)


def batch_size(options: BuildOptions, encoder: ImageEncoder, images: int) -> int:
    """The images in one run of the graph: for few images less, so that each thread has something to do."""
    most = options.batch or (_BATCH_ON_CPU if encoder.placement.device == "cpu" else _BATCH)
    return max(1, min(most, -(-images // workers(options))))


def hash_contents(files: Sequence[ImageFile], options: BuildOptions) -> dict[Place, str]:
    """The sha256 of files' contents; those that cannot be read are left out."""
    found: dict[Place, str] = {}
    if not files:
        return found
    count = loader_threads(options, files)
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
    reader: TextReader | None = None,
) -> Iterator[tuple[list[Loaded], Vectors]]:
    """Batches of images with their vectors, in the files' order.

    Args:
        files: the files to encode.
        bundle: the bundle whose image graph encodes.
        options: of the run.
        seconds: the times of the stages ``load`` and ``encode``, summed over all threads, are added to it.
        wanted: called with every loaded image; an image is encoded only if it returns True.
        on_skipped: called with every file that cannot be used; an exception ends the run.
        reader: reads the text in the images.
    """
    count, loading = workers(options), loader_threads(options, files)
    inputs = bundle.manifest.image_inputs
    load_one = functools.partial(load, inputs=inputs, max_pixels=options.max_pixels, exif=options.exif, reader=reader)

    def encode(images: list[Loaded]) -> tuple[list[Loaded], Vectors, float]:
        start = time.perf_counter()
        vectors = encoder.encode([image.pixels for image in images])
        return images, vectors, time.perf_counter() - start

    with (
        ThreadPoolExecutor(loading, "load") as loaders,
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

        outcomes = bounded_map(load_one, files, loaders, window=2 * (options.batch or _BATCH) + loading)
        # Opened while the first images are loaded.
        encoder = ImageEncoder(bundle, options.device, threads=1, brief=len(files) <= _FEW)
        size = batch_size(options, encoder, len(files))
        for images, vectors, took in bounded_map(encode, batched(usable(outcomes), size), encoders, count + 1):
            seconds["encode"] += took
            yield images, vectors
            progress.advance(len(images))
