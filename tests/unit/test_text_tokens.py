"""OCR text: words, tokens, and how much of a query it covers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.text_tokens import coverage, query_words, tokens, tokens_of_word, words

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OPEN late!", ["open", "late"]),
        ("Straße, Gemüse & Łódź", ["strasse", "gemuse", "lodz"]),
        ("Miller’s MILLER'S", ["millers", "millers"]),  # noqa: RUF001 - a typographic apostrophe
        ("ＦＵＬＬ width", ["full", "width"]),  # noqa: RUF001 - full-width letters
        ("市立図書館 LIBRARY", ["市立図書館", "library"]),
        ("çıkış ÇIKIŞ", ["cikis", "cikis"]),  # noqa: RUF001 - Turkish
        ("한국어", ["한국어"]),
        ("... --- !", []),
    ],
)
def test_words_are_normalized_for_case_diacritics_and_width(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_tokens_are_words_and_their_trigrams() -> None:
    assert tokens("Open 24") == ["open", "ope", "pen", "24"]
    assert tokens("図書館") == ["図", "書", "館", "図書", "書館"]


@given(texts)
def test_text_contains_tokens_of_its_words_and_prefixes(text: str) -> None:
    text_tokens = set(tokens(text))
    for word in words(text):
        assert text_tokens.issuperset(tokens_of_word(word))
        assert text_tokens.issuperset(tokens_of_word(word[: max(3, len(word) // 2)], part=True)) or len(word) > 40


@given(texts)
def test_text_fully_covers_itself(text: str) -> None:
    if query := query_words(text):
        assert coverage(query, text) == 1
        assert coverage(query, "") == 0


@given(st.lists(st.from_regex(r"[a-z]{3,8}", fullmatch=True), min_size=1, max_size=6), texts)
def test_coverage_is_between_zero_and_one_and_monotonic(query: list[str], text: str) -> None:
    before, after = coverage(query, text), coverage(query, f"{text} {query[0]}")
    assert 0 <= before <= after <= 1


def test_whole_words_count_more_than_partial_matches() -> None:
    assert coverage(["open", "late"], "OPEN until LATE") == 1
    assert coverage(["pharm"], "PHARMACY") == pytest.approx(0.7)
    assert coverage(["open", "late"], "open") == 0.5
    assert coverage(["図書"], "市立図書館") == 1


@pytest.mark.parametrize(
    ("query", "expected"),
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
def test_query_words_extracts_visible_text(query: str, expected: list[str]) -> None:
    assert query_words(query) == expected
