"""The settings of a service, and the search pipeline and the ratings that its worker opens."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sceneseek.containers import MAX_PIXELS
from sceneseek.errors import FeedbackUnavailable, StartError
from sceneseek.pending_changes import PendingChanges
from sceneseek_server.feedback import FeedbackStore, feedback_path

if TYPE_CHECKING:
    from sceneseek.runtime import Device
    from sceneseek.search import Search
    from sceneseek_server.metrics import Metrics

log = logging.getLogger(__name__)

_SPARE_THREADS = 16
# More idle clients than this are a proxy's work.
_MAX_CONNECTIONS = 4_096
# Graphs, an index and its successor, ratings, the metrics port, and files of uploads.
_OWN_HANDLES = 192


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """The settings of access control (`sceneseek_server.access`), as `ServiceSettings` explains.

    The defaults suit an application called in process.

    Attributes:
        bound_to: the name or address that it listens at.
        max_upload: the most bytes of an uploaded image.
    """

    api_keys: Path | None = None
    rate_limit: str | None = None
    trusted_proxies: int = 0
    url_prefix: str = ""
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    bound_to: str = ""
    show_paths: bool = False
    max_upload: int = 16 * 10**6
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What to serve, and how: what the options of `sceneseek serve` say, whose help explains each (`command.serve`).

    Attributes:
        deadline: seconds that a request may take, from when all of it has arrived.
        grace: seconds that a stop waits for requests in flight.
        access: who may send requests, and what answers may reveal.
    """

    bundle: Path
    index_url: str
    device: Device = "auto"
    threads: int = 0
    host: str = "127.0.0.1"
    port: int = 8080
    metrics_port: int | None = None
    http_threads: int = 32
    queue: int = 128
    deadline: float = 10.0
    max_batch: int = 32
    query_cache: int = 4096
    grace: int = 30
    feedback: Path | None = None
    uploads: Path | None = None
    access: AccessSettings = field(default_factory=AccessSettings)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a worker can do with its file handles.

    Attributes:
        connections: how many may be open; further ones wait until the system has accepted them.
        threads: enough for the requests that are processed or wait, and some that reject requests and report health.
        queue: how many requests may wait; fewer than configured where the handles are few.
    """

    connections: int
    threads: int
    queue: int

    @classmethod
    def of(cls, settings: ServiceSettings, handles: int) -> Capacity:
        """What so many handles suffice for: a connection takes one, a thread another for what it waits for or reads.

        Raises:
            StartError: they are too few for `http_threads`.
        """
        slots = settings.http_threads + picture_slots(settings.http_threads)
        least, available = slots + _SPARE_THREADS, handles - _OWN_HANDLES
        threads = min(least + 2 * settings.queue, available // 3)
        if threads < least:
            raise StartError(
                f"the process may open {handles:,} files, too few for {settings.http_threads} HTTP threads",
                f"allow {_OWN_HANDLES + 3 * least:,} (ulimit -n), or lower --http-threads",
            )
        queue = (threads - least) // 2
        if queue < settings.queue:
            log.warning("only %d requests may wait, since the process may open only %d files", queue, handles)
        return cls(min(_MAX_CONNECTIONS, available - threads), threads, queue)


def picture_slots(slots: int) -> int:
    """How many requests with pictures are processed beside so many others, see `Admission`."""
    return max(1, slots // 4)


def open_search(settings: ServiceSettings, metrics: Metrics) -> Search:
    """Open the search pipeline: warmed up, following the alias, reporting to `metrics`; the index may not exist yet.

    Raises:
        SceneseekError: the bundle, the index or the runtime cannot be used.
    """
    # Imported here, in the worker, so that the master stays small and forks before any library has threads.
    from sceneseek.batching import Batching  # noqa: PLC0415
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.models import ModelRegistry  # noqa: PLC0415
    from sceneseek.query_encoder import QueryEncoder  # noqa: PLC0415
    from sceneseek.search import Search  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415

    models = ModelRegistry(Bundle.load(settings.bundle), settings.device, settings.threads)
    store = open_store(settings.index_url, searching=True)
    encoder = QueryEncoder(Batching(max_batch=settings.max_batch), cached_texts=settings.query_cache, observer=metrics)
    for kind in encoder.waiting():
        depth = metrics.queue_depth.labels(kind)
        depth.set_function(lambda kind=kind: encoder.waiting()[kind])  # type: ignore[misc]  # one of its own each
    metrics.query_cache_entries.set_function(encoder.cached)
    search = Search(models, store, encoder, serving=True)
    search.follower.follow()
    return search


def open_uploads(settings: ServiceSettings, search: Search) -> PendingChanges | None:
    """The folder into which pictures are put; None if the service takes none.

    Raises:
        StartError: it cannot be written, or lies in or around another folder of the index.
    """
    if settings.uploads is None:
        return None
    pending = PendingChanges(settings.uploads)
    if search.follower.waiting_for is None:
        with search.follower.borrow() as snapshot:
            folders = [Path(source.folder) for source in snapshot.collection.info.sources]
        for folder in folders:
            if folder != pending.folder and (
                folder.is_relative_to(pending.folder) or pending.folder.is_relative_to(folder)
            ):
                raise StartError(
                    f"of {pending.folder}, for pictures that are put, and {folder}, which is indexed, one lies in the "
                    "other",
                    f"give --uploads {folder}, or a folder apart from it",
                )
    pending.prepare()
    return pending


def open_feedback(settings: ServiceSettings) -> FeedbackStore | None:
    """Where the service stores ratings; None if nowhere.

    Raises:
        FeedbackUnavailable: the configured file cannot be used.
    """
    path = feedback_path(settings.feedback, settings.index_url)
    if path is None:
        return None
    try:
        return FeedbackStore(path)
    except FeedbackUnavailable as error:
        if settings.feedback is not None:
            raise
        log.warning("no ratings are stored: %s", error)  # it was not asked for, and searches work without
        return None
