"""Text that was read in pictures: its words and tokens, and how much of a query it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.text_tokens import coverage, query_words, tokens, tokens_of_word, words

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("OPEN late!", ["open", "late"]),
        ("Straße, Gemüse & Łódź", ["strasse", "gemuse", "lodz"]),
        ("Miller’s MILLER'S", ["millers", "millers"]),  # noqa: RUF001 - as a sign has it
        ("ＦＵＬＬ width", ["full", "width"]),  # noqa: RUF001 - the letters of East Asian signs
        ("市立図書館 LIBRARY", ["市立図書館", "library"]),
        ("çıkış ÇIKIŞ", ["cikis", "cikis"]),  # noqa: RUF001 - Turkish
        ("한국어", ["한국어"]),
        ("... --- !", []),
    ],
)
def test_words_compare_without_case_diacritics_and_width(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_the_tokens_are_whole_words_and_their_trigrams() -> None:
    assert tokens("Open 24") == ["open", "ope", "pen", "24"]
    assert tokens("図書館") == ["図", "書", "館", "図書", "書館"]


@given(texts)
def test_a_text_has_the_tokens_of_each_of_its_words_whole_and_in_part(text: str) -> None:
    there = set(tokens(text))
    for word in words(text):
        assert there.issuperset(tokens_of_word(word))
        assert there.issuperset(tokens_of_word(word[: max(3, len(word) // 2)], part=True)) or len(word) > 40


@given(texts)
def test_a_text_holds_all_of_itself(text: str) -> None:
    if wanted := query_words(text):
        assert coverage(wanted, text) == 1
        assert coverage(wanted, "") == 0


@given(st.lists(st.from_regex(r"[a-z]{3,8}", fullmatch=True), min_size=1, max_size=6), texts)
def test_coverage_is_a_share_and_grows_with_the_text(wanted: list[str], text: str) -> None:
    some, more = coverage(wanted, text), coverage(wanted, f"{text} {wanted[0]}")
    assert 0 <= some <= more <= 1


def test_whole_words_count_more_than_parts() -> None:
    assert coverage(["open", "late"], "OPEN until LATE") == 1
    assert coverage(["pharm"], "PHARMACY") == pytest.approx(0.7)
    assert coverage(["open", "late"], "open") == 0.5
    assert coverage(["図書"], "市立図書館") == 1


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("a sign that says Pharmacy", ["pharmacy"]),
        ('a shop with "to let" above its door', ["to", "let"]),
        ("bus 42", ["bus", "42"]),
        ("a sign", ["sign"]),
        ("вывеска со словом Аптека", ["вывеска", "аптека"]),  # noqa: RUF001 - Russian
        ("to be or", []),
        ("図", ["図"]),
    ],
)
def test_a_query_asks_for_the_words_that_a_picture_may_show(query: str, wanted: list[str]) -> None:
    assert query_words(query) == wanted
