"""Copies in a collection are found and marked, and the marks stay right; on the real engine, with made-up vectors."""

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
def compared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fingerprints are compared in both ways; else it depends on how many there are."""
    if request.param == "under masks":
        monkeypatch.setattr(fingerprints, "_FEW_NEW", 0)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    store = open_store(f"file:{tmp_path}/index")
    with store.writing():
        collection = store.create(INFO)
        yield collection
        store.discard(collection)


def picture(name: str, number: int, bits: int = 0, tilt: float = 0.0, dhash: str | None = None) -> Point:
    """A picture that nobody else has; `bits` of its hash and the angle of its vector may be off."""
    hash_bits = np.unpackbits(HASHES[number])
    hash_bits[:bits] ^= 1
    towards = np.roll(VECTORS[number], 1)
    joint = VECTORS[number] / np.linalg.norm(VECTORS[number])
    towards -= (towards @ joint) * joint
    joint = np.cos(tilt) * joint + np.sin(tilt) * towards / np.linalg.norm(towards)
    payload = {"path": name, "dhash": dhash or np.packbits(hash_bits).tobytes().hex()}
    return Point(point_id(name), joint.astype(np.float32), np.empty(0, np.float32), payload)


def added(collection: Collection, points: Sequence[Point]) -> list[str]:
    collection.upsert(points)
    return [point.id for point in points]


def marks(collection: Collection) -> dict[str, Any]:
    return {record.payload["path"]: record.payload.get("duplicates") for record in collection.scroll()}


def group(*names: str) -> dict[str, Any]:
    mark = {"group": min(map(point_id, names)), "others": len(names) - 1}
    return dict.fromkeys(names, mark)


def test_copies_are_marked_with_their_group_and_how_many_others_it_has(collection: Collection) -> None:
    ids = added(
        collection,
        [
            *(picture(f"{i}", i) for i in range(20)),
            picture("3 small", 3, bits=5, tilt=0.6),
            picture("3 grey", 3, bits=2),
        ],
    )
    assert mark_duplicates(collection, ids) == 2
    expected = {**dict.fromkeys(map(str, range(20))), **group("3", "3 small", "3 grey")}
    assert marks(collection) == expected


def test_vectors_and_fingerprints_must_both_be_near(collection: Collection) -> None:
    ids = added(
        collection,
        [
            picture("0", 0),
            picture("0 looks alike, shows another", 0, tilt=1.2),
            picture("1", 1),
            picture("1 shows the same, looks unlike", 1, bits=45),
        ],
    )
    assert mark_duplicates(collection, ids) == 0
    assert not any(marks(collection).values())


def test_a_crop_is_a_copy_only_where_the_vectors_nearly_agree(collection: Collection) -> None:
    ids = added(collection, [picture("0", 0), picture("0 cropped", 0, bits=15, tilt=0.2), picture("1", 1)])
    ids += added(collection, [picture("1 similar", 1, bits=15, tilt=0.6)])
    assert mark_duplicates(collection, ids) == 1
    assert marks(collection) == {**group("0", "0 cropped"), "1": None, "1 similar": None}


def test_blank_pictures_are_copies_only_of_those_of_their_colour(collection: Collection) -> None:
    colours = {
        "white": "#ffffff",
        "white too": "#fffefe",
        "black": "#000000",
        "grey": "#808080",
        "less grey": "#858585",
    }
    ids = added(collection, [picture(name, 0, dhash=colour) for name, colour in colours.items()])
    assert mark_duplicates(collection, ids) == 1
    assert marks(collection) == {**group("white", "white too"), "black": None, "grey": None, "less grey": None}
    ids = added(collection, [picture("white again", 0, dhash="#ffffff"), picture("0", 0)])
    assert mark_duplicates(collection, ids) == 2
    assert marks(collection)["white"] == group("white", "white too", "white again")["white"]


def test_what_grows_brighter_all_over_is_not_alike_for_that(collection: Collection) -> None:
    near = np.full(16, 255, np.uint8)
    one, other = near.copy(), near.copy()
    one[0], other[1] = 0xF0, 0x0F
    points = [
        replace(picture(name, 0), payload={"path": name, "dhash": digits.tobytes().hex()})
        for name, digits in (("one", one), ("other", other))
    ]
    assert mark_duplicates(collection, added(collection, points)) == 0


def test_later_runs_give_the_same_marks_as_one_run(collection: Collection) -> None:
    mark_duplicates(collection, added(collection, [picture(f"{i}", i) for i in range(20)]))
    mark_duplicates(collection, added(collection, [picture("3 small", 3, bits=5), picture("4 small", 4, bits=5)]))
    assert mark_duplicates(collection, added(collection, [picture("3 grey", 3, bits=2)])) == 3
    assert marks(collection) == {
        **dict.fromkeys(map(str, range(20))),
        **group("3", "3 small", "3 grey"),
        **group("4", "4 small"),
    }


def test_groups_that_a_new_image_connects_become_one(collection: Collection) -> None:
    ids = added(collection, [picture("0", 0), picture("0 far", 0, bits=16, tilt=0.6)])
    assert mark_duplicates(collection, ids) == 0
    ids = added(collection, [picture("0 between", 0, bits=8, tilt=0.3)])
    assert mark_duplicates(collection, ids) == 2
    assert marks(collection) == group("0", "0 far", "0 between")


def test_an_image_that_left_or_changed_leaves_its_group(collection: Collection) -> None:
    added_ids = added(
        collection, [picture(f"0 {i}", 0, bits=i) for i in range(3)] + [picture("1", 1), picture("1 b", 1)]
    )
    mark_duplicates(collection, added_ids)
    collection.delete([point_id("0 0")])
    assert mark_duplicates(collection, []) == 2
    assert marks(collection) == {**group("0 1", "0 2"), **group("1", "1 b")}
    assert mark_duplicates(collection, added(collection, [picture("1 b", 2), picture("0 2", 3)])) == 0
    assert not any(marks(collection).values())


def test_a_group_splits_when_its_connecting_image_is_removed(collection: Collection) -> None:
    points = [picture("0", 0), picture("0 far", 0, bits=16, tilt=0.6), picture("0 between", 0, bits=8, tilt=0.3)]
    assert mark_duplicates(collection, added(collection, points)) == 2
    collection.delete([point_id("0 between")])
    assert mark_duplicates(collection, []) == 0
    assert not any(marks(collection).values())


def test_nothing_is_written_where_nothing_changed(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = added(collection, [picture("0", 0), picture("0 b", 0), picture("1", 1)])
    assert mark_duplicates(collection, ids) == 1

    def refuse(*_: object) -> None:
        raise AssertionError("marks were written although none had changed")

    monkeypatch.setattr(type(collection), "set_payload", refuse)
    assert mark_duplicates(collection, ids) == mark_duplicates(collection, []) == 1


def test_hundreds_of_copies_of_one_picture_are_one_group(collection: Collection) -> None:
    ids = added(collection, [picture(f"{i}", 0, bits=i % 4, tilt=0.001 * (i % 5)) for i in range(600)])
    assert mark_duplicates(collection, ids) == 599
    assert {mark["others"] for mark in marks(collection).values()} == {599}


def test_an_empty_collection_and_points_of_before_there_were_fingerprints_are_passed_over(
    collection: Collection,
) -> None:
    assert mark_duplicates(collection, []) == 0
    old = [replace(picture(name, 0), payload={"path": name}) for name in "ab"]
    assert mark_duplicates(collection, added(collection, old)) == 0
