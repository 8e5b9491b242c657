"""`/v1/images`: originals and thumbnails, by id only."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.payload import point_id
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek_indexer.build import index_folder
from sceneseek_server.app import DEFAULT_ACCESS, create_app
from sceneseek_server.image_files import THUMBNAIL_SIDE, draw_thumbnail
from sceneseek_server.service import AccessSettings

Serve = Callable[..., FlaskClient]

FOLDERS = 40
ODD_NAMES = ("line\nbreak.png", "a b'\"\\;.png", "наст 🌄.png", os.fsdecode(b"broken\xff\xfe.png"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of unusual shapes and names, and `red.png` in many folders, one for each test that changes it."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (1600, 400), "navy").save(folder / "wide.jpg")
    Image.new("RGB", (3, 900), "navy").save(folder / "tall.png")
    for name in (*ODD_NAMES, *(f"{place}/red.png" for place in range(FOLDERS))):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), "red").save(folder / name)
    return folder


@pytest.fixture(scope="module")
def unused_folders(pictures: Path) -> Iterator[Path]:
    return iter([pictures / str(place) for place in range(FOLDERS)])


@pytest.fixture(scope="module")
def serve(bundle: Bundle, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Create a client for the index of `pictures` with these settings."""
    url = f"file:{tmp_path_factory.mktemp('index')}"
    index_folder(pictures, bundle, open_store(url))
    search = Search(ModelRegistry(bundle, "cpu"), open_store(url))
    yield lambda settings=DEFAULT_ACCESS: create_app(search, settings).test_client()
    search.close()


@pytest.fixture
def folder(unused_folders: Iterator[Path]) -> Path:
    """An indexed folder for one test, which contains `red.png`."""
    return next(unused_folders)


def inside(folder: Path, name: str = "red.png") -> str:
    """The path relative to the indexed folder."""
    return f"{folder.name}/{name}"


def address(relative: str, thumbnail: bool = False) -> str:
    return f"/v1/images/{point_id(relative)}" + ("/thumbnail" if thumbnail else "")


def fetch(client: FlaskClient, where: str, **headers: str) -> TestResponse:
    """Return the response, read completely so that its file is closed."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(where, headers=fields, buffered=True)


def opened(response: TestResponse) -> Image.Image:
    assert response.status_code == 200
    return Image.open(io.BytesIO(response.data))


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("scenes/sea.jpg", "image/jpeg"),
        ("shapes/red circle.png", "image/png"),
        ("scenes/meadow.webp", "image/webp"),
        ("scenes/house.bmp", "image/bmp"),
        ("scenes/stripes.gif", "image/gif"),
        ("scenes/checkerboard.tiff", "image/tiff"),
    ],
)
def test_original_is_served_unchanged_with_its_media_type(
    client: FlaskClient, gallery: Path, name: str, media_type: str
) -> None:
    response = fetch(client, address(name))
    assert response.status_code == 200
    assert response.data == (gallery / name).read_bytes()
    assert response.content_type == media_type
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_archive_contains_originals_under_unique_names(serve: Serve, pictures: Path) -> None:
    client = serve(replace(DEFAULT_ACCESS, show_paths=True))
    names = ["wide.jpg", f"{FOLDERS - 1}/red.png", f"{FOLDERS - 2}/red.png"]
    response = client.get("/v1/images/archive", query_string={"id": [point_id(name) for name in names]}, buffered=True)
    assert response.headers["Content-Disposition"] == "attachment; filename=images.zip"
    with zipfile.ZipFile(io.BytesIO(response.data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["wide.jpg", "red.png", "red (2).png"]
        assert [archive.read(name) for name in archive.namelist()] == [(pictures / name).read_bytes() for name in names]


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ({}, 400, "the field id is missing"),
        ({"id": "x"}, 400, "id is"),
        ({"id": [point_id("none.png")]}, 404, "no image has the id"),
        ({"id": [point_id("none.png")] * 101}, 400, "id has too many entries"),
        ({"ids": "x"}, 400, "the field id is missing"),
    ],
)
def test_archive_rejects_missing_and_invalid_ids(
    serve: Serve, query: dict[str, list[str]], status: int, detail: str
) -> None:
    response = serve().get("/v1/images/archive", query_string=query)
    assert response.status_code == status
    assert detail in response.get_json(force=True)["detail"]


def test_original_etag_is_the_content_hash(client: FlaskClient, gallery: Path) -> None:
    digest = hashlib.sha256((gallery / "scenes/sea.jpg").read_bytes()).hexdigest()
    assert fetch(client, address("scenes/sea.jpg")).get_etag() == (digest, False)


@pytest.mark.parametrize("thumbnail", [False, True], ids=["original", "thumbnail"])
def test_matching_etag_returns_304(client: FlaskClient, thumbnail: bool) -> None:
    where = address("scenes/sea.jpg", thumbnail)
    first = fetch(client, where)
    again = fetch(client, where, if_none_match=first.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert fetch(client, where, if_none_match='"another"').status_code == 200
    assert "max-age" in first.headers["Cache-Control"]


def test_original_supports_range_requests(client: FlaskClient, gallery: Path) -> None:
    response = fetch(client, address("scenes/sea.jpg"), range="bytes=10-19")
    assert (response.status_code, response.data) == (206, (gallery / "scenes/sea.jpg").read_bytes()[10:20])
    beyond = fetch(client, address("scenes/sea.jpg"), range="bytes=99999999-")
    assert (beyond.status_code, beyond.content_type) == (416, "application/problem+json")


def test_thumbnail_keeps_the_aspect_ratio_within_the_size_limit(serve: Serve, folder: Path) -> None:
    client = serve()
    assert opened(fetch(client, address("wide.jpg", thumbnail=True))).size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 4)
    assert opened(fetch(client, address("tall.png", thumbnail=True))).size == (1, THUMBNAIL_SIDE)
    assert opened(fetch(client, address(inside(folder), thumbnail=True))).size == (40, 30), "never enlarged"


@pytest.mark.parametrize(("max_pixels", "status"), [(1_200, 200), (1_199, 404)])
def test_thumbnail_over_max_pixels_is_refused_with_a_hint(
    serve: Serve, folder: Path, max_pixels: int, status: int
) -> None:
    answer = fetch(serve(AccessSettings(max_pixels=max_pixels)), address(inside(folder), thumbnail=True))
    assert answer.status_code == status
    if status != 200:
        problem = answer.get_json(force=True)
        assert "40 x 30 is over" in problem["detail"]
        assert problem["hint"] == "raise the limit with --max-pixels"


def test_thumbnail_has_a_white_background(client: FlaskClient) -> None:
    thumbnail = opened(fetch(client, address("shapes/transparent ring.png", thumbnail=True)))
    assert thumbnail.mode == "RGB"
    assert thumbnail.getpixel((0, 0)) == (255, 255, 255)


def test_thumbnail_contains_no_metadata() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.new("RGB", (50, 50)).save(out, "JPEG", exif=exif)
    assert b"taken at home" in out.getvalue()
    assert b"taken at home" not in draw_thumbnail(out.getvalue() + b"taken at home")


@pytest.mark.parametrize(
    "where",
    [
        "/v1/images/00000000-0000-5000-8000-000000000000",
        "/v1/images/00000000-0000-5000-8000-000000000000/thumbnail",
        "/v1/images/scenes/sea.jpg",
        "/v1/images/..%2f..%2fetc%2fpasswd",
        "/v1/images/../../etc/passwd",
        "/v1/images/",
    ],
)
def test_images_are_served_by_id_only(client: FlaskClient, where: str) -> None:
    response = fetch(client, where)
    # Paths below /v1/images accept PUT, hence 405.
    assert (response.status_code, response.content_type) in [
        (status, "application/problem+json") for status in (404, 405)
    ]


@pytest.mark.parametrize("thumbnail", [False, True], ids=["original", "thumbnail"])
@pytest.mark.parametrize("show", [False, True], ids=["hidden", "shown"])
def test_deleted_file_returns_404_with_a_hint_to_reindex(
    serve: Serve, folder: Path, thumbnail: bool, show: bool
) -> None:
    client = serve(AccessSettings(show_paths=show))
    (folder / "red.png").unlink()
    problem = fetch(client, address(inside(folder), thumbnail)).get_json(force=True)
    assert problem["status"] == 404
    assert ("red.png" in problem["detail"]) == show
    assert problem["hint"] == "index the folder again"


@pytest.mark.parametrize("show", [False, True], ids=["hidden", "shown"])
def test_content_disposition_has_the_file_name_only_if_paths_are_shown(serve: Serve, folder: Path, show: bool) -> None:
    response = fetch(serve(AccessSettings(show_paths=show)), address(inside(folder)))
    name = "red.png" if show else f"{point_id(inside(folder))}.png"
    assert response.headers["Content-Disposition"] == f"inline; filename={name}"


@pytest.mark.parametrize("change", ["deleted", "not an image", "denied"])
@pytest.mark.parametrize("thumbnail", [False, True], ids=["original", "thumbnail"])
def test_response_does_not_reveal_the_path_of_an_unreadable_file(
    serve: Serve, folder: Path, thumbnail: bool, change: str
) -> None:
    client, user = serve(), os.geteuid()
    if change == "deleted":
        (folder / "red.png").unlink()
    elif change == "not an image":
        (folder / "red.png").write_text("no picture")
    else:
        (folder / "red.png").chmod(0)
        if user == 0:  # root can read everything
            os.seteuid(65534)
    try:
        response = fetch(client, address(inside(folder), thumbnail))
    finally:
        os.seteuid(user)
    revealed = response.data + str(response.headers).encode()
    assert b"red.png" not in revealed
    assert str(folder).encode() not in revealed


@pytest.mark.parametrize("thumbnail", [False, True], ids=["original", "thumbnail"])
@pytest.mark.parametrize("replacement", ["outside link", "loop", "dangling link", "pipe", "folder", "nothing"])
def test_replaced_file_is_not_served(
    serve: Serve, folder: Path, tmp_path: Path, thumbnail: bool, replacement: str
) -> None:
    client, place = serve(), folder / "red.png"
    shutil.move(place, tmp_path / "outside.png")
    match replacement:
        case "outside link":
            place.symlink_to(tmp_path / "outside.png")
        case "loop":
            place.symlink_to("red.png")
        case "dangling link":
            place.symlink_to("gone.png")
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
    assert fetch(client, address(inside(folder), thumbnail)).status_code == 404


def test_symlink_inside_the_indexed_folder_is_served(serve: Serve, folder: Path) -> None:
    client = serve()
    (folder / "red.png").rename(folder / "moved.png")
    (folder / "red.png").symlink_to("moved.png")
    assert fetch(client, address(inside(folder))).data == (folder / "moved.png").read_bytes()


def test_changed_file_has_a_new_etag(serve: Serve, folder: Path) -> None:
    client = serve()
    before = fetch(client, address(inside(folder), thumbnail=True)).headers["ETag"]
    Image.new("RGB", (40, 30), "blue").save(folder / "red.png")
    after = fetch(client, address(inside(folder), thumbnail=True), if_none_match=before)
    red, _, blue = opened(after).convert("RGB").getpixel((5, 5))  # type: ignore[misc]  # RGB gives three
    assert after.headers["ETag"] != before
    assert (red < 60, blue > 200) == (True, True), "drawn from the new content, not from the cache"


def test_file_that_is_no_longer_an_image_has_no_thumbnail(serve: Serve, folder: Path) -> None:
    client = serve()
    (folder / "red.png").write_text("<script>alert(1)</script>")
    assert fetch(client, address(inside(folder), thumbnail=True)).status_code == 404
    original = fetch(client, address(inside(folder)))
    assert original.content_type == "image/png", "the indexed media type, not that of the new content"


def test_unusual_file_names_are_served(serve: Serve, pictures: Path) -> None:
    client = serve()
    for name in ODD_NAMES:
        assert fetch(client, address(name)).data == (pictures / name).read_bytes()
        assert fetch(client, address(name, thumbnail=True)).status_code == 200
