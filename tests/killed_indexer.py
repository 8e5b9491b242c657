"""The indexer killed at random moments, compared with an undisturbed one.

Two indexes are built of one folder of drawn pictures: an undisturbed one, and one whose runs are killed (signal 9)
after a random time, or while they publish. When a run of the latter completes, both must hold the same images, facts
and vectors; then the folder is changed (images added, edited, touched, renamed, copied and deleted) and the next round
begins. After every kill the alias must point at a generation that was complete before the round or is complete after
it. All that is random follows from one seed.
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

# Vectors of one image in batches of different sizes differ by rounding.
_TOLERANCE = 1e-5
_PUBLISHING = 0.25
# What a payload says beside when it was written.
_FACTS = ("source", "sha256", "width", "height", "format", "bytes", "mtime_ns")

Manifest = dict[str, tuple[Any, ...]]


class CrashError(Exception):
    """The killed index is not what it should be."""


@dataclass
class Verdict:
    """What happened.

    Attributes:
        rounds: how often the killed index caught up with the calm one.
        kills: runs that were killed, at any moment.
        publishing: those of them that were killed while they published.
        resumed: runs that went on with an interrupted one.
        needed: images that undisturbed runs encoded.
        encoded: images that the killed runs encoded.
        largest_gap: the largest difference between two vectors' numbers.
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
        bundle: the directory of the bundle to index with.
        home: an empty directory to work in.
        images: how many to begin with.
        kills: how many runs to kill.
        seed: of all that is random.
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
        """Kill runs until one gets to its end, or enough were killed and one is let through."""
        last: Manifest | None = None
        while last is None:
            wanted = self._verdict.kills < self.kills
            publishing = wanted and self._random.random() < _PUBLISHING
            share = 0.3 if before is None else 1.1  # the first round is long: it is to take many runs
            patience = self._random.uniform(0, share * calm_seconds) if wanted and not publishing else None
            if self._attempt(patience, self._random.uniform(0, 0.05) if publishing else None):
                last = self._manifest(self._killed)
            else:
                self._verdict.kills += 1
                self._verdict.publishing += publishing
                now = self._manifest(self._killed)
                if now not in (before or {}, after):
                    raise CrashError(f"after kill {self._verdict.kills} the live generation is a half-built one")
        self._verdict.largest_gap = max(self._verdict.largest_gap, self._gap(last, after))

    def _attempt(self, patience: float | None, into_publishing: float | None) -> bool:
        """One run of the killed index, in a process of its own; False if it was killed."""
        command = [sys.executable, "-m", "tests.killed_indexer", str(self.home), str(self.bundle)]
        if into_publishing is not None:
            command.append(str(into_publishing))
        # A session of its own: what it has started (a copy under way) is killed with it.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        begun = process.stdout.readline() if process.stdout is not None else ""
        try:
            _, errors = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
        self._verdict.resumed += begun == "resuming\n"
        if process.returncode not in (0, -signal.SIGKILL):
            raise CrashError(f"a run failed after {self._verdict.kills} kills: {errors[-2000:]}")
        return process.returncode == 0

    def _compare_with(self, store: EdgeStore, before: Manifest | None) -> Manifest:
        found = self._manifest(store)
        if found == before:
            raise CrashError("the change of the folder changed nothing")
        return found

    def _manifest(self, store: EdgeStore) -> Manifest:
        """Every image's facts and place, by id, of the live generation; its count is held against them."""
        live = store.live()
        if live is None:
            return {}
        collection = store.open(live)
        try:
            records = list(collection.scroll())
            if collection.count() != len(records):
                raise CrashError(f"{collection.count():,} images are counted where {len(records):,} are there")
            return {r.id: (relative_path(r.payload), *(r.payload[fact] for fact in _FACTS)) for r in records}
        finally:
            collection.close()

    def _gap(self, last: Manifest, after: Manifest) -> float:
        if last != after:
            missing, extra = len(after.keys() - last.keys()), len(last.keys() - after.keys())
            other = sum(1 for identity in last.keys() & after.keys() if last[identity] != after[identity])
            raise CrashError(f"{missing:,} images are missing, {extra:,} are too many, {other:,} have other facts")
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
        """Add, edit, touch, rename, copy and delete some of the images, a few per cent each."""
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
    """A small picture of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(levels).resize((70, 50)).save(path, compress_level=1)


def _child(home: Path, bundle: Path, into_publishing: float | None) -> None:
    """One run of the indexer, as the command would do it; it counts what it encodes."""
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
            time.sleep(into_publishing)  # however fast it was, it does not get away

        store.publish = killed_while_publishing  # type: ignore[method-assign,assignment]
    graphs = Bundle.load(bundle)
    sys.stdout.write("resuming\n" if store.unfinished() else "beginning\n")
    sys.stdout.flush()
    index_folder(home / "photos", graphs, store, BuildOptions("cpu", batch=8, prune=True))


if __name__ == "__main__":
    _child(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else None)
