"""`AliasFollower` switches to the live generation under load: no query fails or mixes two generations."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sceneseek.alias_follower import AliasFollower, Snapshot, filled_by_another
from sceneseek.errors import IndexUnavailable, NothingIndexed
from sceneseek.store import CollectionInfo, open_store
from tests.integration.test_store_contract import INFO, points, published


class SameGraph:
    """A model source without models that accepts a single image fingerprint."""

    def __init__(self, image_fingerprint: str) -> None:
        self._fingerprint = image_fingerprint

    def fitting(self, info: CollectionInfo, store_url: str) -> None:
        if info.image_fingerprint != self._fingerprint:
            raise filled_by_another(info, store_url, self._fingerprint)

    def newer(self, *_: object) -> None:
        return None


def test_empty_store_error_suggests_index_command(tmp_path: Path) -> None:
    with pytest.raises(IndexUnavailable, match="sceneseek index DIR"):
        AliasFollower(open_store(f"file:{tmp_path}"), SameGraph("fingerprint"))


def test_follower_waits_for_first_generation_and_prepares_it_before_ready(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    prepared: list[str] = []
    live = AliasFollower(
        store,
        SameGraph(INFO.image_fingerprint),
        wait=True,
        prepare=lambda snapshot: prepared.append(f"{snapshot.collection.info.name}, ready: {live.ready.is_set()}"),
    )
    assert isinstance(live.waiting_for, NothingIndexed)
    assert live.problem is None
    for access in (lambda: live.borrow().__enter__(), lambda: live.name, lambda: live.models):
        with pytest.raises(NothingIndexed, match="nothing is indexed"):
            access()
    assert not live.refresh()

    published(store, INFO, points(3))
    assert live.refresh()
    assert (prepared, live.ready.is_set()) == (["first, ready: False"], True)
    with live.borrow() as snapshot:
        assert snapshot.collection.count() == 3
    published(store, replace(INFO, name="second"), points(5))
    assert live.refresh()
    assert (live.switches, prepared[1:]) == (1, ["second, ready: True"])
    live.close()


def test_incompatible_first_generation_is_reported_until_compatible_one_is_published(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    live = AliasFollower(store, SameGraph(INFO.image_fingerprint), wait=True)
    published(store, replace(INFO, name="alien", image_fingerprint="other"), points(5))
    assert not live.refresh()
    assert "another image graph" in str(live.problem)
    with pytest.raises(IndexUnavailable, match="another image graph") as refused, live.borrow():
        pass
    assert refused.value.retry_after is not None
    published(store, INFO, points(3))
    assert live.refresh()
    assert (live.name, live.problem) == ("first", None)
    live.close()


def test_incompatible_generation_at_startup_raises_despite_wait(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    published(store, INFO, points(3))
    with pytest.raises(IndexUnavailable, match="another image graph"):
        AliasFollower(store, SameGraph("other"), wait=True)
    store.open("first").close()


def test_failed_prepare_releases_new_generation_and_keeps_old_one(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    published(store, INFO, points(3))

    def prepare(snapshot: Snapshot[None]) -> None:
        if snapshot.collection.info.name == "second":
            raise IndexUnavailable("it does not answer")

    live = AliasFollower(store, SameGraph(INFO.image_fingerprint), prepare=prepare)
    published(store, replace(INFO, name="second"), points(5))
    assert not live.refresh()
    assert (live.name, live.problem) == ("first", "it does not answer")
    store.open("second").close()
    live.close()


def test_index_of_different_bundle_is_rejected_and_released(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    published(store, INFO, points(3))
    with pytest.raises(IndexUnavailable, match="another image graph"):
        AliasFollower(store, SameGraph("other"))
    store.open("first").close()


def test_old_generation_is_closed_after_its_last_query_ends(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    published(store, INFO, points(3))
    live = AliasFollower(store, SameGraph(INFO.image_fingerprint))
    with live.borrow() as old:
        published(store, replace(INFO, name="second"), points(5))
        assert live.refresh()
        assert not live.refresh()
        assert old.collection.count() == 3
        with live.borrow() as new:
            assert new.collection.count() == 5
        with pytest.raises(IndexUnavailable, match="held"):
            store.open("first")
    store.open("first").close()
    live.close()


def test_incompatible_new_generation_keeps_old_one(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    published(store, INFO, points(3))
    live = AliasFollower(store, SameGraph(INFO.image_fingerprint))
    published(store, replace(INFO, name="alien", image_fingerprint="other"), points(5))
    assert not live.refresh()
    assert live.name == "first"
    assert "another image graph" in str(live.problem)
    published(store, replace(INFO, name="third"), points(4))
    assert live.refresh()
    assert (live.name, live.problem) == ("third", None)
    live.close()


def test_queries_do_not_fail_during_generation_switches(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    published(store, INFO, points(30))
    live = AliasFollower(store, SameGraph(INFO.image_fingerprint))
    live.follow(every=0.01)
    stop, failures, answered = threading.Event(), [], [0]

    def run_queries() -> None:
        query = points(1)[0].joint
        while not stop.is_set():
            try:
                with live.borrow() as snapshot:
                    candidates = snapshot.collection.nearest(query, 10)
                    if len(snapshot.collection.retrieve(candidates.ids)) != 10:
                        failures.append("mixed")
                answered[0] += 1
            except Exception as error:  # noqa: BLE001 - the test records every failure
                failures.append(repr(error))

    threads = [threading.Thread(target=run_queries) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(12):
        published(store, replace(INFO, name=f"next{i}"), points(30, seed=i))
        stop.wait(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    last_seen = live.name
    assert live.watching()
    live.close()
    assert failures == []
    assert answered[0] > 100
    assert last_seen != "first"
    shutil.rmtree(tmp_path)
