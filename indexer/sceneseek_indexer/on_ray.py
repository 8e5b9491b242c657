"""Encodes files on a Ray cluster (the extra `ray`), with one actor per core or GPU, which runs a `Pipeline`.

The driver is the indexing process: it scans, plans, holds the lease, gives each actor two small batches at a time, and
writes the results, so that the consistency of the index depends on one process. Actors read the files themselves, at
the driver's paths, and return vectors and facts without pixels.

Batches are returned in order of completion. If an actor dies, its batches are retried: at most once together with
others, then each batch alone, then each file alone. A file is skipped as `crashes-decoder` after its third actor died.
If the whole node died, no file is suspected. New nodes get actors within seconds.

Why plain actors and not Ray Data: docs/adr/0012-ray-actors.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sceneseek import __version__
from sceneseek.bundle import MANIFEST, Bundle
from sceneseek.errors import BundleError, ClusterError, MissingExtra, SceneseekError, SourceError
from sceneseek.files import cache_root, directory_in_place, locked
from sceneseek.vectors import Vectors
from sceneseek_indexer.inventory import SizedIterable
from sceneseek_indexer.load import content_hash
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.pipeline import BATCH, Encoded, NodeFigures, OnSkipped, Pipeline, Wanted, batched, loader_threads
from sceneseek_indexer.walk import UNREADABLE, ImageFile, Skipped

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray sends usage statistics by default
try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ModuleNotFoundError as missing:
    raise MissingExtra("index --on ray", "ray", str(missing.name)) from None

log = logging.getLogger(__name__)

CRASHES = "crashes-decoder"
# Batches of an actor at a time: it loads one while it encodes the other.
_IN_FLIGHT = 2
# Number of dead actors after which a batch is split, and after which a file is skipped.
_SPLIT_DEATHS, _SKIP_DEATHS = 2, 3
# Maximum number of consecutive actors that die before they are ready.
_MAX_FAILED_STARTS = 10
# Seconds between checks of the nodes, and until a warning that no node has a free core.
_POLL_SECONDS, _WARN_SECONDS = 1.0, 15.0
# Timeout for a connection to the head.
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class _SentBundle:
    """A bundle for the nodes: its path on the driver, its manifest, and its files in Ray's object store by name."""

    path: Path
    manifest: bytes
    files: dict[str, Any]

    @classmethod
    def send(cls, bundle: Bundle) -> _SentBundle:
        files = {name: ray.put((bundle.path / name).read_bytes()) for name in bundle.manifest.files}
        return cls(bundle.path.resolve(), (bundle.path / MANIFEST).read_bytes(), files)

    def receive(self) -> Bundle:
        """Load the bundle on this node: from the same path, else from the cache, which the first process fills."""
        if self._is_at(self.path):
            return Bundle.load(self.path)
        place = cache_root() / "bundles" / hashlib.sha256(self.manifest).hexdigest()[:32]
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked(place.with_suffix(".lock")):
            if self._is_at(place):
                try:
                    return Bundle.load(place)
                except BundleError as error:
                    log.warning("the bundle in the cache is fetched again: %s", error)
            with directory_in_place(place) as beside:
                (beside / MANIFEST).write_bytes(self.manifest)
                for name, sent in self.files.items():
                    (beside / name).write_bytes(ray.get(sent))
            return Bundle.load(place)

    def _is_at(self, path: Path) -> bool:
        try:
            return (path / MANIFEST).read_bytes() == self.manifest
        except OSError:
            return False


@dataclass
class _Done:
    """An encoded batch: images without pixels and their vectors, skipped files, and times."""

    encoded: list[Encoded] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"load": 0.0, "encode": 0.0})


class _Worker:
    """The actor."""

    def open(self, version: str, bundle: _SentBundle, options: BuildOptions, reads_text: bool, loaders: int) -> str:
        """Open the session; return the id of the node."""
        here = f"the node {ray.util.get_node_ip_address()}"  # type: ignore[no-untyped-call]  # untyped in Ray
        if version != __version__:
            what = f"{here} has sceneseek {__version__}, and this machine {version}"
            raise ClusterError(what, "install the same version on all machines")
        try:
            reader = None
            if reads_text:
                from sceneseek_indexer.ocr import TextReader  # noqa: PLC0415 - an extra

                reader = TextReader(options.ocr_model)
            self._pipeline = Pipeline(bundle.receive(), options, reader, loaders=loaders)
            _ = self._pipeline.encoder
        except (SceneseekError, OSError) as error:
            raise ClusterError(f"{here} cannot encode ({error})", "set it up like this machine") from error
        return str(ray.get_runtime_context().get_node_id())

    def encode(self, files: list[ImageFile]) -> _Done:
        """Load and encode a batch."""
        done = _Done()
        for images, vectors in self._pipeline.run(files, done.seconds, lambda _: True, done.skipped.append):
            done.encoded.append(([replace(image, pixels=()) for image in images], vectors))
        return done


@dataclass
class _Task:
    """A batch, and the number of actors that died while they had it."""

    files: list[ImageFile]
    deaths: int = 0


@dataclass(eq=False)
class _Actor:
    """The driver's record of an actor; `node` is the id of its node, empty until it is ready."""

    handle: Any
    running: dict[Any, _Task] = field(default_factory=dict)
    node: str = ""


def encode_on_ray(
    files: SizedIterable[ImageFile],
    bundle: Bundle,
    options: BuildOptions,
    seconds: dict[str, float],
    wanted: Wanted,
    on_skipped: OnSkipped,
    reads_text: bool,
    figures: NodeFigures,
) -> Iterator[Encoded]:
    """Encode files like `pipeline.encode_files`, on the cluster `options.on`; yields batches in order of completion.

    Raises:
        MissingExtra: Ray is not installed.
        ClusterError: the cluster cannot be reached, or a node cannot encode.
        SourceError: a node cannot read any of the files that this machine can read.
    """
    with _connected(options.on):
        for node, done in _Cluster(bundle, options, reads_text).run(files):
            for stage, took in done.seconds.items():
                seconds[stage] += took
            for entry in done.skipped:
                on_skipped(entry)
            if node:
                figure = figures.setdefault(node, {"images": 0, "seconds": 0.0})
                figure["images"] += sum(len(images) for images, _ in done.encoded)
                figure["seconds"] = round(figure["seconds"] + sum(done.seconds.values()), 3)
            for images, vectors in done.encoded:
                if rows := [row for row, image in enumerate(images) if wanted(image)]:
                    yield [images[row] for row in rows], Vectors(vectors.joint[rows], vectors.head[rows])


@contextlib.contextmanager
def _connected(on: str) -> Iterator[None]:
    """Connect to a cluster as its driver for the block; the actors end with it."""
    try:
        with _sigterm_handler_restored(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below is sufficient
            _check_reachable(os.environ.get("RAY_ADDRESS", "") if on == "ray" else on)
            ray.init("auto" if on == "ray" else on, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray raises many types
        hint = "start a node with `ray start`, or connect to the head with --on ray://HOST:10001"
        if isinstance(error, ConnectionAbortedError):  # the head was reached, but could not start a process for it
            hint = "run again, and start the head with GRPC_ENABLE_FORK_SUPPORT=0 in its environment"
        reason = str(error).strip().rpartition("\n")[2]  # the last line of a traceback on the head
        raise ClusterError(f"the Ray cluster {on} cannot be reached ({reason})", hint) from error
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints messages; standard output is for the report
        try:
            yield
        except (RayError, ConnectionError) as error:
            hint = "check its head node, and run again: images already written are kept"
            raise ClusterError(f"the Ray cluster {on} was lost ({error})", hint) from error
        finally:
            with _sigterm_handler_restored():
                ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise OSError if HOST:PORT does not accept connections, as Ray would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


@contextlib.contextmanager
def _sigterm_handler_restored() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray sets when it connects and resets when it disconnects."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


class _Cluster:
    """The actors and their tasks. Must be used by the thread that connected."""

    def __init__(self, bundle: Bundle, options: BuildOptions, reads_text: bool) -> None:
        self._options, self._reads_text, self._loaders = options, reads_text, 0
        self._bundle = _SentBundle.send(bundle)
        self._actors: list[_Actor] = []
        self._starting: dict[Any, _Actor] = {}
        self._retries: deque[_Task] = deque()
        self._names: dict[str, str] = {}
        self._reading_nodes: set[str] = set()
        self._failed_starts = 0
        self._next_poll = 0.0
        self._last_ready = time.monotonic()

    def run(self, files: SizedIterable[ImageFile]) -> Iterator[tuple[str, _Done]]:
        """Yield the result of each batch and the name of its node, empty for files that are given up."""
        self._loaders = loader_threads(files)
        count = self._capacity()[0] or 1
        size = max(1, min(self._options.batch or BATCH, -(-len(files) // (_IN_FLIGHT * count))))
        source = map(_Task, batched(files, size))
        left = len(files)
        while left:
            if time.monotonic() >= self._next_poll:
                self._start_actors()
            for actor in self._actors:
                while actor.node and (task := self._next_task(actor, source)):
                    actor.running[actor.handle.encode.remote(task.files)] = task
            refs = [*self._starting, *(ref for actor in self._actors for ref in actor.running)]
            for ref in ray.wait(refs, timeout=_POLL_SECONDS)[0] if refs else ():
                for node, done in self._collect(ref):
                    left -= len(done.skipped) + sum(len(images) for images, _ in done.encoded)
                    yield node, done
            if not refs:
                time.sleep(_POLL_SECONDS)  # wait for a node

    def _start_actors(self) -> None:
        """Start as many actors as the nodes have resources; they wait for cores that other programs use."""
        count, cores, gpus = self._capacity()
        options = replace(self._options, on="local", workers=cores)
        for _ in range(count - len(self._actors)):
            remote = ray.remote(_Worker).options(num_cpus=cores, num_gpus=gpus, max_concurrency=_IN_FLIGHT)
            actor = _Actor(remote.remote())
            self._actors.append(actor)
            opened = actor.handle.open.remote(__version__, self._bundle, options, self._reads_text, self._loaders)
            self._starting[opened] = actor
        now = time.monotonic()
        if any(actor.node for actor in self._actors):
            self._last_ready = now
        elif now - self._last_ready > _WARN_SECONDS:
            log.warning("no node of the Ray cluster has a free core or GPU; the run waits for one")
            self._last_ready = now + 60.0
        self._next_poll = now + _POLL_SECONDS

    def _capacity(self) -> tuple[int, int, int]:
        """The maximum number of actors, and the cores and GPUs of each."""
        nodes = self._alive_nodes()
        with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1] if self._options.device != "cpu" else []
        if with_gpu:
            count, gpus = sum(int(node["GPU"]) for node in with_gpu), 1
            cores = min(max(1, int(node.get("CPU", 1) // node["GPU"])) for node in with_gpu)
        else:
            count, cores, gpus = sum(int(node.get("CPU", 0)) for node in nodes), 1, 0
        return min(count, self._options.workers or count), cores, gpus

    def _alive_nodes(self) -> list[dict[str, float]]:
        """The resources of each node that is alive; updates the nodes' names."""
        nodes = ray.nodes()  # type: ignore[no-untyped-call]  # untyped in Ray
        self._names = {node["NodeID"]: node["NodeName"] for node in nodes if node["Alive"]}
        return [node["Resources"] for node in nodes if node["Alive"]]

    def _next_task(self, actor: _Actor, source: Iterator[_Task]) -> _Task | None:
        """The next batch for an actor, None if it must not have another; a suspected batch runs alone."""
        suspected = any(task.deaths for task in actor.running.values())
        if suspected or len(actor.running) >= _IN_FLIGHT:
            return None
        for task in self._retries:
            if not (task.deaths and actor.running):
                self._retries.remove(task)
                return task
        return next(source, None)

    def _collect(self, ref: Any) -> Iterator[tuple[str, _Done]]:
        """Process a finished call of an actor."""
        actor = self._starting.get(ref) or next((actor for actor in self._actors if ref in actor.running), None)
        if actor is None:  # its death was processed with another call
            return
        try:
            result = ray.get(ref)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            self._failed_starts += ref in self._starting
            if self._failed_starts > _MAX_FAILED_STARTS:
                what = f"{self._failed_starts} processes of the Ray cluster died before they were ready ({error})"
                raise ClusterError(what, "read their logs on the nodes") from None
            yield from self._retry_tasks(actor)
            return
        if self._starting.pop(ref, None):
            actor.node, self._failed_starts = result, 0
        else:
            self._check_readable(actor, actor.running.pop(ref), result)
            yield self._names.get(actor.node, actor.node), result

    def _retry_tasks(self, actor: _Actor) -> Iterator[tuple[str, _Done]]:
        """Schedule retries for the batches of an actor that died; give up files that were alone too often."""
        with contextlib.suppress(RayError):
            ray.kill(actor.handle)  # in case it is only unreachable
        self._actors.remove(actor)
        self._starting = {ref: other for ref, other in self._starting.items() if other is not actor}
        self._next_poll = 0.0
        self._alive_nodes()
        crashed = actor.node in self._names
        where = f"a process of the node {self._names[actor.node]}" if crashed else "a node"
        log.warning("%s died; its batches are encoded again", where)
        for task in actor.running.values():
            deaths = task.deaths + crashed
            if deaths < _SPLIT_DEATHS or (deaths < _SKIP_DEATHS and len(task.files) == 1):
                self._retries.append(replace(task, deaths=deaths))
            elif len(task.files) > 1:
                self._retries.extend(_Task([file], 1) for file in task.files)
            else:
                (file,) = task.files
                what = f"{deaths} processes died while decoding it"
                yield "", _Done(skipped=[Skipped(file.relative, CRASHES, what, file.source)])

    def _check_readable(self, actor: _Actor, task: _Task, done: _Done) -> None:
        """Add the node to errors of unreadable files; raise SourceError if only this node cannot read them."""
        node = self._names.get(actor.node, actor.node)
        unread = [entry for entry in done.skipped if entry.reason == UNREADABLE]
        if len(unread) < len(task.files):
            self._reading_nodes.add(actor.node)
        elif actor.node not in self._reading_nodes and any(content_hash(file) is not None for file in task.files):
            folder = task.files[0].folder
            what = f"the node {node} cannot read the images in {folder} that this machine can read ({unread[0].what})"
            raise SourceError(what, "mount the folder at the same path on every node, or remove the node")
        for index, entry in enumerate(done.skipped):
            if entry.reason == UNREADABLE:
                done.skipped[index] = replace(entry, what=f"{entry.what} on the node {node}")
