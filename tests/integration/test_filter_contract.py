"""Every engine selects the images that plain Python selects for a filter, with and without payload indexes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sceneseek.filters.conditions import HasValue, field_path
from sceneseek.filters.document import filter_from_json
from sceneseek.filters.words import filter_from_words
from sceneseek.payload import INDEXED_FIELDS, folders
from sceneseek.store import Collection, Point, VectorStore
from sceneseek.store.base import FieldType
from sceneseek.text_tokens import tokens
from tests.engines import ENGINES, opened
from tests.integration.test_store_contract import INFO, points
from tests.plain_filter import holds

INDEXED: dict[str, FieldType] = {
    **INDEXED_FIELDS,
    "year": "integer",
    "rating": "float",
    "taken": "datetime",
    "place": "geo",
    "tags": "keyword",
    "indoors": "bool",
    '"Date taken"': "keyword",
    "ocr.tokens": "keyword",
}
PATHS = ["animals/dogs/rex.jpg", "animals/cat.png", "animals-old/rex.jpg", "animals", "b.png", "b/animals/dogs/x.jpg"]
PATHS += ["Bu\u0308cher/Käse/x.jpg", "Bücher/y.jpg"]
TAGS = ["dog", "cat", "ein Hündchen", "1990", "true", "", "a|b", 'say "hi"']
TEXTS = ["OPEN LATE", "open", "市立図書館", ""]
DATES = [
    "2024-05-31",
    "2024-05-31T23:59:59Z",
    "2024-06-01T00:00:00+02:00",
    "2024-06-01 00:00:00",
    "2023-12-31T10:00",
    "1999-01-01T00:00:00.250000Z",
    "31.5.2024",
    "2024",
]
PLACES = [(48.8566, 2.3522), (48.86, 2.36), (-33.9, 151.2), (0.0, 179.9), (0.0, -179.9), (51.5, -0.1)]


def metadata_of(number: int) -> dict[str, Any]:
    """Values of expected and unexpected types: single, in lists, null and missing."""
    lat, lon = PLACES[number % len(PLACES)]
    whole: dict[str, Any] = {
        "year": [1990, 1991, 2024, -3, 2**60, [1990, 2000], None][number % 7],
        "rating": [0.5, 3.0, 3, 4.25, [1.5, 2.5], -1e9][number % 6],
        "taken": [*DATES, [DATES[0], DATES[4]]][number % 9],
        "place": [{"lat": lat, "lon": lon}] if number % 5 == 0 else {"lat": lat, "lon": lon},
        "tags": [TAGS[number % 8], [TAGS[number % 8], TAGS[(number + 3) % 8]], []][number % 3],
        "indoors": number % 2 == 0,
        "Date taken": ["morning", "evening"][number % 2],
        "camera": {"make": ["Canon", "Leica"][number % 2], "f.number": number % 3 + 1.4},
    }
    return {key: value for position, (key, value) in enumerate(whole.items()) if (number + position) % 11}


def payload_of(number: int) -> dict[str, Any]:
    path = PATHS[number % len(PATHS)]
    return {
        "path": path,
        "folders": folders(path),
        "width": 100 * (number % 7),
        "height": 480,
        "format": ["JPEG", "PNG"][number % 2],
        "bytes": 10_000 + number,
        "mtime_ns": 1_779_000_000_000_000_000 + number,
        "metadata": metadata_of(number),
        **({"ocr": {"tokens": tokens(TEXTS[number % 4])}} if number % 6 else {}),
    }


CONTENT = [replace(point, payload=payload_of(number)) for number, point in enumerate(points(120))]
QUERY = points(1, seed=3)[0].joint


# The simulated server has no indexes, but receives the same requests as one with indexes.
WITH_INDEXES = [(engine, True) for engine in ENGINES]
WITHOUT = [("edge", False), ("server", False)]


@pytest.fixture(scope="module", params=[*WITH_INDEXES, *WITHOUT], ids=str)
def collection(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """The same payloads on each engine, with and without payload indexes."""
    engine, with_indexes = request.param
    directory: Path = tmp_path_factory.mktemp("filtered")
    with opened(engine, directory) as store:
        yield (filled := _filled(store, INDEXED if with_indexes else {}))
        filled.close()


def _filled(store: VectorStore, indexed: dict[str, FieldType]) -> Collection:
    with store.writing():
        building = store.create(replace(INFO, indexed=indexed))
        building.upsert(CONTENT)
        store.publish(building)
    return store.open(INFO.name)


def search_ids(collection: Collection, where: Any) -> set[str]:
    return set(collection.nearest(QUERY, 200, where=where).ids)


def expected_ids(where: Any) -> set[str]:
    return {point.id for point in CONTENT if holds(where, point.payload)}


@pytest.mark.parametrize(
    "words",
    [
        ['text:"open late"'],
        ["text:Open", "year>=1990"],
        ["text:図書館"],
        ["year>=1990"],
        ["year=1990"],
        ["year>1990", "year<=2024"],
        ["year!=1990"],
        ["year>-4", "year<1990.5"],
        ["tags=dog"],
        ["tags=dog|cat"],
        ["tags!=dog|cat"],
        ["tags=1990"],
        ["tags=true"],
        ["tags=ein Hündchen"],
        ['tags="a|b"'],
        ["indoors=true"],
        ["indoors=false"],
        ["indoors!=true"],
        ["rating=3"],
        ["rating>=2.5", "rating<4.25"],
        ["taken=2024-05-31"],
        ["taken=2024"],
        ["taken!=2024"],
        ["year=2024"],
        ['{"field": "taken", "equals": "2024-05"}'],
        ["format=jpg"],
        ["path^=Bücher"],
        ["path^=Bu\u0308cher/Ka\u0308se"],
        ["path=Bücher/Käse/x.jpg|Bu\u0308cher/y.jpg"],
        ["taken>=2024-05-31", "taken<2024-06-01"],
        ["taken<=2024-05"],
        ["taken>2024-05"],
        ["taken>=2024"],
        ["taken>2024-05-31T21:59:59Z"],
        ["place@48.8566,2.3522,2km"],
        ["place@10,170..-10,-170"],
        ["place@49,2..48,3"],
        ["path^=animals"],
        ["path^=animals/dogs/"],
        ["path=animals"],
        ["format=PNG", "width>=300"],
        ['"Date taken"=morning'],
        ["camera.make=Leica"],
        ['camera."f.number">2'],
        ["mtime_ns=1779000000000000007"],
        ["nothing=here"],
        ["nothing!=here"],
        ['{"any": [{"field": "year", "lt": 0}, {"all": [{"not": {"field": "tags", "equals": "cat"}}]}]}'],
        ['{"not": {"any": [{"path_prefix": "animals"}, {"field": "rating", "any_of": [3, 0.5, "x"]}]}}'],
    ],
    ids=" ".join,
)
def test_filter_selects_expected_images(collection: Collection, words: list[str]) -> None:
    where = filter_from_words(words)
    assert search_ids(collection, where) == expected_ids(where)


def test_has_value_selects_images_with_the_field(collection: Collection) -> None:
    for field in ("year", "taken", "place", "tags", "indoors", "camera.make", "nothing", "path", "duplicates"):
        where = HasValue(field_path(field))
        if field != "tags":  # only plain Python counts an empty list as a value
            assert search_ids(collection, where) == expected_ids(where)
    assert not search_ids(collection, HasValue(("metadata", "nothing")))


def test_example_filters_are_selective() -> None:
    for words in (
        ["taken=2024"],
        ["format=jpg"],
        ["path^=Bücher"],
        ["path^=Bu\u0308cher/Ka\u0308se"],
        ["path=Bu\u0308cher/y.jpg"],
        ["year>=1990"],
        ["taken>2024-05"],
        ["place@10,170..-10,-170"],
        ["path^=animals"],
        ["indoors=true"],
    ):
        assert 0 < len(expected_ids(filter_from_words(words))) < len(CONTENT)


values = st.sampled_from(
    [*TAGS, *DATES, "Canon", "morning", "PNG", True, False, 1990, 3, 3.0, 0.5, 2**60, -3, 300, 1e300]
)
numbers = st.sampled_from([1990, 1990.5, -3, 0, 3, 3.0, 0.5, 2024, 2**53, 1e300, 300])
dates = st.sampled_from(
    ["2024", "2024-05", "2024-05-31", "2024-06-01T00:00:00Z", "2023-12-31T12:00:00+02:00", "1999-01-01"]
)
fields = st.sampled_from(
    ["year", "rating", "taken", "tags", "indoors", '"Date taken"', "camera.make", "width", "format", "path", "none"]
)
bounds = st.tuples(st.sampled_from(["gt", "gte"]), st.sampled_from(["lt", "lte"]))
places = st.sampled_from(PLACES)
conditions = st.one_of(
    st.builds(lambda f, v: {"field": f, "equals": v}, fields, values),
    st.builds(lambda f, v: {"field": f, "any_of": v}, fields, st.lists(values, min_size=1, max_size=4)),
    st.builds(lambda f, k, low, high: {"field": f, k[0]: low, k[1]: high}, fields, bounds, numbers, numbers),
    st.builds(lambda f, k, low: {"field": f, k[0]: low}, fields, bounds, numbers),
    st.builds(lambda f, low, high: {"field": f, "gte": low, "lt": high}, fields, dates, dates),
    st.builds(lambda f, k, high: {"field": f, k[1]: high}, fields, bounds, dates),
    st.builds(
        lambda p, m: {"field": "place", "near": {"lat": p[0], "lon": p[1], "meters": m}},
        places,
        st.sampled_from([500, 5_000, 400_000, 30_000_000]),
    ),
    st.builds(
        lambda p, side: {
            "field": "place",
            "within": {"north": p[0] + side, "south": p[0] - side, "west": p[1] - side / 9, "east": p[1] + side / 9},
        },
        places.filter(lambda p: abs(p[1]) < 179),
        st.sampled_from([0.5, 5.0]),
    ),
    st.builds(
        lambda f: {"path_prefix": f}, st.sampled_from(["animals", "animals/dogs", "b", "anim", "b.png", "Bücher"])
    ),
)
documents = st.recursive(
    conditions,
    lambda parts: st.one_of(
        st.builds(lambda p: {"all": p}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda p: {"any": p}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda p: {"not": p}, parts),
    ),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents)
def test_generated_filter_selects_expected_images(collection: Collection, document: Any) -> None:
    where = filter_from_json(document)
    assert search_ids(collection, where) == expected_ids(where)


def test_filtered_search_returns_nearest_matching_images(collection: Collection) -> None:
    where = filter_from_words(["format=PNG"])
    near = [i for i in collection.nearest(QUERY, len(CONTENT)).ids if i in expected_ids(where)]
    assert collection.nearest(QUERY, 7, where=where).ids == near[:7]
    assert collection.nearest(QUERY, 7, exact=True, where=where).ids == near[:7]


def test_payload_indexes_are_recorded_and_rebuilt_in_copies(tmp_path: Path) -> None:
    with opened("edge", tmp_path) as store:
        info = replace(INFO, indexed=INDEXED)
        with store.writing():
            store.publish(store.create(info))
        assert store.generations() == [info]
        other: dict[str, FieldType] = {"folders": "keyword", "year": "float", "more": "keyword"}
        with store.writing():
            copy = store.create(replace(info, name="second", indexed=other), base=INFO.name)
            copy.upsert(
                [Point(CONTENT[0].id, CONTENT[0].joint, CONTENT[0].head, {"metadata": {"more": "x", "year": 1990.5}})]
            )
            assert len(copy.nearest(QUERY, 5, where=filter_from_words(["more=x", "year>1990"]))) == 1
            schema = copy._shard.info().payload_schema  # type: ignore[attr-defined]
            assert set(schema) == {"folders", "metadata.year", "metadata.more"}
            store.discard(copy)
