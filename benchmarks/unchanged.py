"""A run over a folder in which nothing has changed: `python -m benchmarks.unchanged`.

The index is filled with vectors drawn at random in the place of encoded ones, since a run that finds nothing to
encode never looks at them; everything else is as the indexer writes it. The command is then timed as a user
starts it, beside the floor: the listing of the folder alone.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.engine import Clusters
from sceneseek.bundle import Bundle
from sceneseek.store import CollectionInfo, Source
from sceneseek.store.edge import EdgeStore
from sceneseek.vectors import Vectors
from sceneseek_indexer.load import Loaded
from sceneseek_indexer.pipeline import batched
from sceneseek_indexer.receipt import Receipt
from sceneseek_indexer.receipt_file import ReceiptFile
from sceneseek_indexer.walk import list_images
from sceneseek_indexer.writing import Writing

GOAL_SECONDS = 3.0
_A_FOLDER = 500


def fill(home: Path, bundle: Bundle, count: int) -> tuple[Path, EdgeStore]:
    """A folder of so many files, and an index that knows all of them."""
    folder, manifest = home / "photos", bundle.manifest
    for number in range(count):
        path = folder / f"{number // _A_FOLDER}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a picture, as far as its name goes %d" % number)
    store, now = EdgeStore(home / "index"), datetime.now(UTC)
    width, head = manifest.dimensions.joint, manifest.dimensions.image_head
    info = CollectionInfo(
        "filled", manifest.fingerprints.image, width, head, (Source("", str(folder.resolve())),), now.isoformat()
    )
    with store.writing():
        _write(folder, store, info, now)
    return folder, store


def _write(folder: Path, store: EdgeStore, info: CollectionInfo, now: datetime) -> None:
    collection = store.create(info)
    writing = Writing(info, lambda: collection, {}, Receipt(), ReceiptFile(None), now)
    count = len(list_images(folder).files)
    clusters, heads = Clusters(count, info.joint, 0), Clusters(count, max(info.head, 1), 1)
    for files in batched(list_images(folder).files, 500):
        vectors = Vectors(clusters.draw(len(files)), heads.draw(len(files))[:, : info.head])
        hashes = [hashlib.sha256(file.path.read_bytes()).hexdigest() for file in files]
        images = [Loaded(f, (), sha256, 640, 480, "JPEG", "", 0.0) for f, sha256 in zip(files, hashes, strict=True)]
        writing.add(images, vectors)
    collection.optimize()
    store.publish(collection)


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description="Time a run over unchanged files.")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/compact"))
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sceneseek-unchanged-") as home:
        folder, store = fill(Path(home), Bundle.load(asked.bundle), asked.files)
        command = [str(Path(sys.executable).with_name("sceneseek")), "index", str(folder)]
        command += ["--index", store.url, "--bundle", str(asked.bundle)]
        for _ in range(asked.rounds):
            start = time.perf_counter()
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            whole = time.perf_counter() - start
            start = time.perf_counter()
            list_images(folder)
            floor = time.perf_counter() - start
            print(f"{whole:.2f} s (goal: at most {GOAL_SECONDS} s), the listing alone {floor:.2f} s: {said[0]}")


if __name__ == "__main__":
    main()
