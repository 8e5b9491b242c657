"""Queries that cannot find what they mean get a hint, and others get none."""

# ruff: noqa: RUF001 - Cyrillic letters resemble Latin ones

from __future__ import annotations

import pytest

from sceneseek.filters.conditions import FieldPath
from sceneseek.filters.words import filter_from_words
from sceneseek.hints import filter_hints, negation_hint
from sceneseek.store import CollectionInfo

INFO = CollectionInfo(
    "name",
    "fingerprint",
    4,
    0,
    (),
    "2026-01-01",
    indexed={
        "format": "keyword",
        "year": "integer",
        "taken": "datetime",
        "tags": "keyword",
        "location": "geo",
        "ok": "bool",
        '"f.number"': "float",
    },
)


@pytest.mark.parametrize(
    "text",
    [
        "not a dog",
        "a dog, not a cat",
        "NOT a dog",
        "a dog that is not on grass",
        "a beach without people",
        "without people",
        "no people",
        "a street with no cars",
        "no dogs on the beach",
        "anything but a dog",
        "everything but cats",
        "all but one of the chairs are red",
        "everything except cats",
        "animals excluding dogs",
        "a room lacking furniture",
        "nobody on the beach",
        "a road with no one on it",
        "no-one in the park",
        "animals other than dogs",
        "tea instead of coffee",
        "cats rather than dogs",
        "a man who isn't smiling",
        "a dog that doesn\u2019t run",
        "a man who never smiles",
        "animals -dog",
        "-dog",
        "animals !dog",
        "собака без поводка",
        "пляж без людей",
        "Без людей",
        "не собака",
        "девушка, которая не улыбается",
        "все животные, кроме собак",
        "чай вместо кофе",
        "животные, за исключением кошек",
        "никого на пляже",
        "в комнате никого нет",
        "dog без поводка",
    ],
)
def test_negation_gets_a_hint(text: str) -> None:
    hint = negation_hint(text)
    assert hint is not None
    assert hint.kind == "negation"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a dog",
        "a knot in a rope",
        "a notebook and notes",
        "a nothing",
        "nothing but blue sky",
        "forget-me-not flowers",
        "a touch-me-not",
        "not only cats but dogs",
        "whether or not",
        "a no smoking sign",
        "no parking",
        "no trespassing",
        "no man's land",
        "no. 5",
        "No 10 Downing Street",
        "do not enter sign",
        "a sign that says do not enter",
        'a wall with "do not disturb" on it',
        "a “no dogs” poster",
        "an exceptional view",
        "without doubt a dog",
        "without a doubt a dog",
        "noon in the city",
        "a piano",
        "Neverland",
        "a t-shirt",
        "sea - sunset",
        "-5 degrees",
        "wow! great",
        "snow",
        "a car-free street",
        "an other dog",
        "другая собака",
        "небо над морем",
        "безлюдный пляж",
        "без сомнения собака",
        "не только кошки, но и собаки",
        "неделя в горах",
        "нетбук на столе",
        "кромешная тьма",
        "знак «не входить»",
        "надпись не входить на двери",
        "¿qué no?",
    ],
)
def test_other_texts_get_no_hint(text: str) -> None:
    assert negation_hint(text) is None


def test_filter_hints_check_at_most_eight_fields() -> None:
    checked: list[FieldPath] = []

    def is_empty(field: FieldPath) -> bool:
        checked.append(field)
        return True

    condition = filter_from_words([f"f{number}=x" for number in range(200)])
    assert condition is not None
    assert len(list(filter_hints(condition, INFO, is_empty))) == len(checked) == 8


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["yaer>=1990"], ["no image has the field yaer: did you mean year?"]),
        (["Year>=1990"], ["no image has the field Year: did you mean year?"]),
        (["fnumber>2"], ['no image has the field fnumber: did you mean "f.number"?']),
        (["formt=jpg"], ["no image has the field formt: did you mean format?"]),
        (["zzz=1"], ["no image has the field zzz: there are format, year, taken, tags, location, ok, \"f.number\""]),
        (["camera.make=Canon"], ["no image has the field camera.make: there are format, year"]),
        (["yaer=1", "tgas=x"], ["did you mean year?", "did you mean tags?"]),
        (['{"not": {"field": "yaer", "equals": 1}}'], ["did you mean year?"]),
        (["year=1990"], []),
        (['year="1990"'], ["the field year holds numbers"]),
        (["year=old"], ["the field year holds numbers"]),
        (["taken=yesterday"], ["the field taken holds dates, such as 2024-05-31"]),
        (["taken=2024"], []),
        (["tags>5"], ["the field tags holds text"]),
        (["ok=yes"], ["the field ok holds true or false"]),
        (["ok=true"], []),
        (["location=Berlin"], ["the field location holds places"]),
        (["location@52,13,1km"], []),
        (["path^=animals"], []),
        (["width>=100", "path=x"], []),
    ],
)  # fmt: skip
def test_filter_that_matches_nothing_gets_a_hint(words: list[str], expected: list[str]) -> None:
    known_fields = {("metadata", *name.strip('"').split(" ")) for name in INFO.indexed} | {
        ("width",),
        ("path",),
        ("format",),
    }
    condition = filter_from_words(words)
    assert condition is not None
    hints = list(filter_hints(condition, INFO, lambda path: path not in known_fields))
    assert len(hints) == len(expected)
    assert all(part in hint.text for part, hint in zip(expected, hints, strict=True))
