"""`/v1/fields`, hints about unknown fields, and the report of a running reindex in `/v1/collections`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek_indexer.build import BuildOptions, index_folder
from sceneseek_server.app import create_app
from tests.drawing import NAMES


@pytest.fixture(scope="module")
def described(bundle: Bundle, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the gallery with metadata. Read only."""
    folder = tmp_path_factory.mktemp("described")
    (folder / "about.csv").write_text("path,room,year\n" + "".join(f"{n},{n[:6]},{y}\n" for y, n in enumerate(NAMES)))
    index_folder(gallery, bundle, open_store(f"file:{folder}/index"), BuildOptions(metadata=f"{folder}/about.csv"))
    return folder / "index"


@pytest.fixture
def search(bundle: Bundle, described: Path, tmp_path: Path) -> Iterator[Search]:
    shutil.copytree(described, tmp_path / "index")
    search = Search(ModelRegistry(bundle, "cpu"), open_store(f"file:{tmp_path}/index"))
    yield search
    search.close()


@pytest.fixture
def client(search: Search) -> FlaskClient:
    return create_app(search).test_client()


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        ({"q": "circles"}, []),
        ({"q": "circles without squares"}, ["negation"]),
        ({"q": "circles", "filter": "yaer>=1"}, ["unknown-field"]),
        ({"q": "circles", "filter": "camera=Canon"}, ["unknown-field"]),
        ({"q": "circles", "filter": "year=old"}, ["other-type"]),
        ({"q": "not circles", "filter": "taken=2024"}, ["negation", "unknown-field"]),
        ({"q": "circles", "filter": "year>=1000"}, []),
        ({"q": "circles", "filter": "yaer!=1"}, []),
    ],
)
def test_search_response_contains_hints(client: FlaskClient, arguments: dict[str, str], hints: list[str]) -> None:
    answer = client.get("/v1/search", query_string=arguments).get_json()
    assert [hint["kind"] for hint in answer["hints"]] == hints
    if "yaer>=1" in arguments.values():
        assert answer["hints"][0]["nearest"] == "year"
        assert "no image has the field yaer: did you mean year?" in answer["hints"][0]["text"]


def test_fields_follow_the_live_generation(client: FlaskClient, search: Search) -> None:
    first = client.get("/v1/fields").get_json()
    assert first == {
        "generation": search.follower.name,
        "images": len(NAMES),
        "complete": True,
        "fields": [
            {
                "name": "room",
                "type": "keyword",
                "images": len(NAMES),
                "values": [{"value": "scenes", "images": 7}, {"value": "shapes", "images": 5}],
                "distinct": 2,
                "min": None,
                "max": None,
            },
            {"name": "year", "type": "integer", "images": 12, "values": [], "distinct": 0, "min": 0, "max": 11},
        ],
    }
    live = search.store.generations()[0]
    with search.store.writing():
        following = search.store.create(replace(live, name="second"), live.name)
        following.delete([record.id for record in following.scroll() if record.payload["metadata"]["year"] > 3])
        search.store.publish(following)
    assert search.follower.refresh()
    second = client.get("/v1/fields").get_json()
    assert (second["generation"], second["images"], second["fields"][1]["max"]) == ("second", 4, 3)


def test_fields_are_computed_once_per_generation(
    client: FlaskClient, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.get("/v1/fields").get_json()
    with search.follower.borrow() as snapshot:
        monkeypatch.setattr(
            type(snapshot.collection), "scroll", lambda *_: pytest.fail("the fields are computed again")
        )
    assert client.get("/v1/fields").get_json() == first


def test_collections_report_generation_being_built(client: FlaskClient, search: Search) -> None:
    assert client.get("/v1/collections").get_json()["building"] is False
    with search.store.writing():
        building = search.store.create(replace(search.store.generations()[0], name="second"))
        assert client.get("/v1/collections").get_json()["building"] is True
        search.store.discard(building)
    assert client.get("/v1/collections").get_json()["building"] is False
