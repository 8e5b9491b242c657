"""Shared fixtures: real bundles, folders of drawn pictures, real indexes, and the command line."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from sceneseek.bundle import Bundle
from tests.command_line import CommandLine
from tests.drawing import draw_gallery
from tests.object_store import Bucket, ObjectStore, serving

ROOT = Path(__file__).parent.parent
MEMORY = Path("/dev/shm")  # noqa: S108 - a memory file system, in which pytest creates a private folder
# No test depends on the speed of the machine.
hypothesis.settings.register_profile("sceneseek", deadline=None, max_examples=50)
hypothesis.settings.load_profile("sceneseek")
# Files that take a minute or more. They start first, so that no worker waits for one of them at the end.
SLOW = {
    "test_contract.py",
    "test_crash.py",
    "test_export.py",
    "test_index_on_ray.py",
    "test_page.py",
    "test_quality.py",
    "test_qdrant_writing.py",
    "test_reference_packs.py",
    "test_train_alignment.py",
    "test_train_heads.py",
    "test_train_heads_flickr8k.py",
}


def pytest_configure() -> None:
    """Keep temporary files in memory if 8 GB are free.

    A file index syncs its files hundreds of times: on a disk, index tests wait ten times as long as they compute.
    """
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= 8 * 2**30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow files first; the order is otherwise random."""
    items.sort(key=lambda item: item.path.name not in SLOW)


def shared_by_processes(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> tuple[Path, contextlib.AbstractContextManager[None]]:
    """Return a path that all test processes share, and a lock to hold while creating it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    @contextlib.contextmanager
    def locked() -> Iterator[None]:
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    return shared / name, locked()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The compact pack's bundle, exported from the real towers once for all test processes. Read only."""
    from sceneseek_export.bundle import export_bundle  # noqa: PLC0415
    from sceneseek_export.packs import find_pack  # noqa: PLC0415
    from sceneseek_export.trained import Trained  # noqa: PLC0415

    pack = find_pack("compact")
    out, lock = shared_by_processes(tmp_path_factory, "compact")
    with lock:
        return Bundle.load(out) if out.exists() else export_bundle(pack, Trained.shipped(pack), out)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn pictures in two folders, in several formats. Read only."""
    return draw_gallery(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="session")
def index_url(bundle: Bundle, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an index of the gallery. Read only: copy the directory before changing it."""
    from sceneseek.store import open_store  # noqa: PLC0415
    from sceneseek_indexer.build import index_folder  # noqa: PLC0415

    url = f"file:{tmp_path_factory.mktemp('index')}"
    index_folder(gallery, bundle, open_store(url))
    return url


@pytest.fixture(scope="session")
def sceneseek() -> CommandLine:
    return CommandLine()


@pytest.fixture(scope="session")
def flickr8k() -> Path:
    """The folder of rated photographs; skips the test if it is missing."""
    folder = Path(os.environ.get("SCENESEEK_FLICKR8K", ROOT.parent / "shared" / "flickr8k"))
    if not (folder / "captions.tsv").is_file():
        pytest.skip(f"the rated photographs are not in {folder}; set SCENESEEK_FLICKR8K")
    return folder


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 server; skips the test if moto or the extra `s3` is not installed."""
    pytest.importorskip("obstore", reason="obstore is not installed (the extra s3 has it)")
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed (the extra dev has it)")
    with serving(tmp_path_factory.mktemp("moto") / "log") as store:
        yield store


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, with its settings in the environment."""
    bucket = Bucket(f"test-{secrets.token_hex(4)}", object_store)
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture
def noise() -> Callable[[int, int], Image.Image]:
    """Draw random pixels; the same size gives the same picture."""

    def draw(width: int, height: int) -> Image.Image:
        levels = np.random.default_rng(width * 100_003 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(levels)

    return draw
