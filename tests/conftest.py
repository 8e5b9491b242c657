"""What tests share: real bundles, folders of pictures drawn by code, real indexes, and the command line."""

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
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, which pytest makes a private folder in
# No test depends on how fast the machine is.
hypothesis.settings.register_profile("sceneseek", deadline=None, max_examples=50)
hypothesis.settings.load_profile("sceneseek")
# Files that take a minute and more, so that none of them is begun when the others are done.
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
    """Write what tests write to memory, if 8 GB are free: a file index syncs its files hundreds of times.

    On a disk the tests of indexes wait ten times as long as they compute.
    """
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= 8 * 2**30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow files; the order is random else."""
    items.sort(key=lambda item: item.path.name not in SLOW)


def shared_by_processes(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> tuple[Path, contextlib.AbstractContextManager[None]]:
    """A place that all test processes have in common, and a lock to hold while something is made there."""
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
    """The compact pack's bundle from the real towers, exported once for all test processes. Read only."""
    from sceneseek_export.bundle import export_bundle  # noqa: PLC0415
    from sceneseek_export.packs import find_pack  # noqa: PLC0415
    from sceneseek_export.trained import Trained  # noqa: PLC0415

    pack = find_pack("compact")
    out, lock = shared_by_processes(tmp_path_factory, "compact")
    with lock:
        return Bundle.load(out) if out.exists() else export_bundle(pack, Trained.shipped(pack), out)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures drawn by code, in two folders, in several formats. Read only."""
    return draw_gallery(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="session")
def index_url(bundle: Bundle, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An index of the gallery. Read only: copy the directory before changing it."""
    from sceneseek.store import open_store  # noqa: PLC0415
    from sceneseek_indexer.build import index_folder  # noqa: PLC0415

    url = f"file:{tmp_path_factory.mktemp('index')}"
    index_folder(gallery, bundle, open_store(url))
    return url


@pytest.fixture(scope="session")
def sceneseek() -> CommandLine:
    """The command line."""
    return CommandLine()


@pytest.fixture(scope="session")
def flickr8k() -> Path:
    """The rated photographs; tests that need them skip where they are not."""
    folder = Path(os.environ.get("SCENESEEK_FLICKR8K", ROOT.parent / "shared" / "flickr8k"))
    if not (folder / "captions.tsv").is_file():
        pytest.skip(f"the rated photographs are not in {folder}; set SCENESEEK_FLICKR8K")
    return folder


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A server that speaks S3; tests that need it skip where moto or the extra `s3` is not installed."""
    pytest.importorskip("obstore", reason="obstore is not installed (the extra s3 has it)")
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed (the extra dev has it)")
    with serving(tmp_path_factory.mktemp("moto") / "log") as store:
        yield store


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, and its settings in the environment."""
    made = Bucket(f"test-{secrets.token_hex(4)}", object_store)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def noise() -> Callable[[int, int], Image.Image]:
    """A picture of random pixels, the same at every call with the same size."""

    def draw(width: int, height: int) -> Image.Image:
        levels = np.random.default_rng(width * 100_003 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(levels)

    return draw
