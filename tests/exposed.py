"""What `/metrics` exposes, as Prometheus reads it, and which metrics queries ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

# How the samples of a family end, beside its own name.
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
# In queries: words that are metrics of ours or of the process; recording rules and PromQL's own words have other names.
_METRIC = re.compile(r"\b(?:sceneseek|process|python)_[a-z_]+\b")


def families(text: str) -> list[Metric]:
    """Every family of the text format."""
    return list(text_string_to_metric_families(text))


def names(found: Iterable[Metric]) -> set[str]:
    """The names that documents give them: a counter's ends with ``_total``."""
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in found}


def sample_names(found: Iterable[Metric]) -> set[str]:
    """The names that queries use, also of families that have no samples yet."""
    return {f"{family.name}{ending}" for family in found for ending in _ENDINGS.get(family.type, ("",))}


def value(found: Iterable[Metric], name: str, **labels: str) -> float | None:
    """A sample's value; None if there is none with these labels."""
    for family in found:
        for sample in family.samples:
            if sample.name == name and sample.labels.items() >= labels.items():
                return float(sample.value)
    return None


def asked_for(query: str) -> set[str]:
    """The metrics in a query, or in a page with queries."""
    return set(_METRIC.findall(query))
