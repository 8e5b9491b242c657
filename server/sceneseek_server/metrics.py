"""Prometheus metrics of the service; docs/reference/observability.md explains each.

Each application has its own registry. Labels take values from small fixed sets: a route is a URL template, never an
address, and a nonstandard HTTP method is ``other``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sceneseek import __version__
from sceneseek.alias_follower import Snapshot
from sceneseek.errors import IndexUnavailable
from sceneseek.models import Models
from sceneseek.runtime_installation import runtime_version
from sceneseek.search import Search

if TYPE_CHECKING:
    from sceneseek_server.instrumentation import RequestRecord

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Buckets in seconds: for requests, and for their stages.
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STAGE = (0.0001, 0.00025, 0.0005, *_REQUEST)
_BATCH = (1, 2, 4, 8, 16, 32, 64)
# Seconds that a scrape waits for the number of images.
_COUNT_TIMEOUT = 2.0


class Metrics(Collector):
    """The metrics of one service. Thread-safe.

    An observer of the query encoder (`sceneseek.batching.Observer`), and a collector for exposition.

    Attributes:
        registry: the registry, for additional collectors.
        in_flight: requests in progress.
        queue_depth, query_cache_entries, thumbnail_cache_bytes: computed at each scrape.
        feedback: ratings by outcome, ``stored`` or ``repeated``.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(f"sceneseek_{name}", help_, labels, registry=self.registry)

        def gauge(name: str, help_: str, *labels: str) -> Gauge:
            return Gauge(f"sceneseek_{name}", help_, labels, registry=self.registry)

        def histogram(name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"sceneseek_{name}", help_, labels, registry=self.registry, buckets=buckets)

        gauge("build_info", "The program's version; always 1.", "version").labels(__version__).set(1)
        threads = Gauge(
            "process_threads", "Threads of the process, including those of the runtime.", registry=self.registry
        )
        threads.set_function(lambda: len(os.listdir("/proc/self/task")))  # noqa: PTH208 - only counted

        self._requests = counter("http_requests_total", "Requests answered.", "route", "method", "status")
        self._durations = histogram(
            "http_request_duration_seconds",
            "From the arrival of a request to the start of its response.",
            _REQUEST,
            "route",
            "method",
        )
        self.in_flight = gauge("http_requests_in_flight", "Requests in progress.")
        self._stages = histogram("stage_seconds", "Seconds per request and stage.", _STAGE, "stage")
        self._errors = counter("errors_total", "Requests answered with a problem, by kind.", "kind")

        self.queue_depth = gauge("queue_depth", "Queries waiting to be encoded.", "kind")
        self._waits = histogram("queue_wait_seconds", "Seconds that a query waited to be encoded.", _STAGE, "kind")
        self._sizes = histogram("batch_size", "Queries encoded in one run of a graph.", _BATCH, "kind")
        self._runs = histogram("batch_run_seconds", "Seconds of one run of a graph.", _STAGE, "kind")
        self._refused = counter("queue_refusals_total", "Queries that were not encoded.", "kind", "reason")
        self._hits = counter("query_cache_hits_total", "Queries whose vectors were cached.")
        self._misses = counter("query_cache_misses_total", "Queries that had to be encoded.")
        self.query_cache_entries = gauge("query_cache_entries", "Queries whose vectors are cached.")

        thumbnails = counter("thumbnails_total", "Thumbnails sent, by origin.", "origin")
        self._drawn, self._cached = thumbnails.labels("drawn"), thumbnails.labels("cache")
        self.thumbnail_cache_bytes = gauge("thumbnail_cache_bytes", "Bytes of cached thumbnails.")
        self.feedback = counter("feedback_total", "Ratings received, by outcome.", "outcome")

        # Ten times as fast as the library's own lookup, which validates and locks.
        self._by_response: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._by_stage: dict[str, Histogram] = {}

    def collect(self) -> Iterable[Metric]:
        """All metrics, without creation times, which would add half as many series."""
        for family in self.registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family

    def answered(self, record: RequestRecord) -> None:
        """Count an answered request."""
        method = record.method if record.method in _METHODS else "other"
        key = record.route, method, record.status
        pair = self._by_response.get(key)
        if pair is None:
            pair = self._requests.labels(*key), self._durations.labels(record.route, method)
            self._by_response[key] = pair
        pair[0].inc()
        pair[1].observe(record.seconds)
        for stage, milliseconds in record.stages.items():
            child = self._by_stage.get(stage)
            if child is None:
                child = self._by_stage[stage] = self._stages.labels(stage)
            child.observe(milliseconds / 1e3)
        if record.problem:
            self._errors.labels(record.problem).inc()

    def ran(self, kind: str, size: int, seconds: float) -> None:
        """Count a run of a graph that encoded `size` queries of a kind: ``texts`` or ``images``."""
        self._sizes.labels(kind).observe(size)
        self._runs.labels(kind).observe(seconds)

    def waited(self, kind: str, seconds: float) -> None:
        """Record how long a query waited in the queue."""
        self._waits.labels(kind).observe(seconds)

    def refused(self, kind: str, reason: str) -> None:
        """Count a query that was not encoded: ``overloaded``, ``deadline`` or ``worker``."""
        self._refused.labels(kind, reason).inc()

    def looked_up(self, hit: bool) -> None:
        """Count a lookup in the query cache."""
        (self._hits if hit else self._misses).inc()

    def thumbnail_sent(self, drawn: bool) -> None:
        """Count a thumbnail that was drawn, or taken from the cache."""
        (self._drawn if drawn else self._cached).inc()


class GenerationCollector(Collector):
    """Metrics of the live generation, its bundle and the runtime, and whether the service follows new generations.

    They are computed at each scrape, so those of the previous generation end at the first scrape after a switch. They
    are missing before the first generation. The engine has two seconds to respond, so that it cannot block the other
    metrics.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._counter = _ImageCounter(search)

    def collect(self) -> Iterable[Metric]:
        """The current values."""
        live = self._search.follower
        with contextlib.suppress(IndexUnavailable), live.borrow() as snapshot:
            yield from _generation(snapshot)
        images = self._counter.count(_COUNT_TIMEOUT)
        yield _gauge("generation_images", "Images in the live generation.", images)
        ready = images is not None and live.watching()
        yield _gauge("ready", "1 if the index responds and new generations are followed.", ready)
        yield _gauge("following", "1 if the thread that watches the index is alive.", live.watching())
        yield _gauge("follow_problem", "1 if the generation of the alias cannot be loaded.", live.problem is not None)
        switches = "Switches to another generation."
        yield CounterMetricFamily("sceneseek_generation_switches", switches, live.switches)
        reloads = "Reloads of a rewritten bundle for the same generation."
        yield CounterMetricFamily("sceneseek_bundle_reloads", reloads, live.renewals)


class _ImageCounter:
    """Counts images in a background thread, one count at a time."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._lock = threading.Lock()
        self._counting: threading.Thread | None = None
        self._images: int | None = None

    def count(self, timeout: float) -> int | None:
        """The number of images; None if the engine does not respond within `timeout` seconds."""
        with self._lock:
            if self._counting is None or not self._counting.is_alive():
                self._images = None
                self._counting = threading.Thread(target=self._run, name="count-images", daemon=True)
                self._counting.start()
            counting = self._counting
        counting.join(timeout)
        return None if counting.is_alive() else self._images

    def _run(self) -> None:
        try:
            with self._search.follower.borrow() as snapshot:
                self._images = snapshot.collection.count()
        except Exception:  # noqa: BLE001 - `/readyz` reports and logs it
            self._images = None


def _generation(snapshot: Snapshot[Models]) -> Iterable[Metric]:
    info, manifest = snapshot.collection.info, snapshot.models.bundle.manifest
    yield _info(
        "generation_info",
        "The live generation and its bundle; always 1.",
        generation=info.name,
        bundle=manifest.fingerprints.bundle[:12],
        pack=manifest.pack,
        precision=manifest.precision,
    )
    created = datetime.fromisoformat(info.created).timestamp() if info.created else None
    yield _gauge("generation_created_timestamp_seconds", "When the indexing of the live generation started.", created)
    skipped = GaugeMetricFamily(
        "sceneseek_generation_skipped_files",
        "Files skipped by the indexing run of the live generation, by reason.",
        labels=("reason",),
    )
    for reason, files in sorted(info.skipped.items()):
        skipped.add_metric((reason,), files)
    yield skipped
    placement = snapshot.models.encoder.placement
    yield _info(
        "runtime_info",
        "Where the text graph runs; always 1.",
        device=placement.device,
        provider=placement.provider,
        onnxruntime=runtime_version(),
    )


def _info(name: str, help_: str, **labels: str) -> Metric:
    """A gauge of value 1 that carries information in its labels."""
    family = GaugeMetricFamily(f"sceneseek_{name}", help_, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), 1)
    return family


def _gauge(name: str, help_: str, value: float | None) -> Metric:
    """A gauge without labels; without a sample if the value is None."""
    return GaugeMetricFamily(f"sceneseek_{name}", help_, None if value is None else float(value))
