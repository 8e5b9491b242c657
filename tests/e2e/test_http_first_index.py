"""A service that starts without an index suggests the command to run, and becomes ready once the index exists."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from sceneseek.bundle import Bundle
from sceneseek.store.qdrant import QdrantSettings, QdrantStore
from sceneseek_indexer.build import index_folder
from tests.command_line import CommandLine
from tests.drawing import NAMES
from tests.exposed import families, value
from tests.played_qdrant import PlayedQdrant
from tests.running import Running, running

NO_IMAGE = "00000000-0000-0000-0000-000000000000"
NOTHING = "urn:sceneseek:problem:nothing-indexed"


def metric(service: Running, name: str) -> float | None:
    return value(families(service.get("/metrics")[2].decode()), name)


def assert_searches(service: Running) -> None:
    ready = service.until_ready(lambda document: document["status"] == "ready")
    assert (ready["images"], ready["following"], ready["problem"]) == (len(NAMES), True, None)
    status, _, body = service.get("/v1/search?q=a+red+circle&k=3")
    assert (status, len(json.loads(body)["results"])) == (200, 3)
    assert service.output.readline() == f"sceneseek searches {len(NAMES)} images at {service.url}\n"


def test_service_without_index_suggests_command_and_becomes_ready_after_indexing(
    sceneseek: CommandLine, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    options = ("--bundle", bundle.path, "--index", f"file:{tmp_path}/my index", "--show-paths")
    with running(*options) as service:
        assert service.announced.startswith(f"nothing is indexed in file:{tmp_path}/my%20index: run `sceneseek index")
        assert service.announced.endswith(f"; sceneseek waits for it at {service.url}")
        assert service.get("/healthz")[0] == 200
        assert b'id="first"' in service.get("/")[2]
        for path in ("/v1/search?q=sea", "/v1/collections", "/v1/fields", f"/v1/images/{NO_IMAGE}/details"):
            status, headers, body = service.get(path)
            assert (status, headers["Content-Type"]) == (503, "application/problem+json"), path
            assert int(headers["Retry-After"]) >= 1
            assert json.loads(body)["type"] == NOTHING
        assert (metric(service, "sceneseek_ready"), metric(service, "sceneseek_following")) == (0, 1)
        status, headers, body = service.get("/readyz")
        assert (status, headers["Content-Type"]) == (503, "application/problem+json")
        waiting = json.loads(body)
        assert (waiting["type"], waiting["building"], waiting["stack_command"]) == (NOTHING, False, None)
        assert waiting["command"] in waiting["hint"]
        failed = sceneseek("search", "sea", "--url", service.url)
        assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
        assert "nothing is indexed" in failed.stderr

        program, *arguments = shlex.split(waiting["command"])
        assert program == "sceneseek"
        done = sceneseek(*(gallery if word == "DIR" else word for word in arguments))
        assert done.returncode == 0, done.stderr
        assert_searches(service)
        assert metric(service, "sceneseek_ready") == 1


def test_service_waits_for_qdrant_server_and_its_first_index(bundle: Bundle, gallery: Path) -> None:
    played = PlayedQdrant()
    with played.serving():
        pass  # its port is free now
    with running("--bundle", bundle.path, "--index", played.url, SCENESEEK_QDRANT_PREFER_GRPC="no") as service:
        assert service.announced.startswith(f"no Qdrant server answers at {played.url} (")
        assert service.announced.endswith(f"); sceneseek waits for it at {service.url}")
        away = service.ready()
        assert (away["type"], away["status"]) == ("urn:sceneseek:problem:index-unavailable", 503)
        assert service.get("/v1/search?q=sea")[0] == 503
        with played.serving():
            waiting = service.until_ready(lambda document: document.get("type") == NOTHING)
            # Without --show-paths the response does not reveal the locations of bundle and index.
            assert waiting["command"] == "sceneseek index DIR --bundle BUNDLE --index INDEX"
            assert waiting["stack_command"] == "make reindex IMAGES=DIR"
            assert str(played.port) not in json.dumps(waiting)
            index_folder(gallery, bundle, QdrantStore(played.url, QdrantSettings(prefer_grpc="no")))
            assert_searches(service)
