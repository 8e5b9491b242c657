"""Queries of several terms: parsing from words and JSON, and combining their scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sceneseek.api import read_fields, read_json, to_fields
from sceneseek.errors import InvalidRequest
from sceneseek.queries import Query, QueryArguments
from sceneseek.request import DEFAULT_TEXT_WEIGHT
from sceneseek.reranker import UNRELATED, combined
from sceneseek.terms import Part, Term, term_from_words, terms_of
from sceneseek.vectors import in_base64, unit_vector

ID = "6c1c9a3e-0d53-4e0b-9a51-0c5f2f6a1b77"
PICTURE = Path("sunset.jpg")


@pytest.mark.parametrize(
    ("words", "term"),
    [
        ("sunset", Term(text="sunset")),
        (" sunset:0.5 ", Term(text="sunset", weight=0.5)),
        ("at 10:30", Term(text="at 10:30")),
        ("ratio 2:1", Term(text="ratio 2")),
        ("ratio 2:1:1", Term(text="ratio 2:1")),
        (ID, Term(image=ID)),
        (f"{ID}:.25", Term(image=ID, weight=0.25)),
        ("file:1:0.5", Term(file=1, weight=0.5)),
        ("file:1", Term(file=1)),
        ("file:0", Term(file=0)),
        ("file:9", Term(text="file:9")),
    ],
)
def test_term_is_parsed_from_words(words: str, term: Term) -> None:
    assert term_from_words(words) == term
    assert term_from_words(words, -1) == Term(term.text, term.image, term.file, term.vector, -term.weight)


@given(text=st.text(min_size=1), weight=st.sampled_from([1.0, 0.5, 0.25, -1.0, -0.75]))
def test_text_term_round_trips_through_words(text: str, weight: float) -> None:
    try:
        term = Term(text=text, weight=weight)
    except InvalidRequest:
        return
    assume(term.text is not None and term.text[0] not in "-{" and ":" not in term.text)
    query = read_json(Query, json.dumps({"q": "x", "terms": [term.in_words()]}).encode())
    assert query.terms == [term]


def test_query_string_form_and_json_parse_to_same_terms() -> None:
    terms = ["sunset:0.5", "-people", json.dumps({"text": "-5 degrees", "weight": -0.5})]
    expected = [Term(text="sunset", weight=0.5), Term(text="people", weight=-1), Term(text="-5 degrees", weight=-0.5)]
    assert read_fields(QueryArguments, {"q": "a beach", "terms": terms}).terms == expected
    query = read_json(
        Query, json.dumps({"q": "a beach", "terms": [{"text": "sunset", "weight": 0.5}, *terms[1:]]}).encode()
    )
    assert query.terms == expected
    assert query.words == "a beach, sunset:0.5, -people, --5 degrees:0.5"
    written = [json.dumps(term) for term in to_fields(query)["terms"]]
    assert read_fields(QueryArguments, {"terms": written}).terms == expected


@pytest.mark.parametrize(
    ("term", "detail"),
    [
        ({}, "but has none"),
        ({"text": "a", "image": ID}, "but has 2"),
        ({"text": "a", "weight": 0}, "weight of a term is 0"),
        ({"text": "a", "weight": 2}, "terms[0].weight is 2"),
        ({"text": 5}, "terms[0].text is 5, which is not text"),
        ({"texts": "a"}, "the field 'terms[0].texts' is unknown"),
        ({"vector": []}, "terms[0].vector has 0 entries"),
        (5, "terms[0] is 5, which is not a term"),
        ("-", "the query is empty"),
        ("{", "is not valid JSON"),
        ('{"text": 5}', "terms[0].text is 5"),
    ],
)
def test_invalid_term_is_rejected_with_detail(term: Any, detail: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_json(Query, json.dumps({"q": "a beach", "terms": [term]}).encode())
    assert detail in caught.value.what
    assert caught.value.hint


def test_positive_and_negative_inputs_become_terms_and_pictures() -> None:
    pictures: list[Path | bytes] = [b"first"]
    terms = terms_of(["sunset", (PICTURE, 0.5)], [ID, (b"picture", 0.25)], pictures)
    assert pictures == [b"first", PICTURE, b"picture"]
    assert terms == [
        Term(text="sunset"),
        Term(file=1, weight=0.5),
        Term(image=ID, weight=-1.0),
        Term(file=2, weight=-0.25),
    ]
    assert Query(text="a beach", terms=terms).parts(3) == (
        Part(DEFAULT_TEXT_WEIGHT, text="a beach"),
        Part(1 - DEFAULT_TEXT_WEIGHT, image=0),
        Part(1.0, text="sunset"),
        Part(0.5, image=1),
        Part(-1.0, image=ID),
        Part(-0.25, image=2),
    )


@pytest.mark.parametrize(
    ("query", "pictures", "detail"),
    [
        (Query(), 0, "the field q is missing"),
        (Query(terms=[Term(text="people", weight=-1)]), 0, "all weights are negative"),
        (Query(terms=[Term(file=1)]), 1, "names picture 1, which was not sent"),
        (Query(terms=[Term(file=0)]), 0, "names picture 0, which was not sent"),
        (Query(image=ID), 1, "two images"),
        (Query(text="x"), 2, "two images"),
        (Query(image=ID, vector=[1.0]), 0, "two images"),
    ],
)
def test_inconsistent_query_parts_are_rejected(query: Query, pictures: int, detail: str) -> None:
    with pytest.raises(InvalidRequest, match=detail):
        query.parts(pictures)


def test_results_are_ordered_by_similarity_if_query_is_not_only_text() -> None:
    assert not Query(text="a", terms=[Term(text="b", weight=-1)]).by_similarity()
    assert Query(text="a").by_similarity(pictures=1)
    assert Query(text="a", terms=[Term(image=ID)]).by_similarity()
    assert Query(vector="AACAPw==").by_similarity()


SCORES = st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3).map(lambda values: np.array(values, np.float32))


@given(first=SCORES, second=SCORES, third=SCORES)
def test_combined_score_is_bounded_and_monotonic(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    assert combined([(0.3, first)]) is first
    score = combined([(1.0, first), (0.5, second), (-1.0, third)])
    assert score.dtype == np.float32
    assert ((score >= 0) & (score <= np.maximum(first, second) + 1e-5)).all()
    assert (score <= combined([(1.0, first), (0.5, second)]) + 1e-6).all()


def test_combined_score_requires_every_text_and_penalises_related_negatives() -> None:
    score = np.array([0.81, 0.09], np.float32)
    assert combined([(1.0, score), (1.0, score[::-1])]) == pytest.approx([0.27, 0.27], rel=1e-5)
    # If a picture has all the weight, texts have equal weights.
    assert combined([(0.0, score)]) == pytest.approx(score)
    minus = np.array([UNRELATED / 2, 4 * UNRELATED], np.float32)
    assert combined([(1.0, score), (-1.0, minus)]) == pytest.approx([0.81, 0.045], rel=1e-5)
    assert combined([(1.0, score), (-0.5, minus)]) == pytest.approx([0.81, 0.09 / 2**0.5], rel=1e-5)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4).filter(lambda v: np.linalg.norm(v) > 1e-3))
def test_vector_is_accepted_as_numbers_or_base64(values: list[float]) -> None:
    vector = unit_vector(values, 4)
    assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-5)
    assert unit_vector(in_base64(np.array(values, np.float32)), 4) == pytest.approx(vector)


@pytest.mark.parametrize(
    ("vector", "detail"),
    [
        ([1.0, 2.0], "has 2 numbers, but those of the index have 3"),
        ([0.0, 0.0, 0.0], "no direction"),
        ([1e308, 1e308, 1e308], "no direction"),
        ("no base64!", "not base64"),
        ("AACA", "not base64 of float32"),
        (in_base64(np.array([np.nan, 1, 1], np.float32)), "no direction"),
    ],
)
def test_invalid_vector_is_rejected(vector: Any, detail: str) -> None:
    with pytest.raises(InvalidRequest, match=detail):
        unit_vector(vector, 3)
