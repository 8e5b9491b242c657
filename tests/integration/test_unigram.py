"""The Unigram tokenizer compared with the SentencePiece library."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]  # generated on import

from sceneseek.unigram import Unigram

SPECIAL = {"begin": 0, "pad": 1, "end": 2, "unknown": 3}
NAMES = ["<s>", "<pad>", "</s>", "<unk>"]

# Few letters and scores, so that many segmentations are equally probable.
texts = st.text("ab<s>/é犬🐕 ", max_size=24)
vocabularies = st.dictionaries(
    st.text("ab<s>/é犬\u2581", min_size=1, max_size=5).filter(lambda piece: piece not in NAMES),
    st.sampled_from([-1.0, -2.0, -2.7, -4.0, -8.1]),
    min_size=1,
    max_size=30,
)


def library(pieces: list[tuple[str, float]]) -> SentencePieceProcessor:
    model = ModelProto()
    for number, (piece, score) in enumerate(pieces):
        model.pieces.add(piece=piece, score=score, type={3: 2, 0: 3, 1: 3, 2: 3}.get(number, 1))
    model.trainer_spec.model_type = 1
    for short, name in (("bos", "begin"), ("pad", "pad"), ("eos", "end"), ("unk", "unknown")):
        setattr(model.trainer_spec, f"{short}_id", SPECIAL[name])
        setattr(model.trainer_spec, f"{short}_piece", NAMES[SPECIAL[name]])
    model.normalizer_spec.name = "identity"
    return SentencePieceProcessor(model_proto=model.SerializeToString())


@given(vocabulary=vocabularies, text=texts)
@example(vocabulary={"a": -1.0, "aa": -2.0, "aaa": -3.0}, text="aaaaaaa")
@example(vocabulary={"\u2581": -1.0}, text="  犬犬 a  🐕 ")
@example(vocabulary={"a": -1.0}, text="")
def test_token_ids_equal_those_of_sentencepiece(vocabulary: dict[str, float], text: str) -> None:
    pieces = [*((name, 0.0) for name in NAMES), *vocabulary.items()]
    assert Unigram.of_pieces(pieces, SPECIAL).encode(text) == library(pieces).encode(text)


def test_vocabulary_file_is_reproducible_and_round_trips(tmp_path: Path) -> None:
    pieces = [*((name, 0.0) for name in NAMES), ("\u2581a", -3.0), ("dog", -4.0), ("\u2581", -5.0)]
    vocabulary = Unigram.of_pieces(pieces, SPECIAL)
    file = tmp_path / "vocabulary.npz"
    file.write_bytes(vocabulary.content())
    read = Unigram.read(file)
    assert read.content() == vocabulary.content()
    assert read.encode("a dog") == vocabulary.encode("a dog") == [4, 6, 5]
    assert (read.begin, read.end, read.unknown) == (0, 2, 3)


def test_duplicate_piece_is_rejected() -> None:
    with pytest.raises(ValueError, match="two pieces are alike"):
        Unigram.of_pieces([*((name, 0.0) for name in NAMES), ("a", -3.0), ("a", -4.0)], SPECIAL)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("dog", "dog"),
        ("Dog", "dog"),
        ("DOG", "dog"),
        ("Hund", "Hund"),
        ("HUND", "Hund"),
        ("hund", "Hund"),
        ("Paris", "Paris"),
        ("Cat", "Cat"),  # nearly as probable as in lower case
        ("the  DOG 犬 ", "the dog 犬"),
        ("", ""),
    ],
)
def test_likeliest_case_selects_the_most_probable_form(typed: str, read: str) -> None:
    words = [("dog", -4.0), ("Hund", -4.0), ("Paris", -5.0), ("paris", -9.0), ("cat", -4.0), ("Cat", -5.5)]
    pieces = [*((name, 0.0) for name in NAMES), *((f"\u2581{word}", score) for word, score in words)]
    letters = [(letter, -9.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz"]
    assert Unigram.of_pieces([*pieces, *letters], SPECIAL).likeliest_case(typed) == read


@given(vocabulary=vocabularies, text=texts)
def test_likeliest_case_changes_only_case_and_whitespace(vocabulary: dict[str, float], text: str) -> None:
    pieces = [*((name, 0.0) for name in NAMES), *vocabulary.items()]
    read = Unigram.of_pieces(pieces, SPECIAL).likeliest_case(text)
    assert read.lower() == " ".join(text.split()).lower()
