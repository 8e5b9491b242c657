"""Uploads and deletions over HTTP, and their effect on search and status after an indexing run."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from sceneseek.bundle import Bundle
from sceneseek.errors import SourceError, StartError
from sceneseek.models import ModelRegistry
from sceneseek.payload import point_id
from sceneseek.pending_changes import PendingChanges
from sceneseek.search import Search
from sceneseek.store import VectorStore
from sceneseek_indexer.build import BuildOptions, index_folders
from sceneseek_indexer.patterns import Patterns
from sceneseek_indexer.report import IndexReport
from sceneseek_indexer.source_scan import Folder
from sceneseek_indexer.watch import Watch
from sceneseek_server.access.keys import add_key, new_key
from sceneseek_server.app import create_app
from sceneseek_server.service import AccessSettings, ServiceSettings, open_uploads
from tests.conftest import ROOT
from tests.engines import another, on_edge

Noise = Callable[[int, int], Image.Image]


class Site:
    """A service that accepts uploads into a folder, an index of the folder, and API keys."""

    def __init__(self, bundle: Bundle, store: VectorStore, home: Path, max_upload: int = 10**6) -> None:
        self.bundle, self.store, self.home = bundle, store, home
        self.folder = home / "photos"
        self.folder.mkdir()
        self.pending = PendingChanges(self.folder)
        self.pending.prepare()
        self.search = Search(ModelRegistry(bundle, "cpu"), another(store), serving=True)
        self.keys = {name: new_key(name, datetime.now(UTC), write=name == "writer") for name in ("writer", "reader")}
        for key in self.keys.values():
            add_key(home / "keys.json", key)
        self.access = AccessSettings(api_keys=home / "keys.json", max_upload=max_upload)
        self.client = self.serve(self.pending)

    def serve(self, pending: PendingChanges | None) -> FlaskClient:
        return create_app(self.search, self.access, pending=pending).test_client()

    def request(
        self, method: str, path: str, key: str = "writer", data: bytes | None = None, **headers: str
    ) -> TestResponse:
        fields = {"X-API-Key": self.keys[key].secret, **{name.replace("_", "-"): v for name, v in headers.items()}}
        return self.client.open(f"/v1/images/{path}", method=method, headers=fields, data=data, buffered=True)

    def put(self, path: str, data: bytes, **headers: str) -> str:
        """Upload an image and return its id."""
        answer = self.request("PUT", path, data=data, **headers)
        assert answer.status_code == 202, answer.text
        return str(answer.get_json()["id"])

    def state(self, identity: str) -> str:
        answer = self.request("GET", f"{identity}/status")
        return str(answer.get_json()["state"]) if answer.status_code == 200 else str(answer.status_code)

    def index(self, *others: Path, **options: Any) -> IndexReport:
        """Run the indexer and refresh the service."""
        folders = [Folder(each) for each in (self.folder, *others)]
        report = index_folders(folders, self.bundle, self.store, BuildOptions("cpu", **options))
        self.search.follower.refresh()
        return report

    def search_ids(self) -> set[str]:
        answer = self.client.get("/v1/search?q=a&k=100", headers={"X-API-Key": self.keys["reader"].secret})
        return {result["id"] for result in answer.get_json()["results"]}


@pytest.fixture
def site(bundle: Bundle, store: VectorStore, tmp_path: Path) -> Iterator[Site]:
    site = Site(bundle, store, tmp_path)
    yield site
    site.search.close()


def png(image: Image.Image) -> bytes:
    with io.BytesIO() as out:
        image.save(out, "PNG")
        return out.getvalue()


def test_uploads_and_deletions_take_effect_at_the_next_run(site: Site, noise: Noise) -> None:
    first = png(noise(30, 30))
    answer = site.request("PUT", "new/first.png", data=first, Content_Type="image/png")
    identity = point_id("new/first.png")
    assert answer.status_code == 202
    tag = hashlib.sha256(first).hexdigest()
    assert answer.get_json() == {"id": identity, "state": "pending", "etag": tag}
    assert answer.headers["Location"] == f"/v1/images/{identity}/status"
    assert answer.headers["ETag"] == f'"{tag}"'
    assert site.state(identity) == "pending"
    second = site.put("second.png", png(noise(40, 30)))
    assert site.index().indexed == 2
    assert {site.state(identity), site.state(second)} == {"indexed"}
    assert site.search_ids() == {identity, second}
    original = site.request("GET", identity)
    assert (original.data, original.headers["ETag"]) == (first, f'"{tag}"')

    replaced = site.put("second.png", png(noise(50, 50)), If_Match=site.request("GET", second).headers["ETag"])
    assert (replaced, site.state(second)) == (second, "pending")
    assert site.request("DELETE", identity).get_json()["state"] == "deleting"
    assert site.state(identity) == "deleting"
    assert identity in site.search_ids()
    report = site.index()
    assert (report.indexed, report.removed, report.gone) == (1, 1, 0)
    assert (site.state(identity), site.state(second)) == ("deleted", "indexed")
    assert site.search_ids() == {second}
    assert site.request("DELETE", identity).status_code == 202

    # Deleting the last image leaves an empty index.
    site.request("DELETE", second, If_Match="*")
    assert site.index().removed == 1
    assert (site.state(second), site.search_ids()) == ("deleted", set())
    assert site.put("second.png", png(noise(50, 50))) == second
    site.index()
    assert site.search_ids() == {second}


@on_edge
def test_changes_require_a_write_key_and_enabled_uploads(site: Site, noise: Noise) -> None:
    picture = png(noise(20, 20))
    identity = site.put("a.png", picture)
    site.index()
    collections = {
        key: site.client.get("/v1/collections", headers={"X-API-Key": site.keys[key].secret}).get_json()["may_write"]
        for key in site.keys
    }
    assert collections == {"writer": True, "reader": False}
    for method, path in (("PUT", "b.png"), ("DELETE", identity)):
        refused = site.request(method, path, "reader", data=picture)
        assert (refused.status_code, refused.get_json()["type"]) == (403, "urn:sceneseek:problem:forbidden")
        assert "this key may not write" in refused.text
    site.client = site.serve(None)
    for method, path in (("PUT", "b.png"), ("DELETE", identity)):
        refused = site.request(method, path, data=picture)
        assert refused.status_code == 403
        assert "--uploads FOLDER" in refused.get_json()["hint"]
    assert site.state(identity) == "indexed"
    site.access = AccessSettings()
    site.client = site.serve(site.pending)
    assert "this key may not write" in site.request("PUT", "b.png", data=picture).text
    assert sorted(path.name for path in site.folder.glob("*.png")) == ["a.png"]


@on_edge
@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "detail"),
    [
        ("a.png", b"words", {}, 422, "not an image of a known format"),
        ("a.png", b"", {}, 422, "the file is empty"),
        ("a.png", "half", {}, 422, "cannot be decoded"),
        ("a.png", bytes(10**6 + 1), {}, 413, "too large"),
        ("a.txt", "whole", {}, 422, "does not have the extension of a picture"),
        ("../a.png", "whole", {}, 422, "is not a valid path for a picture"),
        (".sceneseek/changes/a.png", "whole", {}, 422, "is not a valid path for a picture"),
        ("%ff.png", "whole", {}, 422, "is not a valid path for a picture"),
        ("a.png", "whole", {"Content_Type": "text/html"}, 415, "the media type of the body is not supported"),
        ("a.png", "whole", {"Content_Encoding": "gzip"}, 415, "compressed"),
        ("there.png", "whole", {}, 428, "there is another image there.png"),
        ("there.png", "whole", {"If_Match": '"x"'}, 412, "does not match If-Match"),
        ("there.png", "whole", {"If_Match": 'W/"x"'}, 412, "does not match If-Match"),
        ("there.png", "whole", {"If_None_Match": "*"}, 412, "there is an image there.png already"),
        ("there.png/a.png", "whole", {}, 409, "a part of there.png/a.png is not a folder"),
    ],
)
def test_invalid_upload_is_rejected_and_leaves_no_file(
    site: Site, noise: Noise, path: str, content: bytes | str, headers: dict[str, str], status: int, detail: str
) -> None:
    existing = png(noise(10, 10))
    site.put("there.png", existing)
    picture = png(noise(30, 30))
    data = {"whole": picture, "half": picture[: len(picture) // 2]}[content] if isinstance(content, str) else content
    answer = site.request("PUT", path, data=data, **headers)
    assert answer.status_code == status, answer.text
    assert detail in answer.get_json()["detail"]
    assert [path.name for path in site.folder.iterdir() if not path.name.startswith(".")] == ["there.png"]
    assert (site.folder / "there.png").read_bytes() == existing
    assert list((site.folder / ".sceneseek/incoming").iterdir()) == []
    assert len(site.pending.all()) == 1


@on_edge
def test_upload_that_the_indexer_excludes_has_state_refused_and_a_reason(site: Site, noise: Noise) -> None:
    excluded = site.put("private/a.png", png(noise(20, 20)))
    by_default = site.put("@eaDir/b.png", png(noise(21, 20)))
    site.index(patterns=Patterns(exclude=("private/",)))
    answer = site.request("GET", f"{excluded}/status").get_json()
    assert (answer["state"], site.state(by_default)) == ("refused", "refused")
    assert "exclude" in answer["reason"]
    # The run fails if it rejects the only remaining image.
    large = site.put("c.png", png(noise(200, 100)))
    with pytest.raises(SourceError, match="none of the 1 images"):
        site.index(patterns=Patterns(exclude=("private/",)), max_pixels=10_000)
    assert (site.state(large), site.state(excluded)) == ("refused", "refused")
    assert site.put("c.png", png(noise(23, 20)), If_Match="*") == large
    assert site.state(large) == "pending"
    site.index()
    assert (site.state(large), site.state(excluded), site.state(by_default)) == ("indexed", "indexed", "refused")


def test_image_can_be_deleted_before_it_is_indexed(site: Site, noise: Noise) -> None:
    identity = site.put("a/b.png", png(noise(20, 20)))
    kept = site.put("c.png", png(noise(30, 20)))
    assert site.request("DELETE", identity).status_code == 202
    site.index()
    assert (site.state(identity), site.state(kept)) == ("deleted", "indexed")
    assert site.state("00000000-0000-5000-8000-000000000000") == "404"
    assert site.request("DELETE", "00000000-0000-5000-8000-000000000000").status_code == 404


@on_edge
def test_upload_folder_gets_the_predicted_label_beside_other_folders(site: Site, noise: Noise, gallery: Path) -> None:
    index_folders([Folder(gallery)], site.bundle, site.store, BuildOptions("cpu"))
    site.search.follower.refresh()
    before = site.search_ids()
    for each in list(before)[:1]:
        refused = site.request("DELETE", each)
        assert (refused.status_code, "another folder" in refused.text) == (403, True)
    identity = site.put("a.png", png(noise(20, 20)))
    assert identity == point_id("a.png", "photos")
    site.index()
    assert site.state(identity) == "indexed"
    assert site.search_ids() == {*before, identity}
    settings = ServiceSettings(site.home, "", uploads=gallery / "scenes")
    with pytest.raises(StartError, match=f"overlap: give --uploads {gallery}"):
        open_uploads(settings, site.search)
    assert not (gallery / "scenes/.sceneseek").exists()


@on_edge
def test_status_reports_the_new_id_when_the_folder_label_differs(site: Site, noise: Noise) -> None:
    predicted = site.put("a.png", png(noise(20, 20)))
    index_folders([Folder(site.folder, "mine")], site.bundle, site.store, BuildOptions("cpu"))
    site.search.follower.refresh()
    status = site.request("GET", f"{predicted}/status").get_json()
    assert (status["id"], status["state"]) == (point_id("a.png", "mine"), "indexed")


@on_edge
def test_deletions_bypass_the_guard_against_unmounted_folders(site: Site, noise: Noise) -> None:
    ids = [site.put(f"sub/{number}.png", png(noise(20 + number, 20))) for number in range(25)]
    (site.folder / "by hand").mkdir()
    (site.folder / "by hand/a.png").write_bytes(png(noise(60, 60)))
    (site.folder / "b.png").write_bytes(png(noise(61, 60)))
    site.index()
    for identity in ids:
        site.request("DELETE", identity)
    (site.folder / "by hand/a.png").unlink()
    report = site.index()
    assert (report.removed, report.gone, report.away) == (25, 1, ["by hand"])
    assert {site.state(identity) for identity in ids} == {"deleted"}


@on_edge
def test_change_during_a_run_is_applied_by_the_next_run(site: Site, noise: Noise) -> None:
    kept = site.put("kept.png", png(noise(20, 20)))
    identity = site.put("a.png", png(noise(30, 30)))

    def make_changes() -> None:
        site.request("DELETE", identity)
        site.put("kept.png", png(noise(40, 40)), If_Match="*")

    index_folders([Folder(site.folder)], site.bundle, site.store, BuildOptions("cpu"), before_publishing=make_changes)
    site.search.follower.refresh()
    assert site.search_ids() == {kept, identity}
    assert (site.state(identity), site.state(kept)) == ("deleting", "pending")
    site.index()
    assert (site.state(identity), site.state(kept)) == ("deleted", "indexed")


@on_edge
def test_watch_applies_changes_between_scans_but_not_other_files(site: Site, noise: Noise) -> None:
    messages: list[str] = []
    reports: list[IndexReport] = []
    watch = Watch([Folder(site.folder)], site.bundle, site.store, BuildOptions("cpu"), messages.append, reports.append)
    watch.check()
    assert messages == []
    stop = threading.Event()

    def put_and_wait() -> None:
        identity = site.put("a.png", png(noise(20, 20)))
        (site.folder / "by hand.png").write_bytes(png(noise(30, 30)))
        wait_for_state(site, identity, "indexed")
        site.request("DELETE", identity)
        wait_for_state(site, identity, "deleted")
        for _ in range(2):  # an identical upload is applied again
            wait_for_state(site, site.put("b.png", png(noise(25, 20))), "indexed")
        stop.set()

    thread = threading.Thread(target=put_and_wait)
    thread.start()
    while thread.is_alive() and not stop.is_set():
        watch.wait(0.2)
    thread.join()
    assert [(report.indexed, report.removed) for report in reports] == [(1, 0), (0, 1), (1, 0), (0, 0)]
    watch.check()
    watch.check()
    assert [(report.indexed, report.removed) for report in reports][4:] == [(1, 0)]
    assert messages == []
    watch.wait(0.3)
    watch.check()
    assert len(reports) == 5


def wait_for_state(site: Site, identity: str, state: str) -> None:
    end = threading.Event()
    for _ in range(600):
        site.search.follower.refresh()
        if site.state(identity) == state:
            return
        end.wait(0.1)
    raise AssertionError(f"{identity} is {site.state(identity)}")


@on_edge
def test_run_after_kills_indexes_every_uploaded_image(site: Site, noise: Noise) -> None:
    for name, side in (("old", 20), ("new", 30)):
        (site.home / name).write_bytes(png(noise(side, side)))
    run = [sys.executable, "-m", "tests.killed_changes", "changes", str(site.folder)]
    acknowledged = subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200)
    report = site.index()
    assert report.skipped == []
    expected = {point_id(str(path.relative_to(site.folder))) for path in site.folder.glob("[abc]/*.png")}
    with site.search.follower.borrow() as snapshot:
        indexed = {record.id for record in snapshot.collection.scroll()}
    assert indexed == expected
    assert [site.state(point_id(path)) for path in acknowledged.stdout.split()] == ["indexed", "indexed", "deleted"]
    states = {identity: site.state(identity) for identity in site.pending.all()}
    assert set(states.values()) <= {"indexed", "deleted"}
    assert all((state == "indexed") == (identity in expected) for identity, state in states.items())
