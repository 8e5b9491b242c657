"""Images per second: the indexer end to end, compared with its loader threads alone and its encoder threads alone.

If both kinds of thread share the same cores, the end-to-end rate cannot reach the slower of the two: an image costs
loading plus encoding. So a second floor is given, the rate of both on the same cores without overhead, and the CPU time
per image, which hardly depends on other load on the machine.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.report import Figure, Goal, Section
from benchmarks.timing import cores, measure
from sceneseek.bundle import Bundle
from sceneseek.encoders import ImageEncoder
from sceneseek.errors import SourceError
from sceneseek.preprocess import Pixels
from sceneseek.store.edge import EdgeStore
from sceneseek_indexer.build import BuildOptions, index_folder
from sceneseek_indexer.load import Loaded, load
from sceneseek_indexer.pipeline import batch_size, batched, bounded_map
from sceneseek_indexer.walk import ImageFile, Listing

GOAL = Goal("ratio", 0.85, "least")
# Prepared pictures that encode-only cycles through; those of a large folder would not fit in memory.
_PREPARED = 512
_WARM_UP = 32


@dataclass(frozen=True, slots=True)
class Run:
    """One run over `images`: wall-clock seconds, and CPU seconds of this process."""

    images: int
    seconds: float
    processor: float
    upsert: float = 0.0
    optimise: float = 0.0

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds

    @property
    def cost(self) -> float:
        """Milliseconds of CPU time per image."""
        return self.processor * 1e3 / self.images


class Indexing:
    """The three kinds of run over the same files.

    Args:
        bundle: the bundle.
        folder: the folder of the files.
        files: the files to index.
        home: the directory of the index, removed before each run.
        options: options of the indexer, also used by the parts measured alone.
    """

    def __init__(self, bundle: Bundle, folder: Path, files: list[ImageFile], home: Path, options: BuildOptions) -> None:
        self._bundle, self._folder, self._files, self._home = bundle, folder, files, home
        self._options = options
        self._workers = options.workers or cores()
        self._encoder = ImageEncoder(bundle, options.device, threads=1)
        self._load = functools.partial(load, inputs=self._encoder.inputs, max_pixels=options.max_pixels)
        prepared = [p for p in map(self._load, files[:_PREPARED]) if isinstance(p, Loaded)]
        if not prepared:
            raise SourceError(f"none of the first images in {folder} can be used", "name another --images")
        self._prepared: list[tuple[Pixels, ...]] = [p.pixels for p in prepared]

    def rounds(self, count: int, log: Callable[[str], None]) -> dict[str, list[Run]]:
        """Measure every kind of run, interleaved, after a short warm-up of each."""
        for warm_up in (self.end_to_end, self.decode_only, self.encode_only):
            warm_up(self._files[:_WARM_UP])
        parts = {
            "end to end": functools.partial(self.end_to_end, self._files),
            "decode only": functools.partial(self.decode_only, self._files),
            "encode only": functools.partial(self.encode_only, self._files),
        }
        # Queries use the index of the last end-to-end run, which always contains all files.
        return measure(parts, count, log)

    def end_to_end(self, files: list[ImageFile]) -> Run:
        """Run the indexer on an empty store, from the listing to the published generation."""
        shutil.rmtree(self._home, ignore_errors=True)
        start, processor = time.perf_counter(), time.process_time()
        report = index_folder(self._folder, self._bundle, EdgeStore(self._home), self._options, Listing(list(files)))
        return Run(
            report.usable + len(report.skipped),
            time.perf_counter() - start,
            time.process_time() - processor,
            report.seconds["upsert"],
            report.seconds["optimise"],
        )

    def decode_only(self, files: list[ImageFile]) -> Run:
        """Run the loader threads: read, decode, resize, hash."""
        start, processor = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(self._workers) as pool:
            window = 2 * batch_size(self._options, self._encoder, len(files)) + self._workers
            done = sum(1 for _ in bounded_map(self._load, files, pool, window))
        return Run(done, time.perf_counter() - start, time.process_time() - processor)

    def encode_only(self, files: list[ImageFile]) -> Run:
        """Run the encoder threads on as many prepared pictures as there are files."""
        start, processor = time.perf_counter(), time.process_time()
        size = batch_size(self._options, self._encoder, len(files))
        batches = batched(islice(cycle(self._prepared), len(files)), size)
        with ThreadPoolExecutor(self._workers) as pool:
            done = sum(len(v) for v in bounded_map(self._encoder.encode, batches, pool, self._workers + 1))
        return Run(done, time.perf_counter() - start, time.process_time() - processor)


def section(runs: dict[str, list[Run]]) -> Section:
    """Report `Indexing.rounds`."""
    whole, decode, encode = runs["end to end"], runs["decode only"], runs["encode only"]
    slower = [min(d.rate, e.rate) for d, e in zip(decode, encode, strict=True)]
    shared = [1 / (1 / d.rate + 1 / e.rate) for d, e in zip(decode, encode, strict=True)]
    cost = [d.cost + e.cost for d, e in zip(decode, encode, strict=True)]
    rates = [run.rate for run in whole]
    return Section(
        f"Indexing {whole[0].images:,} images",
        [
            Figure("decode only", "images/s", [run.rate for run in decode]),
            Figure("encode only", "images/s", [run.rate for run in encode]),
            Figure("end to end", "images/s", rates, "the slower of the two", slower, GOAL),
            Figure("end to end", "images/s", rates, "both on the same cores", shared),
            Figure("CPU time", "ms/image", [run.cost for run in whole], "decode + encode", cost),
            Figure("writing and optimising", "ms/image", [_writing(run) for run in whole]),
        ],
    )


def _writing(run: Run) -> float:
    return (run.upsert + run.optimise) * 1e3 / run.images
