"""Images in an S3 bucket are indexed and served like those of a folder; moto provides the bucket."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image

from sceneseek.bundle import Bundle
from sceneseek.containers import MAX_BYTES
from sceneseek.errors import InvalidRequest, SourceAway, SourceError
from sceneseek.models import ModelRegistry
from sceneseek.payload import point_id
from sceneseek.search import Search
from sceneseek.sources import Root, open_file, parse_root
from sceneseek.store import VectorStore, open_store
from sceneseek_indexer.build import BuildOptions, dry_run_folders, index_folder, index_folders
from sceneseek_indexer.patterns import Patterns
from sceneseek_indexer.report import IndexReport
from sceneseek_indexer.source_scan import Folder
from sceneseek_indexer.walk import list_images
from sceneseek_indexer.watch import Watch
from sceneseek_server.app import create_app
from sceneseek_server.service import AccessSettings
from tests.object_store import KEY_ID, SECRET, Bucket

Noise = Callable[[int, int], Image.Image]
CPU = BuildOptions("cpu")


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def photos(bucket: Bucket, gallery: Path) -> Root:
    """The gallery, uploaded to a bucket."""
    bucket.put_folder(gallery, "photos")
    return parse_root(f"s3://{bucket.name}/photos")


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return open_store(f"file:{tmp_path}/index")


def test_bucket_listing_equals_that_of_the_uploaded_folder(photos: Root, bucket: Bucket, gallery: Path) -> None:
    for name in (".hidden/a.png", "@eaDir/a.png", "private/.nomedia", "private/a.png", "a.txt", "photos.png/x.png"):
        bucket.put(f"photos/{name}", b"-")
    bucket.put("photos-of-others/a.png", b"-")
    listing = list_images(photos)
    expected = [*(file.relative for file in list_images(gallery).files), "photos.png/x.png"]
    assert [file.relative for file in listing.files] == sorted(expected, key=lambda path: path.split("/"))
    assert {entry.relative: entry.reason for entry in listing.ignored} == {
        ".hidden": "hidden",
        "@eaDir": "excluded-by-default",
        "a.txt": "other-kind",
        "private": "no-media",
        **{entry.relative: entry.reason for entry in list_images(gallery).ignored},
    }
    assert listing == list_images(photos)
    assert [file.bytes for file in listing.files if file.relative == "photos.png/x.png"] == [1]
    assert (listing.empty, listing.mounts) == (set(), set())


def test_patterns_and_ignore_files_apply_to_objects(photos: Root, bucket: Bucket) -> None:
    bucket.put("photos/shapes/.sceneseekignore", b"*.png\n")
    kept = list_images(photos, Patterns(exclude=["*.jpg"])).files
    assert kept
    assert not [f.relative for f in kept if f.relative.endswith(".jpg") or f.relative.startswith("shapes/red")]
    bucket.refused = lambda request: request.endswith(".sceneseekignore")
    with pytest.raises(SourceError, match="sceneseekignore cannot be read"):
        list_images(photos)


def test_second_run_does_not_read_unchanged_objects(
    photos: Root, bucket: Bucket, bundle: Bundle, store: VectorStore, noise: Noise
) -> None:
    first = index_folder(photos, bundle, store, CPU)
    assert first.indexed == 12
    bucket.asked.clear()
    again = index_folder(photos, bundle, store, CPU)
    assert (again.indexed, again.unchanged) == (0, 12)
    assert set(bucket.asked) == {"LIST", "LIST more"}
    bucket.put("photos/scenes/sea.jpg", png(noise(50, 40)))
    bucket.asked.clear()
    changed = index_folder(photos, bundle, store, CPU)
    assert (changed.indexed, changed.unchanged) == (1, 11)
    assert {request for request in bucket.asked if request.startswith("GET")} == {"GET photos/scenes/sea.jpg"}


def test_deleted_objects_stay_in_the_index_until_pruned(
    photos: Root, bucket: Bucket, bundle: Bundle, store: VectorStore
) -> None:
    index_folder(photos, bundle, store, CPU)
    bucket.delete("photos/scenes/sea.jpg")
    assert (index_folder(photos, bundle, store, CPU).gone, len(store_paths(store))) == (1, 12)
    assert index_folder(photos, bundle, store, BuildOptions("cpu", prune=True)).removed == 1
    assert "scenes/sea.jpg" not in store_paths(store)


def store_paths(store: VectorStore) -> set[str]:
    live = store.live()
    assert live is not None
    collection = store.open(live)
    try:
        return {record.payload["path"] for record in collection.scroll()}
    finally:
        collection.close()


@pytest.mark.parametrize("failing", ["LIST", "LIST more"])
def test_failed_or_incomplete_listing_deletes_nothing(
    photos: Root, bucket: Bucket, bundle: Bundle, store: VectorStore, failing: str
) -> None:
    index_folder(photos, bundle, store, CPU)
    live = store.live()
    bucket.refused = lambda request: request == failing
    with pytest.raises(SourceError, match=r"cannot be listed \(the object store answered 500\)"):
        index_folder(photos, bundle, store, BuildOptions("cpu", prune=True, remove_any=True))
    assert store.live() == live
    assert len(store_paths(store)) == 12


def test_empty_prefix_and_missing_bucket_raise(
    photos: Root, bucket: Bucket, bundle: Bundle, store: VectorStore
) -> None:
    with pytest.raises(SourceError, match="is empty"):
        index_folder(parse_root(f"s3://{bucket.name}/nothing"), bundle, store, CPU)
    with pytest.raises(SourceError, match="NoSuchBucket"):
        index_folder(parse_root("s3://no-such-bucket"), bundle, store, CPU)


def test_key_that_is_not_a_path_is_named_in_the_error(photos: Root, bucket: Bucket) -> None:
    bucket.put("photos/a//b.png", b"-")
    with pytest.raises(SourceError, match=r"the key photos/a//b\.png is not a path: it has an empty part"):
        list_images(photos)


@pytest.fixture
def profile(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An AWS profile `museum` with the bucket's keys and endpoint, which the environment lacks."""
    aws = tmp_path / "home/.aws"
    aws.mkdir(parents=True)
    environment = bucket.environment
    for name in environment:
        monkeypatch.delenv(name)
    (aws / "config").write_text(
        f"[profile museum]\nregion = {environment['AWS_REGION']}\nendpoint_url = {environment['AWS_ENDPOINT_URL']}\n"
    )
    (aws / "credentials").write_text(f"[museum]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("HOME", str(aws.parent))
    monkeypatch.setenv("AWS_PROFILE", "museum")
    return aws


def test_profile_supplies_settings_that_the_environment_lacks(
    photos: Root, profile: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(list_images(photos).files) == len(list_images(gallery).files)
    (profile / "credentials").write_text("[default]\naws_access_key_id = unused\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert list_images(photos).files
    # The environment takes precedence, also with its service-specific variables.
    config = profile / "config"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", config.read_text().split()[-1])
    config.write_text("[profile museum]\nendpoint_url = http://127.0.0.1:1\n")
    assert list_images(photos).files


@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        ("[other]\naws_access_key_id = a\n", "the profile museum has no keys"),
        (f"aws_secret_access_key = {SECRET}\n", "cannot be read"),
    ],
)
def test_invalid_profile_raises_without_exposing_secrets(
    photos: Root, profile: Path, credentials: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (profile / "credentials").write_text(credentials)
    monkeypatch.setenv("AWS_REGION", message)  # clients are cached by their settings
    with pytest.raises(SourceError, match=message) as caught:
        list_images(photos)
    assert SECRET not in str(caught.value)


def test_unreadable_object_is_skipped_and_stays_in_the_index(
    photos: Root, bucket: Bucket, bundle: Bundle, store: VectorStore, noise: Noise
) -> None:
    index_folder(photos, bundle, store, CPU)
    bucket.put("photos/scenes/sea.jpg", png(noise(50, 40)))
    bucket.refused = lambda request: request == "GET photos/scenes/sea.jpg"
    report = index_folder(photos, bundle, store, BuildOptions("cpu", prune=True))
    assert [(entry.relative, entry.reason, entry.what) for entry in report.skipped] == [
        ("scenes/sea.jpg", "unreadable", "cannot be read (the object store answered 500)")
    ]
    assert "scenes/sea.jpg" in store_paths(store)
    bucket.refused = lambda _: False
    assert index_folder(photos, bundle, store, CPU).indexed == 1


def test_folder_moved_to_a_bucket_keeps_its_vectors(
    photos: Root, bucket: Bucket, bundle: Bundle, store: VectorStore, gallery: Path
) -> None:
    index_folder(gallery, bundle, store, CPU)
    both = index_folders([Folder(gallery), Folder(photos, "cloud")], bundle, store, CPU)
    assert (both.indexed, both.copied, both.unchanged) == (0, 12, 12)
    moved = index_folders([Folder(photos)], bundle, store, BuildOptions("cpu", forget=(gallery,)))
    assert (moved.indexed, moved.removed, moved.unchanged) == (0, 12, 12)
    assert dry_run_folders([Folder(photos)], bundle, store, CPU).unchanged == 12


def test_metadata_file_describes_objects_and_sidecars_are_rejected(
    photos: Root, bundle: Bundle, store: VectorStore, tmp_path: Path
) -> None:
    table = tmp_path / "m.csv"
    table.write_text(f"path,place\nscenes/sea.jpg,Brest\n{photos}/scenes/sunset.jpg,Nice\n")
    report = index_folder(photos, bundle, store, BuildOptions("cpu", metadata=str(table)))
    assert (report.described, report.undescribed) == (2, [])
    with pytest.raises(InvalidRequest, match="write the metadata into one file"):
        index_folder(photos, bundle, store, BuildOptions("cpu", metadata="sidecars"))


def test_watch_indexes_new_objects_and_survives_listing_errors(
    photos: Root, bucket: Bucket, bundle: Bundle, store: VectorStore, noise: Noise
) -> None:
    errors: list[str] = []
    reports: list[IndexReport] = []
    watch = Watch([Folder(photos)], bundle, store, CPU, errors.append, reports.append)
    for _ in range(2):
        watch.check()
    bucket.put("photos/new.png", png(noise(20, 20)))
    bucket.refused = lambda request: request == "LIST more"
    watch.check()
    bucket.refused = lambda _: False
    for _ in range(2):
        watch.check()
    assert [report.indexed for report in reports] == [12, 1]
    assert len(errors) == 1
    assert "cannot be listed" in errors[0]


def test_large_object_is_read_in_ranges(bucket: Bucket, photos: Root) -> None:
    content = os.urandom(17_000_000)
    bucket.put("photos/long.bin", content)
    bucket.asked.clear()
    file, facts = open_file(photos, "long.bin")
    with file:
        assert facts.bytes == len(content) < MAX_BYTES
        assert file.seek(-10, os.SEEK_END) == len(content) - 10
        assert file.read() == content[-10:]
        file.seek(7_999_990)
        assert file.read(20) == content[7_999_990:8_000_010]
        file.seek(0)
        assert file.read() == content
        bucket.put("photos/long.bin", content[::-1])
        file.seek(0)
        with pytest.raises(SourceAway, match="replaced while it was read"):
            file.read()


def test_brief_read_times_out_on_a_silent_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(SourceAway, match="no answer from the object store"):
            open_file(parse_root("s3://photos"), "a.png", brief=True)


@pytest.fixture
def client(photos: Root, bundle: Bundle, tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of a service over the gallery in the bucket."""
    url = f"file:{tmp_path}/served"
    index_folder(photos, bundle, open_store(url), CPU)
    search = Search(ModelRegistry(bundle, "cpu"), open_store(url))
    yield create_app(search, AccessSettings(show_paths=True)).test_client()
    search.close()


def test_originals_ranges_and_thumbnails_are_served_from_the_bucket(client: FlaskClient, gallery: Path) -> None:
    url, content = f"/v1/images/{point_id('scenes/sea.jpg')}", (gallery / "scenes/sea.jpg").read_bytes()
    whole = client.get(url, buffered=True)
    assert (whole.status_code, whole.data, whole.content_type) == (200, content, "image/jpeg")
    part = client.get(url, headers={"Range": "bytes=10-19"}, buffered=True)
    assert (part.status_code, part.data) == (206, content[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(content)}"
    same = client.get(url, headers={"If-None-Match": whole.headers["ETag"]}, buffered=True)
    assert (same.status_code, same.data) == (304, b"")
    thumbnail = client.get(f"{url}/thumbnail", buffered=True)
    assert Image.open(io.BytesIO(thumbnail.data)).format == "JPEG"
    archive = client.get(f"/v1/images/archive?id={point_id('scenes/sea.jpg')}", buffered=True)
    assert content in archive.data


def test_deleted_object_is_404_and_unavailable_object_store_is_503(client: FlaskClient, bucket: Bucket) -> None:
    bucket.delete("photos/scenes/sea.jpg")
    for suffix in ("", "/thumbnail"):
        gone = client.get(f"/v1/images/{point_id('scenes/sea.jpg')}{suffix}", buffered=True)
        assert gone.status_code == 404
    bucket.refused = lambda _: True
    for suffix in ("", "/thumbnail"):
        away = client.get(f"/v1/images/{point_id('scenes/sunset.jpg')}{suffix}", buffered=True)
        assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
        assert away.json is not None
        assert away.json["type"] == "urn:sceneseek:problem:source-away"
        assert KEY_ID not in away.text
        assert SECRET not in away.text


def test_readiness_queries_the_object_store_once_a_minute(client: FlaskClient, bucket: Bucket) -> None:
    bucket.refused = lambda _: True
    first = client.get("/readyz").json
    assert first is not None
    assert f"no files in s3://{bucket.name}/photos" in first["problem"]
    requests = len(bucket.asked)
    second = client.get("/readyz").json
    assert second is not None
    assert second["problem"] == first["problem"]
    assert len(bucket.asked) == requests
