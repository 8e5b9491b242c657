"""Metadata and near-duplicates from a folder to search results, with a real bundle and a real index."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image, ImageOps
from PIL.ExifTags import IFD, Base

import sceneseek_indexer.pipeline
from sceneseek.bundle import Bundle
from sceneseek.errors import DataError
from sceneseek.models import ModelRegistry
from sceneseek.payload import relative_path
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import VectorStore, open_store
from sceneseek_indexer.build import MAX_INDEXED, BuildOptions, dry_run_folders, index_folder
from sceneseek_indexer.report import IndexReport
from sceneseek_indexer.source_scan import Folder
from sceneseek_server.app import create_app
from sceneseek_server.service import AccessSettings
from tests.drawing import NAMES, draw_gallery, scenery

COPIES = {"1.jpg": ("1 small.jpg", "1.webp", "1 grey.png"), "2.jpg": ("2 cropped.jpg",)}
CSV = "path,title,year,tags\n1.jpg,One,1999,a;b\n1.webp,Two,2024,\nnowhere.jpg,None,1,\n"


def write_copies(folder: Path) -> None:
    """Write six JPEGs, and copies of two of them."""
    for seed in range(6):
        scenery(seed).save(folder / f"{seed}.jpg", quality=92)
    with Image.open(folder / "1.jpg") as one, Image.open(folder / "2.jpg") as two:
        one.resize((160, 120)).save(folder / "1 small.jpg", quality=60)
        one.save(folder / "1.webp")
        ImageOps.grayscale(one).save(folder / "1 grey.png")
        two.crop((8, 6, 312, 234)).save(folder / "2 cropped.jpg", quality=92)


@pytest.fixture(scope="module")
def first(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IndexReport]:
    """A directory with a folder of pictures and copies, its index and metadata; and the report of its indexing."""
    home = tmp_path_factory.mktemp("copies")
    photos = draw_gallery(home / "photos")
    write_copies(photos)
    (home / "metadata.csv").write_text(CSV)
    options = BuildOptions(metadata=str(home / "metadata.csv"))
    return home, index_folder(photos, bundle, open_store(f"file:{home}/index"), options)


@pytest.fixture
def home(first: tuple[Path, IndexReport], tmp_path: Path) -> Path:
    """A copy of that directory that a test may change."""
    return Path(shutil.copytree(first[0], tmp_path / "home", symlinks=True))


@pytest.fixture(scope="module")
def search(
    bundle: Bundle, first: tuple[Path, IndexReport], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Search]:
    copy = shutil.copytree(first[0] / "index", tmp_path_factory.mktemp("searched") / "index")
    pipeline = Search(ModelRegistry(bundle, "cpu"), open_store(f"file:{copy}"))
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def client(search: Search) -> FlaskClient:
    return create_app(search, AccessSettings(show_paths=True)).test_client()


def payloads(store: VectorStore) -> dict[str, dict[str, Any]]:
    collection = store.open(str(store.live()))
    try:
        return {relative_path(record.payload): record.payload for record in collection.scroll()}
    finally:
        collection.close()


def groups(store: VectorStore) -> set[frozenset[str]]:
    members: dict[str, set[str]] = {}
    for name, payload in payloads(store).items():
        if payload.get("duplicates"):
            members.setdefault(payload["duplicates"]["group"], set()).add(name)
    return set(map(frozenset, members.values()))


ALL_COPIES = {frozenset({name, *copies}) for name, copies in COPIES.items()}


def test_indexing_counts_only_near_duplicates_as_duplicates(first: tuple[Path, IndexReport]) -> None:
    _, report = first
    assert (report.indexed, report.duplicates) == (len(NAMES) + 10, 4)
    assert any("near-duplicates 4" in line for line in report.lines())


def test_index_records_near_duplicate_groups(home: Path) -> None:
    assert groups(open_store(f"file:{home}/index")) == ALL_COPIES


def test_metadata_is_indexed_and_unknown_paths_are_reported(first: tuple[Path, IndexReport], home: Path) -> None:
    _, report = first
    assert (report.described, report.undescribed) == (2, ["nowhere.jpg"])
    assert "no image at 1 paths of the metadata: nowhere.jpg" in report.lines()
    metadata = {name: p["metadata"] for name, p in payloads(open_store(f"file:{home}/index")).items() if p["metadata"]}
    assert metadata == {
        "1.jpg": {"title": "One", "year": 1999, "tags": ["a", "b"]},
        "1.webp": {"title": "Two", "year": 2024},
    }


# The copied index records the original folder, so later runs read that one.
def reindex(bundle: Bundle, first: tuple[Path, IndexReport], home: Path, metadata: str | None = None) -> IndexReport:
    if metadata is not None:
        (home / "new.csv").write_text(metadata)
    options = BuildOptions(metadata=None if metadata is None else f"{home}/new.csv")
    return index_folder(first[0] / "photos", bundle, open_store(f"file:{home}/index"), options)


def test_changed_metadata_is_written_without_encoding(
    bundle: Bundle, first: tuple[Path, IndexReport], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_encoder(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was created although only metadata had changed")

    monkeypatch.setattr(sceneseek_indexer.pipeline, "ImageEncoder", no_encoder)
    report = reindex(bundle, first, home, "path,title,year\n1.jpg,One,2000\n0.jpg,Zero,1\n")
    assert (report.indexed, report.described, report.duplicates) == (0, 3, 4)
    store = open_store(f"file:{home}/index")
    metadata = {name: payload["metadata"] for name, payload in payloads(store).items() if payload["metadata"]}
    assert metadata == {"1.jpg": {"title": "One", "year": 2000}, "0.jpg": {"title": "Zero", "year": 1}}
    assert groups(store) == ALL_COPIES


def test_run_without_or_with_same_metadata_changes_nothing(
    bundle: Bundle, first: tuple[Path, IndexReport], home: Path
) -> None:
    generation = first[1].generation
    for metadata in (None, CSV):
        report = reindex(bundle, first, home, metadata)
        assert (report.generation, report.described) == (generation, 0)


def test_rebuild_keeps_metadata(bundle: Bundle, first: tuple[Path, IndexReport], home: Path) -> None:
    store = open_store(f"file:{home}/index")
    before = payloads(store)
    index_folder(first[0] / "photos", bundle, store, BuildOptions(rebuild=True))
    after = payloads(store)
    assert {name: payload["metadata"] for name, payload in after.items()} == {
        name: payload["metadata"] for name, payload in before.items()
    }


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["/Users/ann/1.jpg,5", "/Users/ann/2.jpg,5"], "none of the 2 paths"),
        (["0.jpg,1"], "has nothing for 3 of the 4 images"),
    ],
)
def test_metadata_of_other_images_is_rejected_without_changes(
    bundle: Bundle, first: tuple[Path, IndexReport], home: Path, rebuild: bool, rows: list[str], message: str
) -> None:
    reindex(bundle, first, home, "path,n\n" + "".join(f"{number}.jpg,1\n" for number in range(4)))
    store, file = open_store(f"file:{home}/index"), home / "other.csv"
    before = payloads(store)
    file.write_text("\n".join(["path,n", *rows]))
    photos, options = first[0] / "photos", BuildOptions(metadata=str(file), rebuild=rebuild)
    with pytest.raises(DataError, match=message):
        index_folder(photos, bundle, store, options)
    assert payloads(store) == before
    if rebuild:
        return
    with pytest.raises(DataError, match=message):
        dry_run_folders([Folder(photos)], bundle, store, options)
    permitted = dry_run_folders([Folder(photos)], bundle, store, BuildOptions(metadata=f"{home}/new.csv"))
    assert (permitted.described, permitted.undescribed) == (0, [])
    if "has nothing" in message:
        index_folder(photos, bundle, store, BuildOptions(metadata=str(file), remove_any=True))
        assert [name for name, payload in payloads(store).items() if payload["metadata"]] == ["0.jpg"]


def test_losing_metadata_of_renamed_images_raises_error(
    bundle: Bundle, first: tuple[Path, IndexReport], tmp_path: Path
) -> None:
    photos, store = tmp_path / "photos", open_store(f"file:{tmp_path}/index")
    (photos / "a").mkdir(parents=True)
    for seed in range(4):
        scenery(seed).save(photos / "a" / f"{seed}.png")
    (tmp_path / "own.csv").write_text("path,n\n" + "".join(f"a/{seed}.png,{seed}\n" for seed in range(4)))
    options = BuildOptions(metadata=f"{tmp_path}/own.csv")
    index_folder(photos, bundle, store, options)
    (photos / "b").mkdir()
    for seed in range(3):
        (photos / "a" / f"{seed}.png").rename(photos / "b" / f"{seed}.png")
    for run in (index_folder, lambda folder, *rest: dry_run_folders([Folder(folder)], *rest)):
        with pytest.raises(DataError, match=r"has nothing for 3 of the 4 images .*b/0\.png"):
            run(photos, bundle, store, options)


def test_changed_image_keeps_metadata_and_leaves_its_duplicate_group(
    bundle: Bundle, home: Path, tmp_path: Path
) -> None:
    photos, store = tmp_path / "photos", open_store(f"file:{tmp_path}/index")
    photos.mkdir()
    write_copies(photos)
    (photos / "1.jpg.json").write_text('{"title": "One"}')
    index_folder(photos, bundle, store, BuildOptions(metadata="sidecars"))
    scenery(50).save(photos / "1.jpg")
    (photos / "2 cropped.jpg").unlink()
    report = index_folder(photos, bundle, store, BuildOptions(prune=True))
    assert (report.indexed, report.removed, report.duplicates) == (1, 1, 2)
    assert payloads(store)["1.jpg"]["metadata"] == {"title": "One"}
    assert groups(store) == {frozenset(COPIES["1.jpg"])}


def test_exif_becomes_metadata_that_user_metadata_overrides(bundle: Bundle, tmp_path: Path) -> None:
    photos, store = tmp_path / "photos", open_store(f"file:{tmp_path}/index")
    photos.mkdir()
    exif = Image.Exif()
    exif.update({Base.Make: "Canon", Base.DateTime: "2024:05:31 10:00:00"})
    exif.get_ifd(IFD.GPSInfo).update({1: "N", 2: (52, 30, 0), 3: "E", 4: (13, 24, 0)})
    for seed in range(3):
        scenery(seed).save(photos / f"{seed}.jpg", exif=exif)
    read = {"taken": "2024-05-31T10:00:00", "camera": "Canon", "location": {"lat": 52.5, "lon": 13.4}}

    def metadata(**options: Any) -> dict[str, Any]:
        index_folder(photos, bundle, store, BuildOptions(**options))
        return {name: payload["metadata"] for name, payload in payloads(store).items()}

    assert metadata() == dict.fromkeys(["0.jpg", "1.jpg", "2.jpg"], read)
    info = next(info for info in store.generations() if info.name == store.live())
    assert {"taken": "datetime", "camera": "keyword", "location": "geo"}.items() <= info.indexed.items()
    with contextlib.closing(Search(ModelRegistry(bundle, "cpu"), store)) as search:
        for word in ("taken>=2024", "taken=2024-05-31", "camera=Canon", "location@52.5,13.4,1km"):
            assert len(search.query(Query(text="circles", filter=[word])).results) == 3

    (tmp_path / "own.csv").write_text("path,camera,title\n0.jpg,Rollei,One\n")
    own = {"0.jpg": {**read, "camera": "Rollei", "title": "One"}, "1.jpg": read, "2.jpg": read}
    assert metadata(metadata=f"{tmp_path}/own.csv") == own
    generation = store.live()
    assert metadata(metadata=f"{tmp_path}/own.csv") == own
    assert store.live() == generation

    scenery(9).save(photos / "0.jpg", exif=b"")
    (photos / "1.jpg").rename(photos / "3.jpg")
    shutil.copy(photos / "2.jpg", photos / "4.jpg")
    changed = {"0.jpg": {"camera": "Rollei", "title": "One"}, "2.jpg": read, "3.jpg": read, "4.jpg": read}
    assert metadata(prune=True) == changed
    hidden = {name: value for name, value in read.items() if name != "location"}
    assert metadata(rebuild=True, exif=frozenset({"taken", "camera"}))["3.jpg"] == hidden
    assert metadata(rebuild=True, exif=frozenset())["0.jpg"] == {"camera": "Rollei", "title": "One"}
    assert metadata() == {name: own if name == "0.jpg" else {} for name, own in changed.items()}


def test_only_first_metadata_fields_are_indexed_above_limit(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos, store = tmp_path / "photos", open_store(f"file:{tmp_path}/index")
    photos.mkdir()
    scenery(0).save(photos / "0.jpg")
    names = [f"f{number}" for number in range(MAX_INDEXED + 2)]
    (tmp_path / "wide.csv").write_text(f"path,{','.join(names)}\n0.jpg{',x' * len(names)}\n")
    index_folder(photos, bundle, store, BuildOptions(metadata=f"{tmp_path}/wide.csv"))
    (info,) = store.generations()
    assert [name for name in names if name in info.indexed] == names[:MAX_INDEXED]
    assert list(payloads(store)["0.jpg"]["metadata"]) == names
    assert "the metadata has 66 fields: filters on all but the first 64 are slow" in caplog.text


def test_search_returns_best_of_each_duplicate_group_with_count(search: Search) -> None:
    every = search.query(Query(text="colourful circles", k=100, keep_duplicates=True)).results
    collapsed = search.query(Query(text="colourful circles", k=100)).results
    assert len(every) == len(NAMES) + 10
    assert len(collapsed) == len(every) - 4
    assert [r.rank for r in collapsed] == list(range(1, len(collapsed) + 1))
    others = {"1": 3, "2": 1}
    for result in [*every, *collapsed]:
        assert result.duplicates == others.get(str(result.path)[0], 0)
    first_of = {number: next(r.path for r in every if str(r.path)[0] == number) for number in others}
    expected = [r.path for r in every if r.path in first_of.values() or not r.duplicates]
    assert [r.path for r in collapsed] == expected


def test_search_returns_k_results_when_duplicates_fill_shortlist(search: Search) -> None:
    for k in (1, 5, 12, len(NAMES) + 6):
        answer = search.query(Query(text="colourful circles", k=k, shortlist=k))
        assert len(answer.results) == k
        assert answer.shortlist >= k


def test_http_search_returns_duplicates_with_keep_duplicates(client: FlaskClient) -> None:
    arguments = {"q": "colourful circles", "k": 100}
    collapsed = client.get("/v1/search", query_string=arguments).get_json()["results"]
    for value in ("true", "1"):
        every = client.get("/v1/search", query_string={**arguments, "keep_duplicates": value}).get_json()["results"]
        assert len(every) == len(collapsed) + 4
    assert client.post("/v1/search", json={**arguments, "keep_duplicates": True}).get_json()["results"] == every
    for value in ("false", ""):
        same = client.get("/v1/search", query_string={**arguments, "keep_duplicates": value}).get_json()["results"]
        assert same == collapsed
    assert {result["path"]: result["duplicates"] for result in every if result["duplicates"]}.keys() == {
        name for group in ALL_COPIES for name in group
    }


def test_invalid_boolean_parameter_returns_400(client: FlaskClient) -> None:
    by_get = client.get("/v1/search?q=x&keep_duplicates=maybe")
    by_post = client.post("/v1/search", json={"q": "x", "keep_duplicates": 1})
    assert by_get.get_json(force=True)["detail"] == "keep_duplicates is 'maybe', which is not true or false"
    assert by_post.get_json(force=True)["detail"] == "keep_duplicates is 1, which is not true or false"
    assert (by_get.status_code, by_post.status_code) == (400, 400)


def test_http_results_contain_metadata(client: FlaskClient) -> None:
    results = client.get("/v1/search?q=circles&k=100&keep_duplicates=true").get_json()["results"]
    assert next(r for r in results if r["path"] == "1.webp")["metadata"] == {"title": "Two", "year": 2024}
    assert json.dumps(results)
