"""Kill the indexer at random moments, and compare its index with that of an undisturbed indexer.

Both build an index of one folder of drawn pictures; the runs of the killed one receive SIGKILL after a random time or
while they publish. When one of its runs completes, both indexes must contain the same images, metadata and vectors;
then the folder changes (images are added, edited, touched, renamed, copied and deleted) and the next round starts.
After every kill the alias must point at a generation that was complete before the round or is complete after it. One
seed determines everything random.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sceneseek.bundle import Bundle
from sceneseek.encoders import ImageEncoder
from sceneseek.payload import relative_path
from sceneseek.store.edge import EdgeStore
from sceneseek.vectors import Vectors
from sceneseek_indexer.build import BuildOptions, index_folder

# The vectors of an image in batches of different sizes differ by rounding errors.
_TOLERANCE = 1e-5
_PUBLISHING = 0.25
# The payload fields to compare; the time of writing differs.
_FACTS = ("source", "sha256", "width", "height", "format", "bytes", "mtime_ns")

Manifest = dict[str, tuple[Any, ...]]


class CrashError(Exception):
    """The index of the killed indexer is wrong."""


@dataclass
class Verdict:
    """The statistics of a trial.

    Attributes:
        rounds: how often the killed index caught up with the undisturbed one.
        kills: killed runs.
        publishing: runs killed while they published.
        resumed: runs that resumed an interrupted one.
        needed: images encoded by undisturbed runs.
        encoded: images encoded by killed runs.
        largest_gap: the largest difference between two vectors' components.
    """

    rounds: int = 0
    kills: int = 0
    publishing: int = 0
    resumed: int = 0
    needed: int = 0
    encoded: int = 0
    largest_gap: float = 0.0


@dataclass
class KilledIndexer:
    """One trial.

    Attributes:
        bundle: the directory of the bundle.
        home: an empty working directory.
        images: the initial number of images.
        kills: the number of runs to kill.
        seed: the seed of everything random.
    """

    bundle: Path
    home: Path
    images: int
    kills: int
    seed: int = 0
    _random: random.Random = field(init=False)
    _verdict: Verdict = field(init=False, default_factory=Verdict)

    def run(self) -> Verdict:
        """Raise `CrashError` at the first difference."""
        self._random, verdict = random.Random(self.seed), self._verdict
        for number in range(self.images):
            draw(self._folder / f"{number % 7}" / f"{number}.png", self.seed + number)
        before: Manifest | None = None
        while verdict.kills < self.kills or not verdict.rounds:
            if verdict.rounds:
                self._change()
            calm_seconds = self._calm_run()
            after = self._compare_with(self._calm, before)
            self._round(calm_seconds, before, after)
            verdict.rounds += 1
            before = after
        log = self.home / "encoded.log"
        verdict.encoded = sum(int(line) for line in log.read_text().split())
        return verdict

    @property
    def _folder(self) -> Path:
        return self.home / "photos"

    @property
    def _calm(self) -> EdgeStore:
        return EdgeStore(self.home / "calm")

    @property
    def _killed(self) -> EdgeStore:
        return EdgeStore(self.home / "killed")

    def _calm_run(self) -> float:
        start = time.monotonic()
        report = index_folder(
            self._folder, Bundle.load(self.bundle), self._calm, BuildOptions("cpu", batch=8, prune=True)
        )
        self._verdict.needed += report.indexed
        return time.monotonic() - start

    def _round(self, calm_seconds: float, before: Manifest | None, after: Manifest) -> None:
        """Kill runs until one completes; after enough kills, let one complete."""
        last: Manifest | None = None
        while last is None:
            wanted = self._verdict.kills < self.kills
            publishing = wanted and self._random.random() < _PUBLISHING
            share = 0.3 if before is None else 1.1  # the first round is long and should take many runs
            patience = self._random.uniform(0, share * calm_seconds) if wanted and not publishing else None
            if self._attempt(patience, self._random.uniform(0, 0.05) if publishing else None):
                last = self._manifest(self._killed)
            else:
                self._verdict.kills += 1
                self._verdict.publishing += publishing
                now = self._manifest(self._killed)
                if now not in (before or {}, after):
                    raise CrashError(f"after kill {self._verdict.kills} the live generation is incomplete")
        self._verdict.largest_gap = max(self._verdict.largest_gap, self._gap(last, after))

    def _attempt(self, patience: float | None, into_publishing: float | None) -> bool:
        """Run the indexer to be killed in a subprocess; return False if it was killed."""
        command = [sys.executable, "-m", "tests.killed_indexer", str(self.home), str(self.bundle)]
        if into_publishing is not None:
            command.append(str(into_publishing))
        # In a session of its own, so that its child processes are killed with it.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        first_line = process.stdout.readline() if process.stdout is not None else ""
        try:
            _, errors = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
        self._verdict.resumed += first_line == "resuming\n"
        if process.returncode not in (0, -signal.SIGKILL):
            raise CrashError(f"a run failed after {self._verdict.kills} kills: {errors[-2000:]}")
        return process.returncode == 0

    def _compare_with(self, store: EdgeStore, before: Manifest | None) -> Manifest:
        manifest = self._manifest(store)
        if manifest == before:
            raise CrashError("the change of the folder did not change the index")
        return manifest

    def _manifest(self, store: EdgeStore) -> Manifest:
        """The compared fields of every image in the live generation, by id; its count must match."""
        live = store.live()
        if live is None:
            return {}
        collection = store.open(live)
        try:
            records = list(collection.scroll())
            if collection.count() != len(records):
                raise CrashError(f"{collection.count():,} images are counted, but {len(records):,} exist")
            return {r.id: (relative_path(r.payload), *(r.payload[fact] for fact in _FACTS)) for r in records}
        finally:
            collection.close()

    def _gap(self, last: Manifest, after: Manifest) -> float:
        if last != after:
            missing, extra = len(after.keys() - last.keys()), len(last.keys() - after.keys())
            other = sum(1 for identity in last.keys() & after.keys() if last[identity] != after[identity])
            raise CrashError(f"{missing:,} images are missing, {extra:,} are unexpected, {other:,} differ")
        gaps = []
        calm, killed = self._calm.open(str(self._calm.live())), self._killed.open(str(self._killed.live()))
        try:
            ids = list(last)
            for start in range(0, len(ids), 500):
                batch = ids[start : start + 500]
                one, other_vectors = calm.vectors(batch), killed.vectors(batch)
                gaps += [float(np.abs(one[i].joint - other_vectors[i].joint).max(initial=0)) for i in batch]
                gaps += [float(np.abs(one[i].head - other_vectors[i].head).max(initial=0)) for i in batch]
                if any(not other_vectors[i].joint.any() for i in batch):
                    raise CrashError("a vector is zero")
        finally:
            calm.close()
            killed.close()
        if max(gaps) > _TOLERANCE:
            raise CrashError(f"a vector differs by {max(gaps):.1e}")
        return max(gaps)

    def _change(self) -> None:
        """Add, edit, touch, rename, copy and delete a few per cent of the images each."""
        draw_from, folder = self._random, self._folder
        files = sorted(path for path in folder.rglob("*.png"))
        draw_from.shuffle(files)
        share = max(2, len(files) // 40)
        groups = [files[i * share : (i + 1) * share] for i in range(6)]
        for path in groups[0]:
            draw(path, draw_from.randrange(10**9))
        for path in groups[1]:
            os.utime(path)
        for path in groups[2]:
            target = folder / "moved" / f"{draw_from.randrange(10**9)}.png"
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        for path in groups[3]:
            shutil.copy2(path, folder / f"copy{draw_from.randrange(10**9)}.png")
        for path in (*groups[4], *groups[5]):
            path.unlink()
        for _ in range(share):
            number = draw_from.randrange(10**9)
            draw(folder / "new" / f"{number}.png", number)


def draw(path: Path, seed: int) -> None:
    """Draw a small picture that depends on the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(levels).resize((70, 50)).save(path, compress_level=1)


def _child(home: Path, bundle: Path, into_publishing: float | None) -> None:
    """Run the indexer as the command does, and log how many images it encodes."""
    encode = ImageEncoder.encode

    def counted(encoder: ImageEncoder, images: Any) -> Vectors:
        with (home / "encoded.log").open("a") as log:
            log.write(f"{len(images)}\n")
        return encode(encoder, images)

    ImageEncoder.encode = counted  # type: ignore[method-assign,assignment]  # a plain function becomes a method
    store = EdgeStore(home / "killed")
    if into_publishing is not None:
        publish = store.publish

        def killed_while_publishing(collection: Any, *more: Any) -> None:
            threading.Timer(into_publishing, os.kill, (os.getpid(), signal.SIGKILL)).start()
            publish(collection, *more)
            time.sleep(into_publishing)  # until the kill, if publishing was faster

        store.publish = killed_while_publishing  # type: ignore[method-assign,assignment]
    graphs = Bundle.load(bundle)
    sys.stdout.write("resuming\n" if store.unfinished() else "beginning\n")
    sys.stdout.flush()
    index_folder(home / "photos", graphs, store, BuildOptions("cpu", batch=8, prune=True))


if __name__ == "__main__":
    _child(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else None)
