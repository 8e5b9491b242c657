"""Of each group of near-duplicates the best image stands, and no more payloads are read than that takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from sceneseek.collapse import leading
from sceneseek.payload import similar_images
from sceneseek.ranking import Ranked
from sceneseek.store import Collection, Record


class Payloads:
    """Payloads by id, and how many were read."""

    def __init__(self, groups: dict[str, str]) -> None:
        self.groups = groups
        self.read: list[str] = []

    def retrieve(self, ids: Sequence[str]) -> list[Record]:
        self.read += ids
        return [
            Record(i, {"duplicates": {"group": self.groups[i], "others": 2}} if i in self.groups else {}) for i in ids
        ]


def led(groups: dict[str, str], ids: str, k: int, **how: Any) -> tuple[str, str]:
    payloads = Payloads(groups)
    blocks = [[Ranked(i, 0.5, 0.5, 1) for i in block] for block in ids.split("|")]
    chosen = leading(cast("Collection", payloads), iter(blocks), k, **how)
    assert all(ranked.id == record.id for ranked, record in chosen)
    return "".join(record.id for _, record in chosen), "".join(payloads.read)


def test_without_duplicates_the_first_k_are_read_and_no_others() -> None:
    assert led({}, "abcdef", 3) == ("abc", "abc")


def test_the_best_of_a_group_stands_and_the_list_is_filled_up() -> None:
    assert led(dict.fromkeys("acd", "G") | dict.fromkeys("be", "H"), "abcdefg", 4) == ("abfg", "abcdefg")


def test_kept_duplicates_are_results_of_their_own() -> None:
    assert led(dict.fromkeys("acd", "G"), "abcdefg", 4, keep_duplicates=True) == ("abcd", "abcd")


def test_fewer_groups_than_k_give_fewer_results() -> None:
    assert led(dict.fromkeys("abc", "G"), "abc", 3) == ("a", "abc")
    assert led({}, "", 3) == ("", "")


def test_a_list_in_blocks_is_read_as_one() -> None:
    assert led(dict.fromkeys("ad", "G"), "ab|cd|ef", 4) == ("abce", "abcde")


def test_no_further_block_is_asked_for_than_it_takes() -> None:
    def blocks() -> Iterator[list[Ranked]]:
        yield [Ranked("a", 0.5, 0.5, 1)]
        raise AssertionError("asked for though there was enough")

    assert len(leading(cast("Collection", Payloads({})), blocks(), 1)) == 1


def test_the_image_that_was_searched_by_and_its_near_duplicates_are_left_out() -> None:
    groups = dict.fromkeys("ac", "G")
    assert led(groups, "abcde", 3, like="a")[0] == "bde"
    assert led(groups, "abcde", 3, like="a", keep_duplicates=True)[0] == "bcd"


@given(st.lists(st.sampled_from("GHI") | st.none(), max_size=12), st.integers(1, 12))
def test_the_results_are_the_first_k_images_of_distinct_groups(groups: list[str | None], k: int) -> None:
    ids = "abcdefghijkl"[: len(groups)]
    by_id = dict(zip(ids, groups, strict=True))
    firsts = [i for n, i in enumerate(ids) if groups[n] is None or groups[n] not in groups[:n]]
    assert led({i: g for i, g in by_id.items() if g}, ids, k)[0] == "".join(firsts[:k])


def test_an_image_that_is_alone_has_no_similar_ones() -> None:
    assert similar_images({}) == (None, 0)
    assert similar_images({"duplicates": None}) == (None, 0)
    assert similar_images({"duplicates": {"group": "G", "others": 3}}) == ("G", 3)
