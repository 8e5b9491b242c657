"""Near-duplicates are collapsed to the best image of each group, reading payloads in few calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from sceneseek.payload import similar_images
from sceneseek.reranker import Ranked, top_results
from sceneseek.store import Collection, Record


class Payloads:
    """Payloads by id, with a record of the reads."""

    def __init__(self, groups: dict[str, str]) -> None:
        self.groups = groups
        self.read: list[str] = []

    def retrieve(self, ids: Sequence[str], deadline: float | None = None) -> list[Record]:  # noqa: ARG002
        self.read.append("".join(ids))
        return [
            Record(i, {"duplicates": {"group": self.groups[i], "others": 2}} if i in self.groups else {}) for i in ids
        ]


def collapse(groups: dict[str, str], ids: str, k: int, **how: Any) -> tuple[str, str]:
    """Return the ids of the results, and the ids that each call read."""
    payloads = Payloads(groups)
    blocks = [[Ranked(i, 0.5, 0.5, 1) for i in block] for block in ids.split("|")]
    chosen = top_results(cast("Collection", payloads), iter(blocks), k, **how)
    assert all(ranked.id == record.id for ranked, record in chosen)
    return "".join(record.id for _, record in chosen), "|".join(payloads.read)


def test_one_call_reads_k_and_spare_payloads_without_duplicates() -> None:
    assert collapse({}, "abcdefghijklmnop", 3) == ("abc", "abcdef")
    assert collapse({}, "abcdefghijklmnop", 7) == ("abcdefg", "abcdefghijkl")
    assert collapse({}, "abcdefghijklmnop", 7, keep_duplicates=True) == ("abcdefg", "abcdefg")


def test_duplicates_within_spare_payloads_need_no_further_call() -> None:
    assert collapse(dict.fromkeys("bcdef", "G"), "abcdefghij", 5) == ("abghi", "abcdefghij")


def test_large_duplicate_group_is_read_in_few_calls() -> None:
    ids = "".join(chr(0x100 + number) for number in range(100))
    results, read = collapse(dict.fromkeys(ids[:98], "G"), ids, 3)
    assert results == ids[0] + ids[98:]
    assert [len(call) for call in read.split("|")] == [6, 24, 70]


def test_best_of_each_group_is_kept_and_list_is_filled_to_k() -> None:
    assert collapse(dict.fromkeys("acd", "G") | dict.fromkeys("be", "H"), "abcdefg", 4) == ("abfg", "abcdefg")


def test_keep_duplicates_returns_every_copy() -> None:
    assert collapse(dict.fromkeys("acd", "G"), "abcdefg", 4, keep_duplicates=True) == ("abcd", "abcd")


def test_fewer_groups_than_k_return_fewer_results() -> None:
    assert collapse(dict.fromkeys("abc", "G"), "abc", 3) == ("a", "abc")
    assert collapse({}, "", 3) == ("", "")


def test_results_are_collapsed_across_blocks() -> None:
    assert collapse(dict.fromkeys("ad", "G"), "ab|cd|ef", 4) == ("abce", "ab|cd|ef")


def test_blocks_are_consumed_only_as_needed() -> None:
    def blocks() -> Iterator[list[Ranked]]:
        yield [Ranked("a", 0.5, 0.5, 1)]
        raise AssertionError("an unneeded block was read")

    assert len(top_results(cast("Collection", Payloads({})), blocks(), 1)) == 1


def test_query_image_and_its_near_duplicates_are_excluded() -> None:
    groups = dict.fromkeys("ac", "G")
    assert collapse(groups, "abcde", 3, like="a")[0] == "bde"
    assert collapse(groups, "abcde", 3, like="a", keep_duplicates=True)[0] == "bcd"


@given(st.lists(st.sampled_from("GHI") | st.none(), max_size=12), st.integers(1, 12))
def test_results_are_first_k_images_of_distinct_groups(groups: list[str | None], k: int) -> None:
    ids = "abcdefghijkl"[: len(groups)]
    by_id = dict(zip(ids, groups, strict=True))
    firsts = [i for n, i in enumerate(ids) if groups[n] is None or groups[n] not in groups[:n]]
    assert collapse({i: g for i, g in by_id.items() if g}, ids, k)[0] == "".join(firsts[:k])


def test_similar_images_reads_group_and_count() -> None:
    assert similar_images({}) == (None, 0)
    assert similar_images({"duplicates": None}) == (None, 0)
    assert similar_images({"duplicates": {"group": "G", "others": 3}}) == ("G", 3)
