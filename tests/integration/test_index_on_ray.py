"""Indexing on a Ray cluster: every image is indexed exactly once despite failures, and searches keep working."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import VectorStore, open_store
from sceneseek.vectors import Floats
from sceneseek_indexer.build import index_folder
from sceneseek_indexer.options import BuildOptions
from tests.command_line import PROGRAM
from tests.drawing import scenery
from tests.played_qdrant import PlayedQdrant
from tests.ray_cluster import RayCluster, Run, has_open, indexing, until

pytest.importorskip("ray", reason="the extra `ray` is not installed")

BEFORE, AFTER = 20, 300
NAMES = {f"{number % 7}/{number}.png" for number in range(AFTER)}
# Seconds for which the Qdrant server is down; the full test takes a minute.
AWAY = float(os.environ.get("SCENESEEK_TEST_AWAY", "6"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Two nodes of one core; each test leaves two running."""
    cluster = RayCluster({"SCENESEEK_CACHE": str(tmp_path_factory.mktemp("cache"))})
    try:
        cluster.add()
        cluster.add()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of images; tests must not change it."""
    folder = tmp_path_factory.mktemp("drawn")
    for number in range(AFTER):
        path = folder / f"{number % 7}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        scenery(min(number, AFTER - 2)).save(path)  # the last two are equal
    return folder


@pytest.fixture
def photos(image_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(image_folder, tmp_path / "photos"))


@pytest.fixture
def store(tmp_path: Path, photos: Path, bundle: Bundle) -> VectorStore:
    """An index of the first `BEFORE` images."""
    return indexed_before(open_store(f"file:{tmp_path}/index"), photos, bundle, tmp_path)


def indexed_before(store: VectorStore, photos: Path, bundle: Bundle, home: Path) -> VectorStore:
    later = home / "later"
    later.mkdir()
    for path in photos.glob("*/*.png"):
        if int(path.stem) >= BEFORE:
            path.rename(later / path.name)
    index_folder(photos, bundle, store, BuildOptions("cpu"))
    for path in later.iterdir():
        path.rename(photos / f"{int(path.stem) % 7}" / path.name)
    return store


@contextmanager
def running(cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle, *more: object) -> Iterator[Run]:
    """Run on the cluster while the previous generation answers queries."""
    places = ("--bundle", bundle.path, "--index", store.url, "--on", "ray", "--device", "cpu")
    with (
        indexing(photos, *places, *more, home=photos.parent, RAY_ADDRESS=cluster.address) as run,
        answering(store, bundle),
    ):
        yield run


@contextmanager
def answering(store: VectorStore, bundle: Bundle) -> Iterator[None]:
    """Search repeatedly until the block ends, and assert that every search returns all results."""
    stop = threading.Event()
    answers: list[int | Exception] = []

    def ask() -> None:
        with closing(Search(ModelRegistry(bundle, "cpu"), open_store(store.url, searching=True))) as search:
            while not stop.wait(0.2):
                try:
                    answers.append(len(search.query(Query(text="a red circle", k=5)).results))
                except Exception as error:  # noqa: BLE001 - asserted on below
                    answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert answers
    assert set(answers) == {5}, answers


def vectors(store: VectorStore) -> dict[str, Floats]:
    """The live generation's vectors by path; asserts that paths are unique."""
    name = store.live()
    assert name is not None
    with closing(store.glance(name)) as collection:
        paths = {record.id: record.payload["path"] for record in collection.scroll()}
        assert len(paths) == len(set(paths.values())) == collection.count()
        return {paths[identity]: stored.joint for identity, stored in collection.vectors(list(paths)).items()}


def assert_complete(run: Run, store: VectorStore, skipped: dict[str, str] | None = None) -> None:
    """Assert that the run ends with every image exactly once in the index and in the report."""
    skipped = skipped or {}
    result = run.result()
    assert {entry["path"]: entry["reason"] for entry in result["skipped"]} == skipped
    assert vectors(store).keys() == NAMES
    outcomes = Counter({line["path"]: 0 for line in run.lines() if line["kind"] == "file"})
    outcomes.update(line["path"] for line in run.lines() if line["kind"] == "file")
    assert outcomes == dict.fromkeys(NAMES | skipped.keys(), 1)
    end = run.lines()[-1]
    assert end["kind"] == "end"
    assert end["nodes"] == result["nodes"]
    encoded, counted = result["indexed"] - result["resumed"], sum(node["images"] for node in end["nodes"].values())
    assert encoded <= counted <= encoded + result["copied"]


def test_ray_run_uses_both_nodes_and_yields_the_vectors_of_a_local_run(
    cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle, tmp_path: Path
) -> None:
    with running(cluster, photos, store, bundle) as run:
        assert_complete(run, store)
    assert run.lines()[-1]["nodes"].keys() == {node.address for node in cluster.nodes}
    local = open_store(f"file:{tmp_path}/local")
    index_folder(photos, bundle, local, BuildOptions("cpu"))
    ours, theirs = vectors(store), vectors(local)
    assert ours.keys() == theirs.keys()
    assert max(float(np.abs(ours[path] - theirs[path]).max()) for path in ours) < 1e-5


def test_killed_actor_is_replaced(cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle) -> None:
    with running(cluster, photos, store, bundle) as run:
        run.until_indexed(30)
        (pid,) = cluster.nodes[1].workers()
        os.kill(pid, signal.SIGKILL)
        until(lambda: cluster.nodes[1].workers() not in ([], [pid]), "there is another actor")
        assert_complete(run, store)


def test_run_survives_a_killed_node_and_uses_an_added_one(
    cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle
) -> None:
    with running(cluster, photos, store, bundle, "--batch", 4) as run:
        run.until_indexed(20)
        cluster.kill(cluster.nodes[1])
        run.until_indexed(40)
        (left,) = cluster.nodes[0].workers()
        os.kill(left, signal.SIGSTOP)  # keeps work for the new node
        added = cluster.add()
        until(added.workers, "the node that was added has an actor")
        os.kill(left, signal.SIGCONT)
        assert_complete(run, store)
    assert run.lines()[-1]["nodes"][added.address]["images"] > 0


def test_run_after_a_killed_driver_encodes_only_unwritten_images(
    cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle
) -> None:
    with running(cluster, photos, store, bundle, "--batch", 4) as run:
        run.until_indexed(100)
        run.process.kill()
        run.process.wait()
        written = run.indexed()
        until(lambda: not any(node.workers() for node in cluster.nodes), "its actors have ended")
    with running(cluster, photos, store, bundle) as run:
        assert_complete(run, store)
    result = run.lines()[-1]["counts"]
    assert result["resumed"] >= written
    assert result["indexed"] + result["copied"] == AFTER - BEFORE
    assert sum(node["images"] for node in run.lines()[-1]["nodes"].values()) <= AFTER - BEFORE - written


def test_run_waits_for_an_unavailable_qdrant_server(
    cluster: RayCluster, photos: Path, bundle: Bundle, tmp_path: Path
) -> None:
    played = PlayedQdrant()
    with played.serving():
        store = indexed_before(open_store(played.url), photos, bundle, tmp_path)
        places = ("--bundle", bundle.path, "--index", store.url, "--on", "ray", "--device", "cpu")
        run_on = indexing(photos, *places, home=tmp_path, RAY_ADDRESS=cluster.address)
        run = run_on.__enter__()
        with answering(store, bundle):
            run.until_indexed(30)
    try:
        time.sleep(AWAY)
        with played.serving(), answering(store, bundle):
            assert_complete(run, store)
    finally:
        run_on.__exit__(None, None, None)


def test_image_that_crashes_its_decoder_is_skipped_and_reported(
    cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle
) -> None:
    culprit, stop = photos / "3" / "culprit.png", threading.Event()
    Image.linear_gradient("L").resize((7_000, 7_000)).save(culprit, compress_level=1)

    def kill_workers_that_open_it() -> None:
        while not stop.wait(0.002):
            for pid in (pid for node in cluster.nodes for pid in node.workers()):
                while has_open(pid, culprit):
                    os.kill(pid, signal.SIGKILL)

    fault = threading.Thread(target=kill_workers_that_open_it)
    fault.start()
    try:
        with running(cluster, photos, store, bundle) as run:
            assert_complete(run, store, {"3/culprit.png": "crashes-decoder"})
    finally:
        stop.set()
        fault.join()


def test_run_waits_for_a_suspended_node(cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle) -> None:
    with running(cluster, photos, store, bundle) as run:
        run.until_indexed(30)
        cluster.nodes[1].signal(signal.SIGSTOP)
        try:
            time.sleep(4)
        finally:
            cluster.nodes[1].signal(signal.SIGCONT)
        assert_complete(run, store)


def test_run_through_a_ray_client_completes(
    cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle
) -> None:
    with running(cluster, photos, store, bundle, "--on", cluster.client_url) as run:
        assert_complete(run, store)


def test_watch_reconnects_to_the_cluster_and_stops_on_sigterm(
    cluster: RayCluster, image_folder: Path, bundle: Bundle, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(image_folder / "0/0.png", photos)
    command: list[str | Path] = [
        PROGRAM,
        "index",
        "watch",
        photos,
        "--bundle",
        bundle.path,
        "--index",
        f"file:{tmp_path}/index",
    ]
    command += ["--on", "ray", "--interval", "0.5", "--json", "--nice", "0"]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as watch:
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["indexed"] == 1
        shutil.copy(image_folder / "1/1.png", photos)
        assert json.loads(watch.stdout.readline())["indexed"] == 1
        watch.terminate()
        _, stderr = watch.communicate(timeout=60)
    assert stderr.splitlines()[-1] == "stopped"
    assert watch.returncode == 0


@pytest.fixture
def hiding() -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not hide a folder from a process")


@pytest.mark.usefixtures("hiding")
def test_run_fails_if_a_node_cannot_read_the_images(
    cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle
) -> None:
    blind = cluster.add(hidden=photos)
    try:
        with running(cluster, photos, store, bundle) as run:
            error = run.error()
        assert error.startswith(f"error: the node {blind.address} cannot read the images in {photos}")
    finally:
        cluster.kill(blind)
    with running(cluster, photos, store, bundle) as run:
        assert_complete(run, store)


@pytest.mark.usefixtures("hiding")
def test_node_without_the_bundle_receives_it(
    cluster: RayCluster, photos: Path, store: VectorStore, bundle: Bundle
) -> None:
    lacking = cluster.add(hidden=bundle.path)
    try:
        with running(cluster, photos, store, bundle) as run:
            assert_complete(run, store)
        assert run.lines()[-1]["nodes"][lacking.address]["images"] > 0
    finally:
        cluster.kill(lacking)
    (cached,) = Path(cluster.environment["SCENESEEK_CACHE"], "bundles").glob("*/manifest.json")
    assert Bundle.load(cached.parent, trust=False).manifest == bundle.manifest


@pytest.mark.parametrize("on", ["ray", "ray://127.0.0.1:1"])
def test_unreachable_cluster_is_an_error(photos: Path, store: VectorStore, bundle: Bundle, on: str) -> None:
    places = ("--bundle", bundle.path, "--index", store.url)
    with indexing(photos, *places, "--on", on, home=photos.parent, RAY_ADDRESS="127.0.0.1:1") as run:
        assert run.error().startswith(f"error: the Ray cluster {on} cannot be reached ([Errno 111] Connection refused)")
