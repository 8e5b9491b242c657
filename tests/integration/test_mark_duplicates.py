"""Duplicates in a collection are marked, and the marks stay correct; real engine, synthetic vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneseek.payload import point_id
from sceneseek.store import Collection, CollectionInfo, Point, open_store
from sceneseek_indexer import fingerprints
from sceneseek_indexer.duplicates import mark_duplicates

INFO = CollectionInfo("first", "fingerprint", 64, 0, (), "2026-01-01T00:00:00+00:00")
RNG = np.random.default_rng(5)
HASHES = RNG.integers(0, 256, (40, 16), dtype=np.uint8)
VECTORS = RNG.normal(size=(40, 64)).astype(np.float32)


@pytest.fixture(autouse=True, params=["all pairs", "under masks"])
def comparison(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test with both comparison methods; otherwise the number of fingerprints decides."""
    if request.param == "under masks":
        monkeypatch.setattr(fingerprints, "_FEW_NEW", 0)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    store = open_store(f"file:{tmp_path}/index")
    with store.writing():
        collection = store.create(INFO)
        yield collection
        store.discard(collection)


def image_point(name: str, number: int, bits: int = 0, tilt: float = 0.0, dhash: str | None = None) -> Point:
    """Return an image with the hash and vector of `number`, after flipping `bits` and rotating by `tilt`."""
    hash_bits = np.unpackbits(HASHES[number])
    hash_bits[:bits] ^= 1
    towards = np.roll(VECTORS[number], 1)
    joint = VECTORS[number] / np.linalg.norm(VECTORS[number])
    towards -= (towards @ joint) * joint
    joint = np.cos(tilt) * joint + np.sin(tilt) * towards / np.linalg.norm(towards)
    payload = {"path": name, "dhash": dhash or np.packbits(hash_bits).tobytes().hex()}
    return Point(point_id(name), joint.astype(np.float32), np.empty(0, np.float32), payload)


def upserted(collection: Collection, points: Sequence[Point]) -> list[str]:
    collection.upsert(points)
    return [point.id for point in points]


def marks(collection: Collection) -> dict[str, Any]:
    return {record.payload["path"]: record.payload.get("duplicates") for record in collection.scroll()}


def group(*names: str) -> dict[str, Any]:
    mark = {"group": min(map(point_id, names)), "others": len(names) - 1}
    return dict.fromkeys(names, mark)


def test_duplicates_are_marked_with_their_group_and_its_size(collection: Collection) -> None:
    ids = upserted(
        collection,
        [
            *(image_point(f"{i}", i) for i in range(20)),
            image_point("3 small", 3, bits=5, tilt=0.6),
            image_point("3 grey", 3, bits=2),
        ],
    )
    assert mark_duplicates(collection, ids) == 2
    expected = {**dict.fromkeys(map(str, range(20))), **group("3", "3 small", "3 grey")}
    assert marks(collection) == expected


def test_duplicates_need_similar_vectors_and_fingerprints(collection: Collection) -> None:
    ids = upserted(
        collection,
        [
            image_point("0", 0),
            image_point("0 looks alike, shows another", 0, tilt=1.2),
            image_point("1", 1),
            image_point("1 shows the same, looks unlike", 1, bits=45),
        ],
    )
    assert mark_duplicates(collection, ids) == 0
    assert not any(marks(collection).values())


def test_crop_is_a_duplicate_only_if_the_vectors_nearly_match(collection: Collection) -> None:
    ids = upserted(
        collection, [image_point("0", 0), image_point("0 cropped", 0, bits=15, tilt=0.2), image_point("1", 1)]
    )
    ids += upserted(collection, [image_point("1 similar", 1, bits=15, tilt=0.6)])
    assert mark_duplicates(collection, ids) == 1
    assert marks(collection) == {**group("0", "0 cropped"), "1": None, "1 similar": None}


def test_blank_images_are_duplicates_only_of_the_same_colour(collection: Collection) -> None:
    colours = {
        "white": "#ffffff",
        "white too": "#fffefe",
        "black": "#000000",
        "grey": "#808080",
        "less grey": "#858585",
    }
    ids = upserted(collection, [image_point(name, 0, dhash=colour) for name, colour in colours.items()])
    assert mark_duplicates(collection, ids) == 1
    assert marks(collection) == {**group("white", "white too"), "black": None, "grey": None, "less grey": None}
    ids = upserted(collection, [image_point("white again", 0, dhash="#ffffff"), image_point("0", 0)])
    assert mark_duplicates(collection, ids) == 2
    assert marks(collection)["white"] == group("white", "white too", "white again")["white"]


def test_brightness_gradients_are_not_duplicates(collection: Collection) -> None:
    gradient = np.full(16, 255, np.uint8)
    one, other = gradient.copy(), gradient.copy()
    one[0], other[1] = 0xF0, 0x0F
    points = [
        replace(image_point(name, 0), payload={"path": name, "dhash": digits.tobytes().hex()})
        for name, digits in (("one", one), ("other", other))
    ]
    assert mark_duplicates(collection, upserted(collection, points)) == 0


def test_incremental_runs_give_the_same_marks_as_one_run(collection: Collection) -> None:
    mark_duplicates(collection, upserted(collection, [image_point(f"{i}", i) for i in range(20)]))
    mark_duplicates(
        collection, upserted(collection, [image_point("3 small", 3, bits=5), image_point("4 small", 4, bits=5)])
    )
    assert mark_duplicates(collection, upserted(collection, [image_point("3 grey", 3, bits=2)])) == 3
    assert marks(collection) == {
        **dict.fromkeys(map(str, range(20))),
        **group("3", "3 small", "3 grey"),
        **group("4", "4 small"),
    }


def test_groups_connected_by_a_new_image_merge(collection: Collection) -> None:
    ids = upserted(collection, [image_point("0", 0), image_point("0 far", 0, bits=16, tilt=0.6)])
    assert mark_duplicates(collection, ids) == 0
    ids = upserted(collection, [image_point("0 between", 0, bits=8, tilt=0.3)])
    assert mark_duplicates(collection, ids) == 2
    assert marks(collection) == group("0", "0 far", "0 between")


def test_removed_or_changed_image_leaves_its_group(collection: Collection) -> None:
    ids = upserted(
        collection, [image_point(f"0 {i}", 0, bits=i) for i in range(3)] + [image_point("1", 1), image_point("1 b", 1)]
    )
    mark_duplicates(collection, ids)
    collection.delete([point_id("0 0")])
    assert mark_duplicates(collection, []) == 2
    assert marks(collection) == {**group("0 1", "0 2"), **group("1", "1 b")}
    assert mark_duplicates(collection, upserted(collection, [image_point("1 b", 2), image_point("0 2", 3)])) == 0
    assert not any(marks(collection).values())


def test_a_group_splits_when_its_connecting_image_is_removed(collection: Collection) -> None:
    points = [
        image_point("0", 0),
        image_point("0 far", 0, bits=16, tilt=0.6),
        image_point("0 between", 0, bits=8, tilt=0.3),
    ]
    assert mark_duplicates(collection, upserted(collection, points)) == 2
    collection.delete([point_id("0 between")])
    assert mark_duplicates(collection, []) == 0
    assert not any(marks(collection).values())


def test_unchanged_marks_are_not_written(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = upserted(collection, [image_point("0", 0), image_point("0 b", 0), image_point("1", 1)])
    assert mark_duplicates(collection, ids) == 1

    def fail(*_: object) -> None:
        raise AssertionError("marks were written although none had changed")

    monkeypatch.setattr(type(collection), "set_payload", fail)
    assert mark_duplicates(collection, ids) == mark_duplicates(collection, []) == 1


def test_hundreds_of_copies_form_one_group(collection: Collection) -> None:
    ids = upserted(collection, [image_point(f"{i}", 0, bits=i % 4, tilt=0.001 * (i % 5)) for i in range(600)])
    assert mark_duplicates(collection, ids) == 599
    assert {mark["others"] for mark in marks(collection).values()} == {599}


def test_empty_collection_and_points_without_fingerprints_have_no_duplicates(
    collection: Collection,
) -> None:
    assert mark_duplicates(collection, []) == 0
    old = [replace(image_point(name, 0), payload={"path": name}) for name in "ab"]
    assert mark_duplicates(collection, upserted(collection, old)) == 0
