"""`/metrics`, request IDs, timings, the access log, and their documentation."""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from flask import Flask, g
from flask.testing import FlaskClient
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from sceneseek.bundle import Bundle
from sceneseek.errors import Overloaded
from sceneseek.logs import JsonFormatter
from sceneseek.models import ModelRegistry
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek_server.app import create_app
from sceneseek_server.instrumentation import count_rejected, record_stages
from sceneseek_server.metrics import Metrics
from tests import exposed
from tests.drawing import NAMES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "observability.md").read_text(encoding="utf-8")
QUERY = "/v1/search?q=secret+wish&k=1"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def app(search: Search, metrics: Metrics) -> Flask:
    """The application with two extra views: one records stages and a caller, one raises."""
    app = create_app(search, metrics=metrics)

    @app.get("/staged/<int:number>")
    def staged(number: int) -> str:
        record_stages({"encode": 6.25, "score": 0.5, "total": 7.0})
        g.caller = SimpleNamespace(address="203.0.113.9", key="the-gallery" if number else None)
        logging.getLogger("a.view").warning("while answering")
        return "x" * number

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError

    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    """Captured log lines, formatted as JSON when they are logged."""
    handler = Lines()
    logging.getLogger().addHandler(handler)
    caplog.set_level(logging.INFO)
    yield handler
    logging.getLogger().removeHandler(handler)


class Lines(logging.Handler):
    """Log lines of the JSON format, parsed."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))

    def access(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["logger"] == "sceneseek.access"]


def read(client: FlaskClient) -> list[Metric]:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain; version=0.0.4")
    return exposed.families(response.get_data(as_text=True))


def test_requests_are_counted_by_route_not_url(client: FlaskClient) -> None:
    for url in ("/staged/1", "/staged/2", "/wp-admin.php", "/v1/images/0b9f1c7e-0000-4000-8000-000000000000"):
        client.get(url)
    client.open("/staged/3", method="BREW")
    found = read(client)
    count = "sceneseek_http_requests_total"
    assert exposed.value(found, count, route="/staged/<int:number>", method="GET", status="200") == 2
    assert exposed.value(found, count, route="/v1/images/<uuid:image>", status="404") == 1
    assert exposed.value(found, count, route="unmatched", method="other", status="405") == 1
    assert exposed.value(found, "sceneseek_errors_total", kind="not-found") == 1
    routes = {s.labels["route"] for f in found for s in f.samples if "route" in s.labels}
    assert not [route for route in routes if "wp-admin" in route or "0b9f" in route]


def test_stage_timings_are_in_metrics_and_server_timing_header(client: FlaskClient) -> None:
    before = exposed.value(read(client), "sceneseek_stage_seconds_count", stage="encode") or 0
    header = client.get("/staged/1").headers["Server-Timing"]
    assert re.fullmatch(r"encode;dur=6\.25, score;dur=0\.50, total;dur=\d+\.\d\d", header)
    found = read(client)
    assert exposed.value(found, "sceneseek_stage_seconds_count", stage="encode") == before + 1
    assert exposed.value(found, "sceneseek_stage_seconds_count", stage="total") is None


@pytest.mark.parametrize("url", ["/", "/healthz", QUERY, "/nowhere", "/v1/search", "/static/page.js", "/broken"])
def test_every_response_has_request_id_and_total_time(client: FlaskClient, url: str) -> None:
    headers = client.get(url, buffered=True).headers
    assert re.fullmatch(r"[0-9a-f]{16}", headers["X-Request-ID"])
    assert re.fullmatch(r"(\w+;dur=\d+\.\d\d, )*total;dur=\d+\.\d\d", headers["Server-Timing"])


def test_client_request_id_is_in_response_problem_and_log(client: FlaskClient, lines: Lines) -> None:
    response = client.get("/staged/1", headers={"X-Request-ID": "mine-1"})
    assert response.headers["X-Request-ID"] == "mine-1"
    assert [line["request_id"] for line in lines.lines] == ["mine-1", "mine-1"]
    assert lines.lines[0]["message"] == "while answering"
    problem = client.get("/v1/search", headers={"X-Request-ID": "mine-2"}).get_json(force=True)
    assert problem["request_id"] == "mine-2"
    logging.getLogger("a.view").warning("later")
    assert "request_id" not in lines.lines[-1]


def test_request_is_logged_as_one_line(client: FlaskClient, lines: Lines) -> None:
    client.get("/staged/12")
    (line,) = lines.access()
    assert line.pop("ms") > 0
    assert line.pop("time")
    assert re.fullmatch(r"[0-9a-f]{16}", line.pop("request_id"))
    assert line.pop("message").startswith("GET /staged/<int:number> 200 in ")
    assert line == {
        "level": "info",
        "logger": "sceneseek.access",
        "method": "GET",
        "route": "/staged/<int:number>",
        "status": 200,
        "bytes": 12,
        "stages": {"encode": 6.25, "score": 0.5},
        "caller": "the-gallery",
    }


def test_access_log_identifies_caller_by_key_not_address(client: FlaskClient, lines: Lines) -> None:
    client.get("/staged/1")
    client.get("/staged/0")
    named, nameless = lines.access()
    assert named["caller"] == "the-gallery"
    assert "caller" not in nameless
    assert "203.0.113.9" not in json.dumps(lines.lines)


def test_log_contains_no_query_or_header_values(client: FlaskClient, lines: Lines) -> None:
    secrets = {"Authorization": "Bearer hunter2", "User-Agent": "agent-x", "Cookie": "c=hunter2"}
    for url in (QUERY, "/v1/search?q=secret+wish&k=many", "/nowhere?secret=wish", "/broken?secret=wish"):
        client.get(url, headers=secrets)
    client.post("/v1/search", json={"q": "secret wish"}, headers=secrets)
    assert len(lines.access()) == 5
    text = json.dumps(lines.lines)
    for word in ("secret", "wish", "hunter2", "agent-x"):
        assert word not in text


def test_polled_paths_are_logged_only_on_failure(client: FlaskClient, lines: Lines) -> None:
    for url in ("/healthz", "/metrics"):
        client.get(url)
    assert lines.access() == []
    client.get("/readyz")  # no thread follows the alias
    assert [line["status"] for line in lines.access()] == [503]


def test_unexpected_error_is_counted_and_logged_with_request_id(client: FlaskClient, lines: Lines) -> None:
    problem = client.get("/broken").get_json(force=True)
    (fault,) = [line for line in lines.lines if line["level"] == "error"]
    assert fault["request_id"] == problem["request_id"]
    assert "RuntimeError" in fault["exception"]
    found = read(client)
    assert exposed.value(found, "sceneseek_errors_total", kind="http-500") == 1
    assert exposed.value(found, "sceneseek_http_requests_in_flight") == 1  # the request that reads the metrics


def test_request_rejected_before_application_is_counted_but_not_logged(
    metrics: Metrics, client: FlaskClient, lines: Lines
) -> None:
    count_rejected(metrics, "GET", Overloaded("too many requests"))
    assert not lines.access()
    found = read(client)
    assert exposed.value(found, "sceneseek_http_requests_total", route="refused", status="429") == 1
    assert exposed.value(found, "sceneseek_errors_total", kind="overloaded") == 1


def test_openmetrics_is_negotiated(client: FlaskClient) -> None:
    client.get("/staged/1")
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
    assert response.content_type.startswith("application/openmetrics-text; version=1.0.0")
    found = list(openmetrics_families(response.get_data(as_text=True)))  # type: ignore[no-untyped-call]  # theirs
    assert exposed.value(found, "sceneseek_http_requests_total", status="200")


def test_thumbnail_is_counted_as_drawn_then_as_cached(client: FlaskClient) -> None:
    thumbnail = client.get("/v1/search?q=sea&k=1").get_json()["results"][0]["thumbnail"]
    before = read(client)
    size = sum(len(client.get(thumbnail).data) for _ in range(2)) // 2
    after = read(client)
    for origin in ("drawn", "cache"):
        name = "sceneseek_thumbnails_total"
        grown = (exposed.value(after, name, origin=origin) or 0) - (exposed.value(before, name, origin=origin) or 0)
        assert grown == 1
    assert (exposed.value(after, "sceneseek_thumbnail_cache_bytes") or 0) >= size


def test_generation_and_runtime_metrics_follow_alias_switch(bundle: Bundle, index_url: str, tmp_path: Path) -> None:
    shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    store = open_store(f"file:{tmp_path / 'index'}")
    search = Search(ModelRegistry(bundle, "cpu"), store)
    client = create_app(search).test_client()
    found = read(client)
    assert exposed.value(found, "sceneseek_ready") == 0, "nobody watches the index"
    search.follower.follow(every=3600)
    first, found = search.follower.name, read(client)
    facts = {"bundle": bundle.manifest.fingerprints.bundle[:12], "pack": "compact", "precision": "fp32"}
    assert exposed.value(found, "sceneseek_generation_info", generation=first, **facts) == 1
    assert exposed.value(found, "sceneseek_runtime_info", device="cpu", provider="CPUExecutionProvider") == 1
    assert exposed.value(found, "sceneseek_generation_images") == len(NAMES)
    assert (exposed.value(found, "sceneseek_generation_created_timestamp_seconds") or 0) > time.time() - 86_400
    for name, expected in (("ready", 1), ("following", 1), ("follow_problem", 0), ("generation_switches_total", 0)):
        assert exposed.value(found, f"sceneseek_{name}") == expected, name

    with store.writing(), search.follower.borrow() as snapshot:
        copy = store.create(replace(snapshot.collection.info, name="second"), first)
        store.publish(copy, {"truncated": 3, "unreadable": 1})
    assert search.follower.refresh()
    found = read(client)
    family = next(f for f in found if f.name == "sceneseek_generation_info")
    assert [sample.labels["generation"] for sample in family.samples] == ["second"]
    assert exposed.value(found, "sceneseek_generation_skipped_files", reason="truncated") == 3
    assert exposed.value(found, "sceneseek_generation_switches_total") == 1

    (tmp_path / "index" / "alias-images").write_text("gone")
    search.follower.refresh()
    assert exposed.value(read(client), "sceneseek_follow_problem") == 1
    search.close()
    found = read(client)
    assert exposed.value(found, "sceneseek_ready") == 0
    assert exposed.value(found, "sceneseek_generation_images") is None, "the engine does not say"


def test_hanging_engine_does_not_delay_other_metrics(
    client: FlaskClient, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = threading.Event()
    with search.follower.borrow() as snapshot:
        monkeypatch.setattr(snapshot.collection, "count", lambda: resume.wait(60) and len(NAMES))
    monkeypatch.setattr("sceneseek_server.metrics._COUNT_TIMEOUT", 0.05)
    client.get("/healthz")
    found = read(client)
    resume.set()
    assert exposed.value(found, "sceneseek_ready") == 0
    assert exposed.value(found, "sceneseek_http_requests_total", route="/healthz") == 1


def test_documented_metrics_match_exposed_metrics(client: FlaskClient) -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE.partition("## Queries")[0], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == exposed.names(read(client))


def test_documented_labels_match_exposed_labels(client: FlaskClient) -> None:
    client.get("/staged/1")
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", PAGE.partition("## Queries")[0], re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    for family in read(client):
        if family.name.startswith("sceneseek_"):
            for sample in family.samples:
                name = family.name + ("_total" if family.type == "counter" else "")
                assert set(sample.labels) - {"le"} == documented[name], name


def test_dashboard_alerts_and_documentation_query_only_existing_metrics(client: FlaskClient) -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "sceneseek.json").read_text(encoding="utf-8"))
    alerts = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable]
    queries += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    queries += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    queries += re.findall(r"`([^`]+)`", PAGE.partition("## Queries")[2].partition("## Alerts")[0])
    referenced = set().union(*map(exposed.asked_for, queries))
    assert len(referenced) > 20
    assert referenced <= exposed.sample_names(read(client))


def test_every_sceneseek_metric_is_on_dashboard(client: FlaskClient) -> None:
    shown = exposed.asked_for((ROOT / "deploy" / "grafana" / "sceneseek.json").read_text(encoding="utf-8"))
    for family in read(client):
        if family.name.startswith("sceneseek_"):
            assert exposed.sample_names([family]) & shown, family.name


def test_every_alert_is_documented(client: FlaskClient) -> None:
    alerts = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text(encoding="utf-8"))
    named = [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
    assert re.findall(r"^\| ((?:Sceneseek|Qdrant)\w+) \|", PAGE, re.MULTILINE) == named
