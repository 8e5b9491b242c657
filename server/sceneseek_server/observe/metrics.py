"""What is counted and timed while the service runs, for Prometheus; docs/reference/observability.md explains each.

A registry of its own for each application, none of the package's globals. Labels have values out of small fixed
sets: a route is the template that an address fits, never the address; a method that HTTP does not know is ``other``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

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
from prometheus_client.registry import Collector

from sceneseek import __version__
from sceneseek_server.observe.exchange import Exchange

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Seconds: of a whole request, and of parts of one.
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STAGE = (0.0001, 0.00025, 0.0005, *_REQUEST)
_BATCH = (1, 2, 4, 8, 16, 32, 64)


class Metrics(Collector):
    """Everything that the service counts. Thread-safe.

    It is the observer that the query encoder's batches report to (`sceneseek.batching.Observer`), and it is collected
    like a registry.

    Attributes:
        registry: where a collector of more is registered.
        in_flight: requests that are being answered.
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
            "process_threads", "Threads of the process, the runtime's own included.", registry=self.registry
        )
        threads.set_function(lambda: len(os.listdir("/proc/self/task")))  # noqa: PTH208 - names are all that is wanted

        self._requests = counter("http_requests_total", "Requests answered.", "route", "method", "status")
        self._durations = histogram(
            "http_request_duration_seconds",
            "From a request's arrival to the beginning of its answer.",
            _REQUEST,
            "route",
            "method",
        )
        self.in_flight = gauge("http_requests_in_flight", "Requests that are being answered.")
        self._stages = histogram("stage_seconds", "How long a stage took, over all of a request.", _STAGE, "stage")
        self._errors = counter("errors_total", "Requests answered with a problem, by its kind.", "kind")

        self._depth = gauge("queue_depth", "Queries that wait to be encoded.", "kind")
        self._waits = histogram("queue_wait_seconds", "How long a query waited to be encoded.", _STAGE, "kind")
        self._sizes = histogram("batch_size", "Queries encoded in one run of a graph.", _BATCH, "kind")
        self._runs = histogram("batch_run_seconds", "How long one run of a graph took.", _STAGE, "kind")
        self._refused = counter("queue_refusals_total", "Queries that were not encoded.", "kind", "reason")
        self._hits = counter("query_cache_hits_total", "Queries whose vectors were kept from before.")
        self._misses = counter("query_cache_misses_total", "Queries that had to be encoded.")
        self._entries = gauge("query_cache_entries", "Queries whose vectors are kept.")

        thumbnails = counter("thumbnails_total", "Thumbnails sent, drawn for it or kept from before.", "origin")
        self._drawn, self._kept = thumbnails.labels("drawn"), thumbnails.labels("cache")
        self._thumbnail_bytes = gauge("thumbnail_cache_bytes", "Bytes of thumbnails that are kept.")
        self._feedback = counter("feedback_total", "Ratings taken, by what became of them.", "outcome")

        # A look at a dictionary is ten times as fast as the package's, which checks and locks.
        self._by_answer: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._by_stage: dict[str, Histogram] = {}

    def collect(self) -> Iterable[Metric]:
        """Everything, without the times at which each series began: they would be half as many series again."""
        for family in self.registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family

    def answered(self, exchange: Exchange) -> None:
        """A request has been answered."""
        method = exchange.method if exchange.method in _METHODS else "other"
        key = exchange.route, method, exchange.status
        pair = self._by_answer.get(key)
        if pair is None:
            pair = self._requests.labels(*key), self._durations.labels(exchange.route, method)
            self._by_answer[key] = pair
        pair[0].inc()
        pair[1].observe(exchange.seconds)
        for stage, milliseconds in exchange.stages.items():
            child = self._by_stage.get(stage)
            if child is None:
                child = self._by_stage[stage] = self._stages.labels(stage)
            child.observe(milliseconds / 1e3)
        if exchange.problem:
            self._errors.labels(exchange.problem).inc()

    def ran(self, kind: str, size: int, seconds: float) -> None:
        """One run of a graph has encoded so many queries: ``texts`` or ``images``."""
        self._sizes.labels(kind).observe(size)
        self._runs.labels(kind).observe(seconds)

    def waited(self, kind: str, seconds: float) -> None:
        """A query has left the queue."""
        self._waits.labels(kind).observe(seconds)

    def refused(self, kind: str, reason: str) -> None:
        """A query was not encoded: ``overloaded``, ``deadline`` or ``worker``."""
        self._refused.labels(kind, reason).inc()

    def looked_up(self, hit: bool) -> None:
        """A query was looked for among those kept."""
        (self._hits if hit else self._misses).inc()

    def watch_queue(self, kind: str, depth: Callable[[], int]) -> None:
        """Ask this for the length of a queue whenever metrics are asked for."""
        self._depth.labels(kind).set_function(depth)

    def watch_query_cache(self, entries: Callable[[], int]) -> None:
        """Ask this for the number of queries kept."""
        self._entries.set_function(entries)

    def thumbnail_sent(self, drawn: bool) -> None:
        """A thumbnail was drawn, or taken from those kept."""
        (self._drawn if drawn else self._kept).inc()

    def watch_thumbnails(self, kept_bytes: Callable[[], int]) -> None:
        """Ask this for the bytes of thumbnails kept."""
        self._thumbnail_bytes.set_function(kept_bytes)

    def feedback_taken(self, outcome: str) -> None:
        """A rating was stored, or had been before."""
        self._feedback.labels(outcome).inc()
