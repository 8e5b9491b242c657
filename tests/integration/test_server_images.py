"""`/v1/images`, through the application's test client: originals and thumbnails, by id only."""

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

PLACES = 40
ODD_NAMES = ("line\nbreak.png", "a b'\"\\;.png", "наст 🌄.png", os.fsdecode(b"broken\xff\xfe.png"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of odd shapes and names, and `red.png` in each of many folders, one a test that changes it."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (1600, 400), "navy").save(folder / "wide.jpg")
    Image.new("RGB", (3, 900), "navy").save(folder / "tall.png")
    for name in (*ODD_NAMES, *(f"{place}/red.png" for place in range(PLACES))):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), "red").save(folder / name)
    return folder


@pytest.fixture(scope="module")
def places(pictures: Path) -> Iterator[Path]:
    return iter([pictures / str(place) for place in range(PLACES)])


@pytest.fixture(scope="module")
def serve(bundle: Bundle, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The index of `pictures`, served with these settings."""
    url = f"file:{tmp_path_factory.mktemp('index')}"
    index_folder(pictures, bundle, open_store(url))
    search = Search(ModelRegistry(bundle, "cpu"), open_store(url))
    yield lambda settings=DEFAULT_ACCESS: create_app(search, settings).test_client()
    search.close()


@pytest.fixture
def folder(places: Iterator[Path]) -> Path:
    """An indexed folder of the test's own with one picture, `red.png`."""
    return next(places)


def inside(folder: Path, name: str = "red.png") -> str:
    """The path in the index."""
    return f"{folder.name}/{name}"


def address(relative: str, thumbnail: bool = False) -> str:
    return f"/v1/images/{point_id(relative)}" + ("/thumbnail" if thumbnail else "")


def fetch(client: FlaskClient, where: str, **headers: str) -> TestResponse:
    """The answer, read whole, so that its file is closed."""
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
def test_an_original_is_the_file_as_it_is_with_its_media_type(
    client: FlaskClient, gallery: Path, name: str, media_type: str
) -> None:
    response = fetch(client, address(name))
    assert response.status_code == 200
    assert response.data == (gallery / name).read_bytes()
    assert response.content_type == media_type
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_several_originals_come_in_one_archive_under_names_of_their_own(serve: Serve, pictures: Path) -> None:
    client = serve(replace(DEFAULT_ACCESS, show_paths=True))
    names = ["wide.jpg", f"{PLACES - 1}/red.png", f"{PLACES - 2}/red.png"]
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
def test_an_archive_of_what_is_not_there_is_refused(
    serve: Serve, query: dict[str, list[str]], status: int, detail: str
) -> None:
    response = serve().get("/v1/images/archive", query_string=query)
    assert response.status_code == status
    assert detail in response.get_json(force=True)["detail"]


def test_an_original_is_tagged_with_the_hash_of_its_content(client: FlaskClient, gallery: Path) -> None:
    digest = hashlib.sha256((gallery / "scenes/sea.jpg").read_bytes()).hexdigest()
    assert fetch(client, address("scenes/sea.jpg")).get_etag() == (digest, False)


@pytest.mark.parametrize("thumbnail", [False, True], ids=["original", "thumbnail"])
def test_what_a_client_has_already_is_not_sent_again(client: FlaskClient, thumbnail: bool) -> None:
    where = address("scenes/sea.jpg", thumbnail)
    first = fetch(client, where)
    again = fetch(client, where, if_none_match=first.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert fetch(client, where, if_none_match='"another"').status_code == 200
    assert "max-age" in first.headers["Cache-Control"]


def test_an_original_can_be_requested_by_range(client: FlaskClient, gallery: Path) -> None:
    response = fetch(client, address("scenes/sea.jpg"), range="bytes=10-19")
    assert (response.status_code, response.data) == (206, (gallery / "scenes/sea.jpg").read_bytes()[10:20])
    beyond = fetch(client, address("scenes/sea.jpg"), range="bytes=99999999-")
    assert (beyond.status_code, beyond.content_type) == (416, "application/problem+json")


def test_a_thumbnail_preserves_the_ratio_and_its_longest_side_is_bounded(serve: Serve, folder: Path) -> None:
    client = serve()
    assert opened(fetch(client, address("wide.jpg", thumbnail=True))).size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 4)
    assert opened(fetch(client, address("tall.png", thumbnail=True))).size == (1, THUMBNAIL_SIDE)
    assert opened(fetch(client, address(inside(folder), thumbnail=True))).size == (40, 30), "never enlarged"


@pytest.mark.parametrize(("max_pixels", "status"), [(1_200, 200), (1_199, 404)])
def test_the_limit_of_pixels_holds_for_thumbnails_and_says_what_to_do(
    serve: Serve, folder: Path, max_pixels: int, status: int
) -> None:
    answer = fetch(serve(AccessSettings(max_pixels=max_pixels)), address(inside(folder), thumbnail=True))
    assert answer.status_code == status
    if status != 200:
        problem = answer.get_json(force=True)
        assert "40 x 30 is over" in problem["detail"]
        assert problem["hint"] == "raise the limit with --max-pixels"


def test_transparent_parts_of_a_thumbnail_are_white(client: FlaskClient) -> None:
    thumbnail = opened(fetch(client, address("shapes/transparent ring.png", thumbnail=True)))
    assert thumbnail.mode == "RGB"
    assert thumbnail.getpixel((0, 0)) == (255, 255, 255)


def test_nothing_hidden_in_a_file_leaves_with_its_thumbnail() -> None:
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
def test_there_is_no_way_to_a_file_but_by_the_id_of_an_indexed_image(client: FlaskClient, where: str) -> None:
    response = fetch(client, where)
    # A path below is one where a picture may be put.
    assert (response.status_code, response.content_type) in [
        (status, "application/problem+json") for status in (404, 405)
    ]


@pytest.mark.parametrize("thumbnail", [False, True], ids=["original", "thumbnail"])
@pytest.mark.parametrize("show", [False, True], ids=["hidden", "shown"])
def test_a_file_that_has_gone_since_is_not_found_and_the_answer_says_to_reindex(
    serve: Serve, folder: Path, thumbnail: bool, show: bool
) -> None:
    client = serve(AccessSettings(show_paths=show))
    (folder / "red.png").unlink()
    problem = fetch(client, address(inside(folder), thumbnail)).get_json(force=True)
    assert problem["status"] == 404
    assert ("red.png" in problem["detail"]) == show
    assert problem["hint"] == "index the folder again"


@pytest.mark.parametrize("show", [False, True], ids=["hidden", "shown"])
def test_an_original_is_saved_under_its_name_only_where_paths_are_shown(serve: Serve, folder: Path, show: bool) -> None:
    response = fetch(serve(AccessSettings(show_paths=show)), address(inside(folder)))
    name = "red.png" if show else f"{point_id(inside(folder))}.png"
    assert response.headers["Content-Disposition"] == f"inline; filename={name}"


@pytest.mark.parametrize("change", ["gone", "text", "denied"])
@pytest.mark.parametrize("thumbnail", [False, True], ids=["original", "thumbnail"])
def test_no_answer_names_the_file(serve: Serve, folder: Path, thumbnail: bool, change: str) -> None:
    client, user = serve(), os.geteuid()
    if change == "gone":
        (folder / "red.png").unlink()
    elif change == "text":
        (folder / "red.png").write_text("no picture")
    else:
        (folder / "red.png").chmod(0)
        if user == 0:  # who may read everything
            os.seteuid(65534)
    try:
        response = fetch(client, address(inside(folder), thumbnail))
    finally:
        os.seteuid(user)
    told = response.data + str(response.headers).encode()
    assert b"red.png" not in told
    assert str(folder).encode() not in told


@pytest.mark.parametrize("thumbnail", [False, True], ids=["original", "thumbnail"])
@pytest.mark.parametrize("exchanged", ["link out", "loop", "dangling link", "pipe", "folder", "nothing"])
def test_what_has_taken_a_files_place_is_not_served(
    serve: Serve, folder: Path, tmp_path: Path, thumbnail: bool, exchanged: str
) -> None:
    client, place = serve(), folder / "red.png"
    shutil.move(place, tmp_path / "outside.png")
    match exchanged:
        case "link out":
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


def test_a_file_that_has_become_a_link_inside_the_folder_is_served(serve: Serve, folder: Path) -> None:
    client = serve()
    (folder / "red.png").rename(folder / "moved.png")
    (folder / "red.png").symlink_to("moved.png")
    assert fetch(client, address(inside(folder))).data == (folder / "moved.png").read_bytes()


def test_a_file_that_was_changed_since_gets_another_tag(serve: Serve, folder: Path) -> None:
    client = serve()
    before = fetch(client, address(inside(folder), thumbnail=True)).headers["ETag"]
    Image.new("RGB", (40, 30), "blue").save(folder / "red.png")
    after = fetch(client, address(inside(folder), thumbnail=True), if_none_match=before)
    red, _, blue = opened(after).convert("RGB").getpixel((5, 5))  # type: ignore[misc]  # RGB gives three
    assert after.headers["ETag"] != before
    assert (red < 60, blue > 200) == (True, True), "the new content, not what was kept"


def test_a_file_that_is_no_longer_a_picture_has_no_thumbnail(serve: Serve, folder: Path) -> None:
    client = serve()
    (folder / "red.png").write_text("<script>alert(1)</script>")
    assert fetch(client, address(inside(folder), thumbnail=True)).status_code == 404
    original = fetch(client, address(inside(folder)))
    assert original.content_type == "image/png", "what it was indexed as, never what it claims to be now"


def test_names_with_line_breaks_emoji_and_bytes_that_are_no_text_are_served(serve: Serve, pictures: Path) -> None:
    client = serve()
    for name in ODD_NAMES:
        assert fetch(client, address(name)).data == (pictures / name).read_bytes()
        assert fetch(client, address(name, thumbnail=True)).status_code == 200
