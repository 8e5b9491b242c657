"""Encodes image files: loader threads and encoder threads, each with a bounded window over the previous step.

A `Pipeline` runs in one process. `encode_files` runs one in this process, or one in each process of a Ray cluster
(`on_ray`).
"""

from __future__ import annotations

import functools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sceneseek.bundle import Bundle
from sceneseek.encoders import ImageEncoder
from sceneseek.progress import Progress
from sceneseek.vectors import Vectors
from sceneseek_indexer.inventory import SizedIterable
from sceneseek_indexer.load import Loaded, content_hash, load
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.walk import ImageFile, Skipped

if TYPE_CHECKING:
    from sceneseek_indexer.ocr import TextReader

Item = TypeVar("Item")
Result = TypeVar("Result")
Wanted = Callable[[Loaded], bool]
OnSkipped = Callable[[Skipped], None]
Encoded = tuple[list[Loaded], Vectors]
NodeFigures = dict[str, dict[str, float]]
"""By node name: the number of ``images`` encoded there, and the ``seconds`` of loading and encoding them."""
# Images per run of the graph. On a CPU, larger batches are no faster, and fewer threads are busy at the end.
BATCH, _BATCH_ON_CPU = 16, 4
# Up to this number of images, preparing the weights takes longer than it saves.
_FEW = 16
# Minimum number of files for which hashing shows progress.
_MANY = 1_000
# Objects read concurrently; each takes at most 16 MB of memory.
_REMOTE_LOADERS = 16


def bounded_map(
    function: Callable[[Item], Result], items: Iterable[Item], pool: Executor, window: int
) -> Iterator[Result]:
    """Map over a pool, in order, with at most `window` results running or waiting, which start at once.

    Unlike in `Executor.map`, items are read only as fast as results are consumed.
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
    """Yield lists of `size` items; the last list may be shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def workers(options: BuildOptions) -> int:
    """The number of loader threads, and of encoder threads."""
    return options.workers or os.cpu_count() or 1


def loader_threads(files: SizedIterable[ImageFile]) -> int:
    """The minimum number of loader threads: those that read over a network wait most of the time."""
    return _REMOTE_LOADERS if any(not isinstance(file.folder, Path) for file in files) else 0


def batch_size(options: BuildOptions, encoder: ImageEncoder, images: int) -> int:
    """The images per run of the graph: fewer if there are few images, so that every thread is busy."""
    most = options.batch or (_BATCH_ON_CPU if encoder.placement.device == "cpu" else BATCH)
    return max(1, min(most, -(-images // workers(options))))


def hash_contents(files: SizedIterable[ImageFile], options: BuildOptions) -> Iterator[tuple[ImageFile, str]]:
    """Yield files with their sha256, except unreadable files."""
    if not files:
        return
    count = max(workers(options), loader_threads(files))
    with ThreadPoolExecutor(count, "hash") as pool:
        hashes = bounded_map(content_hash, files, pool, window=4 * count)
        if len(files) >= _MANY:
            hashes = _with_progress(hashes, len(files))
        for file, sha256 in zip(files, hashes, strict=True):
            if sha256 is not None:
                yield file, sha256


def _with_progress(hashes: Iterator[str | None], total: int) -> Iterator[str | None]:
    with Progress("comparing", total, "files") as progress:
        for sha256 in hashes:
            progress.advance()
            yield sha256


class Pipeline:
    """Loader threads and encoder threads for one session of the image graph, until the block ends.

    Args:
        bundle: the bundle with the image graph.
        options: of the run.
        reader: reads text in the images, if given.
        brief: whether there are only a few images, see `sceneseek.runtime.open_session`.
        loaders: the minimum number of loader threads; there are at least as many as encoder threads.

    Raises:
        BundleError, RuntimeUnavailable: see `ImageEncoder`; when the first images are encoded.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: BuildOptions,
        reader: TextReader | None = None,
        brief: bool = False,
        loaders: int = 0,
    ) -> None:
        self._bundle, self._options, self._brief = bundle, options, brief
        self._count = workers(options)
        self._loading = max(loaders, self._count)
        inputs = bundle.manifest.image_inputs
        self._load = functools.partial(
            load, inputs=inputs, max_pixels=options.max_pixels, exif=options.exif, reader=reader
        )
        self._loaders = ThreadPoolExecutor(self._loading, "load")
        self._encoders = ThreadPoolExecutor(self._count, "encode")

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self._encoders.shutdown()
        self._loaders.shutdown()

    def run(
        self, files: SizedIterable[ImageFile], seconds: dict[str, float], wanted: Wanted, on_skipped: OnSkipped
    ) -> Iterator[Encoded]:
        """Yield batches of images with their vectors, in the order of the files; arguments as in `encode_files`."""
        outcomes = bounded_map(
            self._load, files, self._loaders, window=2 * (self._options.batch or BATCH) + self._loading
        )

        def usable() -> Iterator[Loaded]:
            for outcome in outcomes:
                if isinstance(outcome, Skipped):
                    on_skipped(outcome)
                else:
                    seconds["load"] += outcome.seconds
                    if wanted(outcome):
                        yield outcome

        # The session is opened while the first images are loaded.
        batches = batched(usable(), batch_size(self._options, self.encoder, len(files)))
        for images, vectors, took in bounded_map(self._encode, batches, self._encoders, self._count + 1):
            seconds["encode"] += took
            yield images, vectors

    @functools.cached_property
    def encoder(self) -> ImageEncoder:
        """The session, opened on first use."""
        return ImageEncoder(self._bundle, self._options.device, threads=1, brief=self._brief)

    def _encode(self, images: list[Loaded]) -> tuple[list[Loaded], Vectors, float]:
        start = time.perf_counter()
        vectors = self.encoder.encode([image.pixels for image in images])
        return images, vectors, time.perf_counter() - start


def encode_files(
    files: SizedIterable[ImageFile],
    bundle: Bundle,
    options: BuildOptions,
    seconds: dict[str, float],
    wanted: Wanted,
    on_skipped: OnSkipped,
    reader: TextReader | None = None,
    nodes: NodeFigures | None = None,
) -> Iterator[Encoded]:
    """Yield batches of images with their vectors: in the order of the files, or on a cluster in order of completion.

    Args:
        files: the files to encode.
        bundle: the bundle with the image graph.
        options: of the run.
        seconds: updated with the times of the stages ``load`` and ``encode``, summed over all threads.
        wanted: called with every loaded image; an image is encoded, or on a cluster returned, only if it returns True.
        on_skipped: called with every file that cannot be used; an exception ends the run.
        reader: reads text in the images, if given.
        nodes: updated with the figures of each node of a cluster.

    Raises:
        BundleError, RuntimeUnavailable: the session cannot be opened.
        MissingExtra, ClusterError, SourceError: see `on_ray.encode_on_ray`.
    """
    with Progress("indexing", len(files), "images") as progress:

        def is_wanted(image: Loaded) -> bool:
            if wanted(image):
                return True
            progress.advance()
            return False

        def skip(entry: Skipped) -> None:
            progress.advance()
            on_skipped(entry)

        for images, vectors in _encoded(files, bundle, options, seconds, is_wanted, skip, reader, nodes):
            yield images, vectors
            progress.advance(len(images))


def _encoded(
    files: SizedIterable[ImageFile],
    bundle: Bundle,
    options: BuildOptions,
    seconds: dict[str, float],
    wanted: Wanted,
    on_skipped: OnSkipped,
    reader: TextReader | None,
    nodes: NodeFigures | None,
) -> Iterator[Encoded]:
    if options.on != "local":
        from sceneseek_indexer.on_ray import encode_on_ray  # noqa: PLC0415 - an extra

        figures = {} if nodes is None else nodes
        yield from encode_on_ray(files, bundle, options, seconds, wanted, on_skipped, reader is not None, figures)
    else:
        with Pipeline(bundle, options, reader, len(files) <= _FEW, loader_threads(files)) as pipeline:
            yield from pipeline.run(files, seconds, wanted, on_skipped)
