"""What answers, for Prometheus: the live generation, its bundle, the runtime, and whether all of it is well.

It is looked at when metrics are asked for, so what a generation was is gone from them with the first look after
a switch; before the first one these series are missing. An engine that does not answer must not cost the operator all
the other metrics, so it is given two seconds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sceneseek.alias_follower import Snapshot
from sceneseek.errors import IndexUnavailable
from sceneseek.models import Models
from sceneseek.runtime_installation import runtime_version
from sceneseek.search import Search

_PATIENCE_SECONDS = 2.0


class GenerationCollector(Collector):
    """Looks at a pipeline."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._count = _Count(search)

    def collect(self) -> Iterable[Metric]:
        """What is so now."""
        live = self._search.follower
        with contextlib.suppress(IndexUnavailable), live.borrow() as snapshot:
            yield from _generation(snapshot)
            yield _runtime(snapshot)
        images = self._count.take(_PATIENCE_SECONDS)
        yield _gauge("generation_images", "Images in the live generation.", images)
        ready = images is not None and live.watching()
        yield _gauge("ready", "1 if the index answers and a new generation would be followed.", ready)
        yield _gauge("following", "1 if the thread that watches the index is alive.", live.watching())
        yield _gauge("follow_problem", "1 if what the alias points at cannot be followed.", live.problem is not None)
        switches = "Times that another generation took the place of the one that answered."
        yield CounterMetricFamily("sceneseek_generation_switches", switches, live.switches)
        reloads = "Times that a bundle was written anew and taken up for the same generation."
        yield CounterMetricFamily("sceneseek_bundle_reloads", reloads, live.renewals)


class _Count:
    """Counts images in a thread of its own, one count at a time."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._guard = threading.Lock()
        self._counting: threading.Thread | None = None
        self._images: int | None = None

    def take(self, patience: float) -> int | None:
        """The number of images; None if the engine does not say it in so many seconds."""
        with self._guard:
            if self._counting is None or not self._counting.is_alive():
                self._images = None
                self._counting = threading.Thread(target=self._ask, name="count-images", daemon=True)
                self._counting.start()
            counting = self._counting
        counting.join(patience)
        return None if counting.is_alive() else self._images

    def _ask(self) -> None:
        try:
            with self._search.follower.borrow() as snapshot:
                self._images = snapshot.collection.count()
        except Exception:  # noqa: BLE001 - whatever keeps the engine from counting; `/readyz` says and logs what
            self._images = None


def _generation(snapshot: Snapshot[Models]) -> Iterable[Metric]:
    info, manifest = snapshot.collection.info, snapshot.models.bundle.manifest
    described = GaugeMetricFamily(
        "sceneseek_generation_info",
        "The live generation and the bundle that answers for it; always 1.",
        labels=("generation", "bundle", "pack", "precision"),
    )
    described.add_metric((info.name, manifest.fingerprints.bundle[:12], manifest.pack, manifest.precision), 1)
    yield described
    created = None
    if info.created:
        created = datetime.fromisoformat(info.created).timestamp()
    yield _gauge("generation_created_timestamp_seconds", "When the run began that filled the live generation.", created)
    skipped = GaugeMetricFamily(
        "sceneseek_generation_skipped_files",
        "Files that the run that filled the live generation could not use, by reason.",
        labels=("reason",),
    )
    for reason, files in sorted(info.skipped.items()):
        skipped.add_metric((reason,), files)
    yield skipped


def _runtime(snapshot: Snapshot[Models]) -> Metric:
    placement = snapshot.models.encoder.placement
    family = GaugeMetricFamily(
        "sceneseek_runtime_info",
        "Where the text graph runs; always 1.",
        labels=("device", "provider", "onnxruntime"),
    )
    family.add_metric((placement.device, placement.provider, runtime_version()), 1)
    return family


def _gauge(name: str, help_: str, value: float | None) -> Metric:
    """A gauge without labels; without a sample too where the value is not known."""
    return GaugeMetricFamily(f"sceneseek_{name}", help_, None if value is None else float(value))
