"""The preparation of texts for the tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.encoders import with_article


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog", "a dog"),
        ("Apple", "an Apple"),
        ("  red   car ", "a red car"),
        ("dogs", "a dogs"),
        ("dog, beach, sunset", "a dog, beach, sunset"),
        ("old red car", "an old red car"),
        ("running", "a running"),
        ('"umbrella"', 'an "umbrella"'),
    ],
)
def test_short_text_gets_an_article(text: str, expected: str) -> None:
    assert with_article(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a dog", "An apple", "the sea", "two dogs", "Three old boats", "my cat", "some people", "no people",
        "not a dog", "without people", "in the snow", "On a beach", "there are dogs", "who is it", "5 dogs", "1984",
        "ein roter Apfel", "Une pomme",
        "кошка", "犬", "été", "🐶", "a very red old car", "very old red car", "dogs play in snow",
    ],
)  # fmt: skip
def test_other_texts_stay_unchanged(text: str) -> None:
    assert with_article(text) == text


@given(st.text())
def test_with_article_is_idempotent(text: str) -> None:
    assert with_article(with_article(text)) == with_article(text)
