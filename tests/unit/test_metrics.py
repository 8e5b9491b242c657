"""Prometheus metrics without an application."""

from __future__ import annotations

import threading

from prometheus_client import Metric
from prometheus_client.exposition import generate_latest

from sceneseek_server.instrumentation import RequestRecord
from sceneseek_server.metrics import Metrics
from tests import exposed


def read(metrics: Metrics) -> list[Metric]:
    return exposed.families(generate_latest(metrics).decode())


def record_request(
    metrics: Metrics, method: str = "GET", route: str = "/v1/x", status: int = 200, **attributes: object
) -> None:
    record = RequestRecord("id", method, route=route, status=status, seconds=0.02)
    for name, value in attributes.items():
        setattr(record, name, value)
    metrics.answered(record)


def test_requests_are_counted_and_timed_by_route_and_method() -> None:
    metrics = Metrics()
    for _ in range(3):
        record_request(metrics)
    record_request(metrics, status=503, problem="bundle")
    found = read(metrics)
    assert exposed.value(found, "sceneseek_http_requests_total", route="/v1/x", method="GET", status="200") == 3
    assert exposed.value(found, "sceneseek_http_requests_total", status="503") == 1
    bucket = "sceneseek_http_request_duration_seconds_bucket"
    assert exposed.value(found, bucket, route="/v1/x", le="0.01") == 0
    assert exposed.value(found, bucket, route="/v1/x", le="0.025") == 4
    assert exposed.value(found, "sceneseek_errors_total", kind="bundle") == 1


def test_stage_timings_are_in_seconds() -> None:
    metrics = Metrics()
    record_request(metrics, stages={"encode": 6.0, "score": 0.2})
    found = read(metrics)
    assert exposed.value(found, "sceneseek_stage_seconds_sum", stage="encode") == 0.006
    assert exposed.value(found, "sceneseek_stage_seconds_bucket", stage="score", le="0.00025") == 1


def test_unknown_methods_are_one_series() -> None:
    metrics = Metrics()
    for number in range(50):
        record_request(metrics, method=f"BREW{number}")
    found = next(f for f in read(metrics) if f.name == "sceneseek_http_requests")
    assert [(s.labels["method"], s.value) for s in found.samples] == [("other", 50)]


def test_query_encoder_reports_batches_queue_and_cache() -> None:
    metrics = Metrics()
    metrics.ran("texts", 3, 0.004)
    metrics.ran("images", 1, 0.2)
    metrics.waited("texts", 0.001)
    for hit in (True, False, False):
        metrics.looked_up(hit)
    depth = 7
    metrics.queue_depth.labels("texts").set_function(lambda: depth)
    metrics.query_cache_entries.set_function(lambda: 12)
    found = read(metrics)
    assert exposed.value(found, "sceneseek_batch_size_bucket", kind="texts", le="2.0") == 0
    assert exposed.value(found, "sceneseek_batch_size_bucket", kind="texts", le="4.0") == 1
    assert exposed.value(found, "sceneseek_batch_run_seconds_sum", kind="images") == 0.2
    assert exposed.value(found, "sceneseek_queue_wait_seconds_count", kind="texts") == 1
    assert exposed.value(found, "sceneseek_query_cache_hits_total") == 1
    assert exposed.value(found, "sceneseek_query_cache_misses_total") == 2
    assert exposed.value(found, "sceneseek_query_cache_entries") == 12
    assert exposed.value(found, "sceneseek_queue_depth", kind="texts") == 7
    depth = 0
    assert exposed.value(read(metrics), "sceneseek_queue_depth", kind="texts") == 0


def test_feedback_is_counted_by_outcome() -> None:
    metrics = Metrics()
    for outcome in ("stored", "repeated", "stored"):
        metrics.feedback.labels(outcome).inc()
    assert exposed.value(read(metrics), "sceneseek_feedback_total", outcome="stored") == 2


def test_counters_are_thread_safe() -> None:
    metrics = Metrics()

    def record_requests() -> None:
        for number in range(500):
            record_request(metrics, route=f"/{number % 5}", stages={"encode": 1.0})

    threads = [threading.Thread(target=record_requests) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(metrics)
    assert exposed.value(found, "sceneseek_stage_seconds_count", stage="encode") == 2000
    assert exposed.value(found, "sceneseek_http_requests_total", route="/3") == 400


def test_metrics_instances_are_independent() -> None:
    first, second = Metrics(), Metrics()
    record_request(first)
    assert exposed.value(read(second), "sceneseek_http_requests_total", route="/v1/x") is None


def test_process_metrics_are_exposed() -> None:
    found = read(Metrics())
    for name in ("process_resident_memory_bytes", "process_open_fds", "process_threads"):
        assert (exposed.value(found, name) or 0) > 0
