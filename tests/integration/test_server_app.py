"""The whole application: health, readiness, security headers, internal errors and the page."""

from __future__ import annotations

import io
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from flask.testing import FlaskClient
from PIL import Image

import sceneseek_server
from sceneseek.bundle import Bundle
from sceneseek.encoders import TowerTokens
from sceneseek.models import ModelRegistry
from sceneseek.picture import Picture, decode
from sceneseek.query_encoder import QueryEncoder
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek.vectors import Vectors
from sceneseek_indexer.build import index_folder
from sceneseek_server.admission import Admission
from sceneseek_server.app import create_app
from sceneseek_server.service import AccessSettings
from tests.drawing import NAMES, draw_gallery
from tests.hostile import encoded
from tests.played_qdrant import PlayedQdrant

STATIC = Path(sceneseek_server.__file__).parent / "static"


# These tests modify the index, so each one has its own copy.
@pytest.fixture
def search(bundle: Bundle, index_url: str, tmp_path: Path) -> Iterator[Search]:
    shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    search = Search(ModelRegistry(bundle, "cpu"), open_store(f"file:{tmp_path / 'index'}"))
    yield search
    search.close()


@pytest.fixture
def client(search: Search) -> FlaskClient:
    return create_app(search).test_client()


def test_healthz_returns_200(client: FlaskClient) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.get_json()) == (200, {"status": "alive"})


def test_readyz_reports_bundle_generation_and_runtime(client: FlaskClient, search: Search) -> None:
    search.follower.follow()
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.get_json() == {
        "status": "ready",
        "pack": "compact",
        "multilingual": search.bundle.manifest.multilingual,
        "fingerprints": asdict(search.bundle.manifest.fingerprints),
        "generation": search.follower.name,
        "images": len(NAMES),
        "following": True,
        "problem": None,
        "runtime": {
            "asked": "cpu",
            "device": "cpu",
            "provider": "CPUExecutionProvider",
            "why": "asked for",
            "onnxruntime": onnxruntime.__version__,
            "texts_together": True,
        },
    }


def test_readyz_is_503_without_alias_follower(client: FlaskClient) -> None:
    response = client.get("/readyz")
    assert (response.status_code, response.content_type) == (503, "application/problem+json")
    assert response.get_json(force=True)["following"] is False


def test_readyz_is_503_if_index_is_unavailable(client: FlaskClient, search: Search) -> None:
    search.follower.follow()
    search.close()
    response = client.get("/readyz")
    assert (response.status_code, response.content_type) == (503, "application/problem+json")
    assert client.get("/healthz").status_code == 200


def test_readyz_is_503_after_encoder_thread_died(
    client: FlaskClient, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    search.follower.follow()
    search.encoder = QueryEncoder()
    assert client.get("/v1/search?q=the+sea").status_code == 200
    started, gate = threading.Event(), threading.Event()

    def dying(tokens: TowerTokens) -> Vectors:
        started.set()
        assert gate.wait(20)
        raise SystemExit("the thread exits")

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(search.follower.models.encoder, "encode_tokens", dying)
        responses = [pool.submit(client.get, "/v1/search?q=a+house")]  # encoded in the request's own thread
        assert started.wait(10)
        responses.append(pool.submit(client.get, "/v1/search?q=a+boat"))  # queued behind the thread that will die
        while not search.encoder.waiting()["texts"]:
            time.sleep(0.005)
        gate.set()
        with pytest.raises(SystemExit):
            responses[0].result(10)
        lost = responses[1].result(10)
        red = client.get("/readyz")
    assert (lost.status_code, lost.content_type) == (503, "application/problem+json")
    assert int(lost.headers["Retry-After"]) >= 1
    assert red.status_code == 503
    assert "has died" in red.get_json(force=True)["detail"]
    # Permanent until the worker process is replaced (tests/e2e/test_stuck_worker.py).
    assert client.get("/v1/search?q=a+tree").status_code == 503
    assert client.get("/readyz").status_code == 503


def test_qdrant_outage_gives_503_and_recovers_automatically(bundle: Bundle, gallery: Path) -> None:
    played = PlayedQdrant()
    settings = QdrantSettings().for_searching()
    with played.serving():
        index_folder(gallery, bundle, QdrantStore(played.url, QdrantSettings(prefer_grpc="no")))
        search = Search(ModelRegistry(bundle, "cpu"), QdrantStore(played.url, settings))
        client = create_app(search).test_client()
        assert client.get("/v1/search?q=a+house").status_code == 200
    response = client.get("/v1/search?q=a+house")
    assert (response.status_code, response.content_type) == (503, "application/problem+json")
    assert int(response.headers["Retry-After"]) >= 1
    assert response.get_json(force=True)["type"].endswith("index-unavailable")
    assert client.get("/readyz").status_code == 503
    with played.serving():
        assert client.get("/v1/search?q=a+house").status_code == 200
    search.close()


@pytest.mark.parametrize("show", [False, True], ids=["paths hidden", "paths shown"])
@pytest.mark.parametrize("change", ["moved", "empty"])
def test_readyz_reports_missing_source_folder_until_restored(
    bundle: Bundle, tmp_path: Path, show: bool, change: str
) -> None:
    photos, url = tmp_path / "photos", f"file:{tmp_path / 'index'}"
    draw_gallery(photos)
    index_folder(photos, bundle, open_store(url))
    search = Search(ModelRegistry(bundle, "cpu"), open_store(url))
    client = create_app(search, AccessSettings(show_paths=show)).test_client()
    search.follower.follow(every=3600)
    assert client.get("/readyz").get_json()["problem"] is None
    photos.rename(tmp_path / "elsewhere")
    if change != "moved":
        photos.mkdir()
    ready = client.get("/readyz")
    assert ready.status_code == 200, "searches are answered"
    assert "originals and thumbnails are missing" in ready.get_json()["problem"]
    assert (str(photos) in ready.get_data(as_text=True)) == show
    shutil.rmtree(photos, ignore_errors=True)
    (tmp_path / "elsewhere").rename(photos)
    assert client.get("/readyz").get_json()["problem"] is None
    search.close()


@pytest.mark.parametrize("show", [False, True], ids=["paths hidden", "paths shown"])
def test_readyz_reports_unopenable_generation_while_old_one_serves(search: Search, tmp_path: Path, show: bool) -> None:
    client = create_app(search, AccessSettings(show_paths=show)).test_client()
    search.follower.follow(every=3600)
    (tmp_path / "index" / "alias-images").write_text("gone")
    assert search.follower.refresh() is False
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ("gone" in ready.get_json()["problem"]) == show
    assert (str(tmp_path) in ready.get_data(as_text=True)) == show
    assert client.get("/v1/search?q=a+house").status_code == 200


def test_internal_error_is_logged_but_not_exposed(
    client: FlaskClient, search: Search, caplog: pytest.LogCaptureFixture
) -> None:
    search.close()
    response = client.get("/v1/search?q=secret+wish")
    assert (response.status_code, response.content_type) == (500, "application/problem+json")
    assert b"Traceback" not in response.data
    assert b".py" not in response.data
    record = next(record for record in caplog.records if record.name == "sceneseek_server.responses")
    assert record.exc_info is not None
    assert "secret" not in record.getMessage()


@pytest.mark.parametrize("url", ["/", "/static/page.js", "/healthz", "/v1/search?q=sea", "/v1/search", "/nowhere"])
def test_every_response_has_security_headers(client: FlaskClient, url: str) -> None:
    headers = client.get(url, buffered=True).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    for name in ("Cross-Origin-Resource-Policy", "Cross-Origin-Opener-Policy"):
        assert headers[name] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert "Server" not in headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_unknown_url_is_404_problem_with_hint(client: FlaskClient) -> None:
    response = client.get("/nowhere")
    problem = response.get_json(force=True)
    assert (response.status_code, response.content_type) == (404, "application/problem+json")
    assert problem["hint"]


def test_page_and_its_static_files_are_served(client: FlaskClient) -> None:
    page = client.get("/", buffered=True)
    assert page.content_type == "text/html; charset=utf-8"
    parts = re.findall(r'(?:src|href)="(static/[^"]+)"', page.get_data(as_text=True))
    assert {part.rpartition(".")[2] for part in parts} == {"css", "js", "svg"}
    for part in parts:
        assert client.get(f"/{part}", buffered=True).status_code == 200


def test_page_has_no_external_urls_or_inline_script_or_style() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|['\"]//|@import", text), file
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)


def test_page_has_labelled_field_and_live_regions() -> None:
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert '<html lang="en"' in html
    assert '<label for="query"' in html
    assert 'role="alert"' in html
    assert 'role="status"' in html


def test_text_search_is_served_while_image_uploads_wait_for_decoder(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = threading.Event()

    def slow(data: bytes, *arguments: Any, **options: Any) -> Picture:
        assert resume.wait(60)
        return decode(data, *arguments, **options)

    monkeypatch.setattr("sceneseek_server.api.uploads.decode", slow)
    app = create_app(search)
    admission = Admission(app.wsgi_app, slots=8, queue=8, seconds=600)
    app.wsgi_app = admission  # type: ignore[method-assign]
    picture = encoded(Image.new("RGB", (50, 50), "red"), "PNG")
    client = app.test_client()

    def upload() -> int:
        return app.test_client().post("/v1/search", data={"file": (io.BytesIO(picture), "x.png")}).status_code

    with ThreadPoolExecutor(6) as pool:
        uploads = [pool.submit(upload) for _ in range(6)]
        end = time.monotonic() + 60
        while len(admission.pictures.waiting) < 4:
            assert time.monotonic() < end
            time.sleep(0.01)
        texts = [client.get(f"/v1/search?q=boat+{number}").status_code for number in range(10)]
        resume.set()
        assert [answer.result(60) for answer in uploads] == [200] * 6
    assert texts == [200] * 10


def test_urls_include_prefix_behind_proxy(search: Search) -> None:
    client = create_app(search, AccessSettings(url_prefix="/photos")).test_client()
    behind_proxy = {"environ_overrides": {"SCRIPT_NAME": ""}}  # the proxy strips the prefix
    (result,) = client.get("/v1/search?q=a+house&k=1", **behind_proxy).get_json()["results"]
    assert result["thumbnail"] == f"/photos/v1/images/{result['id']}/thumbnail"
    assert client.get(f"/v1/images/{result['id']}/details", **behind_proxy).get_json()["image"] == result["image"]
    # Relative to the URL of the document.
    assert client.get("/openapi.json", **behind_proxy).get_json()["servers"] == [{"url": "."}]


def test_page_uses_only_relative_urls() -> None:
    for script in STATIC.glob("*.js"):
        code = script.read_text(encoding="utf-8")
        assert not re.search(r"""["'`]/(?:v1|static)|result\.(?:image|thumbnail)\b""", code), script.name
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["']/""", page)
