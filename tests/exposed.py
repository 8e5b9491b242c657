"""The metrics that `/metrics` exposes, as parsed by Prometheus, and the metrics that PromQL queries use."""

from __future__ import annotations

import re
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

# Suffixes of a family's samples, by its type.
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
# Metrics of this program or its process in a query; recording rules and PromQL keywords do not match.
_METRIC = re.compile(r"\b(?:sceneseek|process|python)_[a-z_]+\b")


def families(text: str) -> list[Metric]:
    """Parse the text format into metric families."""
    return list(text_string_to_metric_families(text))


def names(found: Iterable[Metric]) -> set[str]:
    """The documented names: a counter's name ends with ``_total``."""
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in found}


def sample_names(found: Iterable[Metric]) -> set[str]:
    """The names of samples in queries, including families without samples."""
    return {f"{family.name}{ending}" for family in found for ending in _ENDINGS.get(family.type, ("",))}


def value(found: Iterable[Metric], name: str, **labels: str) -> float | None:
    """The value of the sample with these labels, or None."""
    for family in found:
        for sample in family.samples:
            if sample.name == name and sample.labels.items() >= labels.items():
                return float(sample.value)
    return None


def asked_for(query: str) -> set[str]:
    """The metrics in a query, or in a page that contains queries."""
    return set(_METRIC.findall(query))
