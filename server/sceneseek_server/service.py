"""The settings of a service, and functions that open the search pipeline, the uploads folder and the ratings."""

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
# More idle clients than this need a reverse proxy.
_MAX_CONNECTIONS = 4_096
# File handles for graphs, two generations, ratings, the metrics port, and uploaded files.
_OWN_HANDLES = 192


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """The settings of access control (`sceneseek_server.access`); see `ServiceSettings`.

    The defaults suit an application that is called in process.

    Attributes:
        bound_to: the name or address that the service listens on.
        max_upload: maximum size of an uploaded image in bytes.
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
    """The settings of a service: the options of `sceneseek serve`, explained by their help texts (`command.serve`).

    Attributes:
        deadline: seconds within which a request is answered, from when it has been received completely.
        grace: seconds that a shutdown waits for requests in flight.
        access: the settings of access control.
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
    """The limits of a worker that follow from its number of file handles.

    Attributes:
        connections: maximum number of open connections; further ones wait in the kernel's queue.
        threads: enough for all processed and waiting requests, and some to reject requests and report health.
        queue: maximum number of waiting requests; less than configured if there are few file handles.
    """

    connections: int
    threads: int
    queue: int

    @classmethod
    def of(cls, settings: ServiceSettings, handles: int) -> Capacity:
        """The capacity with this many file handles: a connection needs one, and so does each thread.

        Raises:
            StartError: there are too few handles for `http_threads`.
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
    """The number of slots for requests with pictures, given that for other requests; see `Admission`."""
    return max(1, slots // 4)


def open_search(settings: ServiceSettings, metrics: Metrics) -> Search:
    """Open the search pipeline, warmed up and following the alias; the index need not exist yet.

    Raises:
        SceneseekError: the bundle, the index or the runtime cannot be used.
    """
    # Imported in the worker, so that the master stays small and forks before any library starts threads.
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
        depth.set_function(lambda kind=kind: encoder.waiting()[kind])  # type: ignore[misc]  # binds each kind
    metrics.query_cache_entries.set_function(encoder.cached)
    search = Search(models, store, encoder, serving=True)
    search.follower.follow()
    return search


def open_uploads(settings: ServiceSettings, search: Search) -> PendingChanges | None:
    """Open the folder for uploaded pictures; None if uploads are disabled.

    Raises:
        StartError: the folder is not writable, or overlaps with another folder of the index.
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
                    f"the folder for uploads {pending.folder} and the indexed folder {folder} overlap",
                    f"give --uploads {folder}, or a separate folder",
                )
    pending.prepare()
    return pending


def open_feedback(settings: ServiceSettings) -> FeedbackStore | None:
    """Open the store of ratings; None if ratings are not stored.

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
        log.warning("ratings are not stored: %s", error)  # not configured, and not needed for searches
        return None
